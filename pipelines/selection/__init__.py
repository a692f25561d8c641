"""Workflows that choose and check: learning curves and audits of stores, and which layer to use."""

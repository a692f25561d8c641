"""Workflows that choose and check: learning curves and audits of stores."""

"""Workflows that choose: learning curves of stores."""

"""Bundles: saved pipelines with their lineage."""

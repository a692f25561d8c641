"""Whole workflows: classifiers on raw items, bundles, fused export, the demo, the command line."""

"""Bundles: a fitted pipeline as a folder of files, with its lineage; estimators are built from it elsewhere."""

"""``Extractor``: the scikit-learn transformer."""

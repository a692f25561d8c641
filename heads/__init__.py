"""Estimators on feature matrices: (X, y) in, predictions out."""

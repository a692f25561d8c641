"""``TransferClassifier`` and ``TransferRegressor``: raw items in, predictions out."""

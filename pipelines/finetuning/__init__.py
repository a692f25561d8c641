"""Training of the layers above a cut, from cached maps."""

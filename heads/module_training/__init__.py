"""Training of a PyTorch module on cached maps: batches, learning rates of layers, the loop, and its state."""

"""``topwork:tiny``, the backbone that is part of the package."""

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)
"""Mean and standard deviation of the training images per channel, for pixels from 0 to 1."""

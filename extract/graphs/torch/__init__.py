"""Backbones that are PyTorch modules: traced by torch.export, written by its ONNX exporters."""

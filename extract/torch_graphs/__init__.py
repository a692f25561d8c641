"""Cutting a backbone that is a PyTorch module: traced by torch.export, written by its ONNX exporters."""

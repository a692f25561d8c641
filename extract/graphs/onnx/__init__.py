"""Backbones that are ONNX graphs; nothing here needs torch."""

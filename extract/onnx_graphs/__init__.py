"""Cutting a backbone that is an ONNX graph; nothing here needs torch."""

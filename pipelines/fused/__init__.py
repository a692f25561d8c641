"""Backbone and head as one ONNX file, checked against the pipeline."""

"""Cut a backbone, export it as an ONNX graph, and certify the graph."""

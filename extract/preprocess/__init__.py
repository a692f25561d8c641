"""From the content of an item to an array; neither torch nor onnx is needed."""

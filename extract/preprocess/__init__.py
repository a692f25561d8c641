"""From the content of an item to what a graph eats; neither torch nor onnx is needed."""

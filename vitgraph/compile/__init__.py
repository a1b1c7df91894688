"""From a request to a folder with engine, ONNX and report."""

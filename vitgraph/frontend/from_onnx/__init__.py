"""ONNX files as programs: the inverse of the lowering, for files that others wrote too."""

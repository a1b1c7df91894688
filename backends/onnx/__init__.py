"""A program as an ONNX file, and what stands in one."""

"""TensorRT engines: built, read back, and checked against their plan."""

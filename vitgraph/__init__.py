"""vitgraph: Vision Transformers to TensorRT engines, every step proven."""

"""torch.compile in FP16 with CUDA graphs: what compiled programs are measured against."""

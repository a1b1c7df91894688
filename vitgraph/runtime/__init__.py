"""What long work runs on: memory, stored activations, checkpoints; and what a backend is."""

"""Which type each part of a model is computed in."""

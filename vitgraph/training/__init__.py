"""Training a program again: distillation, images held out, one process or several."""

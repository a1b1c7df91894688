"""Layer-wise N:M search: choices, what they cost, the supernet that they share, and the evolution that picks one."""

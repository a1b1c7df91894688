"""Kernels in Triton. Each module has kernels and the function that launches them; importing one imports Triton.

With `TRITON_INTERPRET=1` in the environment before Triton is imported they run on tensors of the CPU.
"""

"""Kernels of NVIDIA GPUs: INT8 products, normalizations, activations and attention, and what each of them has to compute.

Importing this package or `reference` needs no Triton; the modules in `kernels` import it.
"""

"""Kernels of NVIDIA GPUs: INT8 products, normalizations, activations and attention, and what each of them has to compute; and
what runs a program by them: `lowering` makes a plan of it, `twin` runs the plan on the CPU by the references, `device` by the kernels.

Importing this package or `reference` needs no Triton; the modules in `kernels` import it.
"""

"""A plan on the CPU, each step by its reference: what the kernels have to give, and the proof of a lowering without a GPU."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vitgraph.backends.cuda import reference
from vitgraph.backends.cuda.executing import Executor
from vitgraph.backends.cuda.plan import PADDING, Plan


class Twin(Executor):
    """The plan by the references, on the CPU: what the kernels have to give. Slow: products are FP64.

    Padded rows are not zero but poison, so that what reads them is found out.
    """

    poisoned = True

    def __init__(self, plan: Plan, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(plan, tensors)
        self.kernels = {
            "linear": reference.linear,
            "sparse linear": sparse_linear,
            "normalize": reference.normalize,
            "activate": reference.activate,
            "attention": reference.attention,
        }


def sparse_linear(x: Tensor, w: Tensor, scale: Tensor) -> Tensor:
    """FP16(FP32(Σₖ x[m, k] w[n, k]) · scale[n]), as cuSPARSELt's product with a vector for alpha; M, N and K multiples of 32.

    `x` INT8 `[M, K]`, `w` INT8 `[N, K]`, 2:4 along K, `scale` FP32 `[N]`; gives FP16 `[M, N]`.
    """
    if x.shape[0] % PADDING or any(size % PADDING for size in w.shape):
        raise ValueError(
            f"x {list(x.shape)}, w {list(w.shape)}: rows and columns of a sparse product are multiples of {PADDING}"
        )
    return reference.linear(x, w, scale)

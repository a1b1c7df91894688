"""What a module gives in eager torch, and how far from it a result may be: as far as rounding was seen to move it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tests.fuzz.evaluation import ROUNDING, Noise, spread_of, steady
from vitgraph.pass_manager.numerics import flatten_outputs

ALLOWED = 12
"""How many times what rounding was seen to do a result may be off: other orders of a sum, other kernels."""
ROUNDED_AT_ONE = 1e-6
"""How far a runtime may be off whatever the size of the values: an exponential less one, a logarithm of one more, or one plus a tangent
that a value of up to ten is multiplied by (the tail of GELU), rounds near 1."""
SUBNORMAL = 1.2e-38
"""Under which FP32 has no normal number: kernels may flush such ones to zero."""
LOOSER = 3
"""How many times as much noise as in the generator a result may carry: another seed of the noise, another batch."""


@dataclass(frozen=True)
class Expected:
    """Eager's results on one input, without and with noise; `rounding` is that of the coarsest type on the way."""

    x: Tensor
    exact: list[Tensor]
    noisy: list[Tensor]
    rounding: float

    @classmethod
    def of(cls, make: Callable[[], nn.Module], x: Tensor) -> Expected | None:
        """None where the module is ill-posed on this input."""
        noise, module = Noise(1), make().eval()
        with torch.no_grad():
            exact = flatten_outputs(module(x.clone()))
            disturbed = noise.disturb(x.clone())
            with noise:
                noisy = flatten_outputs(module(disturbed))
        rounding = max(ROUNDING[torch.float32], noise.coarsest)
        posed = not noise.unordered and all(steady(a, b, LOOSER * rounding) for a, b in zip(exact, noisy, strict=True))
        return cls(x, exact, noisy, rounding) if posed else None

    def first(self, count: int) -> Expected:
        """The first so many results alone."""
        return replace(self, exact=self.exact[:count], noisy=self.noisy[:count])

    @property
    def is_finite(self) -> bool:
        """Is there neither infinity nor NaN in the results?"""
        return all(bool(t.isfinite().all()) for t in self.exact)

    @property
    def is_of_runtimes(self) -> bool:
        """Has a runtime kernels for this? NumPy has no bfloat16, and few kernels of ONNX Runtime take float64."""
        return {torch.bfloat16, torch.float64}.isdisjoint(t.dtype for t in (self.x, *self.exact))

    def difference(self, found: list[Tensor], least: float = 0.0) -> str | None:
        """How results differ from eager's by more than rounding explains, in one clause; `least` is always allowed."""
        if len(found) != len(self.exact):
            return f"gives {len(found)} results of {len(self.exact)}"
        for position, (a, noisy, b) in enumerate(zip(self.exact, self.noisy, found, strict=True)):
            if why := self._apart(a, noisy, b, least):
                return f"output {position} of batch {len(self.x)} {why}"
        return None

    def _apart(self, a: Tensor, noisy: Tensor, b: Tensor, least: float) -> str | None:
        if a.shape != b.shape or a.dtype != b.dtype:
            return f"is {b.dtype} {list(b.shape)} for {a.dtype} {list(a.shape)}"
        if not a.dtype.is_floating_point:
            return None if torch.equal(a, b) else f"differs in {int((a != b).sum())} of {a.numel()} elements"
        finite = a.isfinite()
        if not torch.equal(finite, b.isfinite()) or not torch.equal(a[~finite].nan_to_num(), b[~finite].nan_to_num()):
            return "has infinities or NaN elsewhere"
        return self._off(a[finite].double(), noisy[finite].double(), b[finite].double(), least)

    def _off(self, a: Tensor, noisy: Tensor, b: Tensor, least: float) -> str | None:
        if a.numel() == 0:
            return None
        allowed = max(least, SUBNORMAL) + ALLOWED * ((a - noisy).abs().max() + self.rounding * spread_of(a))
        off = (a - b).abs()
        return (
            None
            if bool((off <= allowed).all())
            else f"is off by {float(off.max()):.2g} (of {float(a.abs().max()):.2g})"
        )

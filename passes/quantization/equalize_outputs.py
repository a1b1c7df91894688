"""Give the output channels of proj and fc2 one range, so that a quantizer on the residual branch needs one scale only.

Before:
    y = aten.linear.default(x, w, b)                          # proj, fc2 or merge; some channels are far larger
    stream = aten.add.Tensor(y, skip)

After:
    even = aten.linear.default(x, w_evened, b_evened)         # w / f, b / f: f > 0, one factor an output channel
    y = aten.mul.Tensor(even, fc2_spread)                     # times f
    stream = aten.add.Tensor(y, skip)

with f = max|y| of the channel over max|y| of all. Sparse INT8 kernels of Ampere output INT8, with one scale for the
tensor, and the residual stream of a vision transformer has channels whose ranges differ a hundredfold. Weights have a
scale for each output channel, so that dividing a row by f leaves its INT8 numbers as they were; the product with f goes
into the kernel that adds the branch to the stream. On a real ViT-Tiny, INT8 outputs cost 25 points of agreement without
this pass and about one with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, fx

from vitgraph.analysis.roles import BRANCH_ENDS
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import find_sites
from vitgraph.domains import Selectors
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.passes import affine
from vitgraph.quantizing.calibration import observe_channels

_SMALLEST = 1e-5
"""The least factor: a channel that is always zero has no range to be equalized."""


@dataclass(frozen=True)
class EqualizeOutputs(Pass):
    """One factor for each output channel of proj, fc2 and merge, divided out of the linear and multiplied into its output."""

    name: ClassVar[str] = "equalize-outputs"
    effect: ClassVar[Effect] = Effect.REORDERS

    only: Selectors = ()
    """Work on these sites only (selectors: roles, paths, bounds); all ends of residual branches where none are named."""
    skip: Selectors = ()
    """Leave these sites alone."""

    @property
    def needs_images(self) -> bool:
        """Ranges of outputs are seen on images."""
        return True

    def run(self, program: Program, context: Context) -> None:
        """Observe the outputs, then rewrite."""
        linears = list[fx.Node]()
        for site in select(find_sites(program).linears, self.only, self.skip, BRANCH_ENDS):
            if not affine.is_constant(site.node):
                context.refuse(site.path, "it has no constant weight and bias")
            elif affine.is_tied(program, site.node):
                context.refuse(site.path, affine.TIED)
            elif context.take(self.name, site.path):
                linears.append(site.node)
        with context.timed("calibration"):
            axes = [affine.channel_axis(linear) for linear in linears]
            seen = observe_channels(program, linears, context.images, context.progress, axes) if linears else []
        for linear, channels in zip(linears, seen, strict=True):
            amax = channels.largest.amax().clamp(min=_SMALLEST)
            _spread(program, linear, (channels.largest / amax).clamp(min=_SMALLEST))


def _spread(program: Program, linear: fx.Node, f: Tensor) -> None:
    """The linear computes y / f; its readers read the product with f, `[N]`, or `[N, 1, 1]` of a convolution."""
    readers = list(linear.users)
    bias = affine.bias(program, linear)
    if bias is not None:
        affine.set_constant(program, linear, "bias", bias / f, "evened")
    affine.scale_weight(program, linear, 1 / affine.along_channels(linear, f).unsqueeze(1), "evened")
    factor = program.constant_node(linear.next, f"{path_of(linear)}.output_spread", affine.along_channels(linear, f))
    product = program.insert(factor.next, aten.mul.Tensor, linear, factor, path=linear.meta.get("path", ""))
    for reader in readers:
        reader.replace_input_with(linear, product)

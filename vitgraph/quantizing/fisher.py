"""How much the output feels a change of a value inside: squared gradients, the diagonal of the Fisher information.

For a classifier the second derivative of the divergence from its own answer is E[g gᵀ], where g is the gradient of
-log p(y) for a y drawn from the model's answer (no label is needed). An error e at a value then costs about Σ g² e²: the
weight that BRECQ (Li et al., arXiv 2102.05426, eq. 10) and PTQ4ViT (arXiv 2111.12293) give to errors. Without it the few
tokens in which a vision transformer keeps huge numbers that hardly matter decide every choice.

Features, which are no logits, are taken with normal noise: then the weight is that of their squared error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree

from vitgraph.images.calibration_data import Images
from vitgraph.ir.model_output import gives_features
from vitgraph.ir.program import Program
from vitgraph.progress import Progress, silent
from vitgraph.quantizing.calibration import Observer, Tap, filled_batches
from vitgraph.quantizing.scales import BINS, Statistics

SEED = 0
Loss = Callable[[Any, torch.Generator], Tensor]
"""From a model's output to a sum over images, each of which counts for itself."""


def answer(output: Any, generator: torch.Generator) -> Tensor:
    """Logits times noise of covariance diag(p) - p pᵀ, p the model's own answer; other outputs times plain noise."""
    tensors = _floating(output)
    noise = [torch.randn(t.shape, generator=generator) for t in tensors]
    if len(tensors) == 1 and tensors[0].dim() == 2:
        p = tensors[0].detach().softmax(-1)
        noise = [p.sqrt() * noise[0] - p * (p.sqrt() * noise[0]).sum(-1, keepdim=True)]
    return sum((t * n).sum() for t, n in zip(tensors, noise, strict=True))  # type: ignore[return-value]


def noisy(output: Any, generator: torch.Generator) -> Tensor:
    """The output times plain noise."""
    return sum((t * torch.randn(t.shape, generator=generator)).sum() for t in _floating(output))  # type: ignore[return-value]


def energy(output: Any, generator: torch.Generator) -> Tensor:
    """The mean square of what an image gives, which LPViT differentiates (arXiv 2407.02068); nothing is drawn."""
    return sum(t.square().flatten(1).mean(1).sum() for t in _floating(output))  # type: ignore[return-value]


def _floating(output: Any) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


class _Feeling(Tap):
    """Keeps values that gradients can reach, also where none of the input's values is upstream: a detector's queries."""

    def run_node(self, n: fx.Node) -> Any:
        """Run it; what is kept requires a gradient."""
        value = super().run_node(n)
        if n in self.outputs and value.is_floating_point() and not value.requires_grad:
            value = self.kept[self.outputs[n]] = value.detach().requires_grad_()
        return value


def gradients(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    count: int,
    progress: Progress = silent,
    loss: Loss | None = None,
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Values of `nodes` and the gradients that reach them, batch by batch, for the first `count` images.

    They are those of the summed `loss`: `answer` of a classifier and `noisy` of features unless given. Both have the nodes' shapes; a node that the output does not depend on has a gradient of zero.
    """
    generator = torch.Generator().manual_seed(SEED)
    loss = loss or (noisy if gives_features(program) else answer)
    observers = [Observer(node) for node in nodes]
    done = 0
    for pixels, seen in filled_batches(program, images):
        tap = _Feeling(program, observers)
        with torch.enable_grad():
            output = tap.run(pixels.requires_grad_(pixels.is_floating_point()))
            values = [tap.kept[observer] for observer in observers]
            untyped: Any = torch.autograd.grad(loss(output, generator), values, allow_unused=True)  # None where unused
        pairs = zip(untyped, values, strict=True)
        yield [v.detach() for v in values], [torch.zeros_like(v) if g is None else g for g, v in pairs]
        done += seen
        progress("calibration: gradients", min(done, count), min(count, len(images)))
        if done >= count:
            return


def weights_at(
    program: Program,
    nodes: Sequence[fx.Node],
    images: Images,
    count: int,
    progress: Progress = silent,
) -> list[Tensor]:
    """The mean of g² at each node over images, divided by its mean over the value: the node's shape at batch 1."""
    totals = list[Tensor]()
    for _, found in gradients(program, nodes, images, count, progress):
        squares = [
            g.square().reshape(-1, *node.meta["type"].at(1)).sum(0) for g, node in zip(found, nodes, strict=True)
        ]
        totals = [a + b for a, b in zip(totals, squares, strict=True)] if totals else squares
    return [total / total.mean().clamp(min=torch.finfo(total.dtype).tiny) for total in totals]


def weigh(
    program: Program,
    observers: Sequence[Observer],
    seen: Sequence[Statistics],
    images: Images,
    progress: Progress = silent,
) -> list[Statistics]:
    """The same statistics with each magnitude counted by its squared gradient: an error's cost at the output.

    A softmax inside an attention keeps its counts: it is judged by the attention's output.
    """
    nodes = [observer.node for observer in observers if not observer.inside]
    found = [Statistics(each.largest, torch.zeros_like(each.counts)) for each in seen]
    outside = [each for each, observer in zip(found, observers, strict=True) if not observer.inside]
    for values, felt in gradients(program, nodes, images, len(images), progress):
        for each, value, gradient in zip(outside, values, felt, strict=True):
            place = (value.abs().flatten() * (BINS / each.largest)).long().clamp(max=BINS - 1)
            each.counts += torch.bincount(place, gradient.double().square().flatten(), BINS)
    return [old if observer.inside else new for old, new, observer in zip(seen, found, observers, strict=True)]

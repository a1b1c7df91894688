"""What quantizing costs, measured without labels: a quantized program run with some of its pairs left out.

Runs that differ from a base only further down share its beginning: the base is run node by node, and where a variant
begins to differ it forks. Only values that are still read are kept, twice at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from vitgraph import dialect
from vitgraph.contract import Images
from vitgraph.errors import InputError
from vitgraph.numerics import flatten_outputs
from vitgraph.program import Program
from vitgraph.switches import Edge, Switch

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Damage:
    """How far a program is from the same program in floating point, on average over images."""

    divergence: float
    """Kullback-Leibler divergence of its class probabilities from those in floating point, in nats."""
    drop: float
    """Points of top-1 expected to be lost if the floating-point program's confidence is right. Never negative."""
    agreement: float
    """Images for which both pick the same class, in percent."""


_RANKS = 20
"""How many of the likeliest classes of an image may take the place of the first."""


@dataclass(frozen=True)
class Seen:
    """What is kept of some images' log probabilities."""

    likely: Tensor
    """`[images, ranks]`, in floating point, of the likeliest classes, falling."""
    errors: Tensor
    """`[images, ranks]`: what quantizing added to those."""
    divergence: float
    """Summed over the images."""
    same: int
    """Images whose first class is the same."""

    @staticmethod
    def of(reference: Tensor, logits: Tensor) -> Seen:
        """From log probabilities in floating point and what was found, both `[images, classes]`."""
        found = logits.log_softmax(-1)
        likely, classes = reference.topk(min(_RANKS, reference.shape[-1]), -1)
        divergence = float((reference.exp() * (reference - found)).sum())
        same = int((reference.argmax(-1) == found.argmax(-1)).sum())
        return Seen(likely, found.gather(-1, classes) - likely, divergence, same)


def damage_of(seen: Sequence[Seen]) -> Damage:
    """All images together. Each image's confidence meets every image's errors, rank by rank: what p[first class] -
    p[class picked instead] is on average over all those pairs. On the images' own errors alone, a few that happen to
    flip decide everything: on 32 images the standard deviation is twice as large (ViT-Tiny, ImageNet)."""
    likely, errors = torch.cat([each.likely for each in seen]), torch.cat([each.errors for each in seen])
    p, count = likely.exp(), len(likely)
    lost = 0.0
    for error in errors:
        picked = (likely + error).argmax(-1, keepdim=True)
        lost += float((p[:, :1] - p.gather(-1, picked)).double().sum())
    return Damage(
        sum(each.divergence for each in seen) / count,
        100 * lost / count**2,
        100 * sum(each.same for each in seen) / count,
    )


@dataclass(frozen=True)
class _Off:
    """What is left out: readings of pairs, and quantizers inside attentions."""

    edges: frozenset[Edge]
    attentions: frozenset[fx.Node]

    @staticmethod
    def of(switches: Iterable[Switch]) -> _Off:
        switches = list(switches)
        return _Off(
            frozenset[Edge]().union(*(switch.edges for switch in switches)),
            frozenset(node for switch in switches for node in switch.attentions),
        )

    def touches(self, other: _Off) -> set[fx.Node]:
        """The nodes at or behind which this and the other differ: readers and their pairs."""
        return {node for edge in self.edges ^ other.edges for node in edge} | (self.attentions ^ other.attentions)


@dataclass
class Sensitivity:
    """Measures a quantized program against itself in floating point, on the first `count` images.

    Raises `InputError` for a program that does not give one score a class, or without images.
    """

    program: Program
    images: Images
    count: int
    progress: Progress = lambda what, done, total: None
    _batches: list[tuple[Tensor, int]] = field(init=False)
    _reference: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._batches = list(_cut(self.program, self.images, self.count))
        if not self._batches:
            raise InputError("placement needs at least one image to measure on; name a folder with --calibration-data")
        self._nodes = list(self.program.graph.nodes)
        self._place = {node: position for position, node in enumerate(self._nodes)}
        self._dies = _last_reads(self._nodes)
        self._constants = _constants(self.program)
        pairs = [node for node in self._nodes if node.target is dialect.fake_quantize]
        everything = _Off(
            frozenset((user, pair) for pair in pairs for user in pair.users),
            frozenset(self.program.calls(dialect.attention)),
        )
        self._everything = everything
        self._reference = [
            self._run(pixels, everything, [])[0][:kept].log_softmax(-1) for pixels, kept in self._batches
        ]

    def __len__(self) -> int:
        """How many images are measured."""
        return sum(kept for _, kept in self._batches)

    def alone(self, switches: Sequence[Switch], what: str = "placement: one at a time") -> list[Damage]:
        """The damage of each switch if nothing else is quantized."""
        pairs = self._everything
        variants = [
            _Off(pairs.edges - _Off.of([s]).edges, pairs.attentions - _Off.of([s]).attentions) for s in switches
        ]
        return self._measure(pairs, variants, what)[1:]

    def without(
        self, base: Iterable[Switch], variants: Sequence[Iterable[Switch]] = (), what: str = "placement: all but one"
    ) -> list[Damage]:
        """The damage with the switches of `base` off, and then with those of each variant off."""
        return self._measure(_Off.of(base), [_Off.of(variant) for variant in variants], what)

    def _measure(self, base: _Off, variants: list[_Off], what: str) -> list[Damage]:
        seen = [list[Seen]() for _ in range(len(variants) + 1)]
        done, total = 0, len(self)
        for (pixels, kept), reference in zip(self._batches, self._reference, strict=True):
            self.progress(what, done, total)
            for each, logits in zip(seen, self._run(pixels, base, variants), strict=True):
                each.append(Seen.of(reference, logits[:kept]))
            done += kept
        self.progress(what, done, total)
        return [damage_of(each) for each in seen]

    def _run(self, pixels: Tensor, base: _Off, variants: list[_Off]) -> list[Tensor]:
        """Logits of the base and of each variant."""
        forks = dict[int, list[int]]()
        for number, variant in enumerate(variants):
            touched = [self._place[node] for node in base.touches(variant) if node not in self._constants]
            forks.setdefault(min(touched, default=len(self._nodes) - 1), []).append(number)
        found = list[Any](variants)
        values = dict[fx.Node, Any]()
        with torch.no_grad():
            for start in range(len(self._nodes)):
                for number in forks.get(start, ()):
                    found[number] = self._finish(start, dict(values), pixels, variants[number])
                self._step(start, values, pixels, base)
            return [_logits(values[self._nodes[-1]]), *found]

    def _finish(self, start: int, values: dict[fx.Node, Any], pixels: Tensor, off: _Off) -> Tensor:
        for position in range(start, len(self._nodes)):
            self._step(position, values, pixels, off)
        return _logits(values[self._nodes[-1]])

    def _step(self, position: int, values: dict[fx.Node, Any], pixels: Tensor, off: _Off) -> None:
        """Run one node; drop what was read for the last time."""
        node = self._nodes[position]

        def read(source: fx.Node) -> Any:
            reader = node
            while (reader, source) in off.edges:
                reader, source = source, source.args[0]  # type: ignore[assignment]
            return self._constants[source] if source in self._constants else values[source]

        if node.op == "placeholder":
            values[node] = pixels
        elif node.op == "output":
            values[node] = fx.map_arg(node.args[0], read)
        elif node not in self._constants and not _is_unread(node, off):
            args, kwargs = fx.map_arg((node.args, node.kwargs), read)
            args = args[:5] if node in off.attentions else args
            values[node] = node.target(*args, **kwargs)
        for dead in self._dies[position]:
            values.pop(dead, None)


def _is_unread(node: fx.Node, off: _Off) -> bool:
    """A pair that everything reads past."""
    return node.target is dialect.fake_quantize and all((user, node) in off.edges for user in node.users)


def _cut(program: Program, images: Images, count: int) -> Iterable[tuple[Tensor, int]]:
    """Batches that the program takes, and how many of each batch are images and not filling."""
    batch = program.input_types()[0].shape[0]
    size = batch if isinstance(batch, int) else 8
    left = count
    for pixels, _ in images.batches(size):
        kept = min(left, pixels.shape[0])
        if kept == 0:
            return
        filled = torch.arange(size if isinstance(batch, int) else kept) % kept
        yield pixels[filled], kept
        left -= kept


def _last_reads(nodes: list[fx.Node]) -> list[list[fx.Node]]:
    """For each position, what is read there for the last time; who reads a pair may read past it."""
    last, dies = dict[fx.Node, int](), [list[fx.Node]() for _ in nodes]
    for position in range(len(nodes) - 1, -1, -1):
        for source in nodes[position].all_input_nodes:
            behind: Any = source
            last.setdefault(behind, position)
            while behind.target is dialect.fake_quantize:
                behind = behind.args[0]
                last.setdefault(behind, position)
    for node, position in last.items():
        dies[position].append(node)
    return dies


def _constants(program: Program) -> dict[fx.Node, Any]:
    """Everything that does not depend on the input, computed once: rounded weights among it."""
    found = dict[fx.Node, Any]()
    with torch.no_grad():
        for node in program.graph.nodes:
            if node.op == "get_attr":
                found[node] = program.tensor(str(node.target)).detach()
            elif node.op == "call_function" and node.all_input_nodes and all(n in found for n in node.all_input_nodes):
                args, kwargs = fx.map_arg((node.args, node.kwargs), lambda source: found[source])
                found[node] = node.target(*args, **kwargs)
    return found


def _logits(value: Any) -> Tensor:
    first = flatten_outputs(value)[0]
    if first.dim() != 2:
        raise InputError(
            f"placement needs a model whose output is [images, classes]; this one gives {list(first.shape)}"
        )
    return first.float()

"""The choices of a layer-wise N:M search: which linears get a level, which levels, and what a choice costs.

A level is an N:M that the target multiplies, or dense (M:M). ELSA (Huang et al., arXiv 2409.09708) gives one to each linear of
a block, and counts FLOPs as in `vitgraph.cost.paper_counts`. A choice is a tuple of places: for each layer, which of its
levels, the sparsest first. Costs add up: a part that no choice changes, and for each layer one number a level.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, find_sites
from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.kernel import Kernel, total
from vitgraph.cost.kernel import refusal as estimate_refusal
from vitgraph.cost.paper_counts import PRUNED_ROLES, elsa_flops
from vitgraph.cost.products import find_products
from vitgraph.cost.roofline import roofline
from vitgraph.cost.workload import DENSE, Zeros
from vitgraph.errors import InputError
from vitgraph.ir.calls import WeightedCall
from vitgraph.ir.navigate import weight_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Refusal
from vitgraph.searching.budget import read_limit, show_cost
from vitgraph.targets.target import Target

Choice = tuple[int, ...]
"""For each layer the place of its level in `Layer.levels`."""


@dataclass(frozen=True)
class Layer:
    """A linear that gets a level."""

    path: str
    """A selector that means this linear alone: its module path, with its role where that module has several."""
    role: str
    weight: str
    """The weight's name in the model."""
    n: int
    k: int
    macs: int
    """Dense multiply-accumulates for one image."""
    levels: tuple[Packing, ...]
    """Sparsest first, dense last."""


@dataclass(frozen=True)
class Space:
    """Every layer with its levels."""

    layers: tuple[Layer, ...]

    @property
    def sparsest(self) -> Choice:
        """Every layer at its first level."""
        return (0,) * len(self.layers)

    @property
    def dense(self) -> Choice:
        """Every layer at its last level."""
        return tuple(len(layer.levels) - 1 for layer in self.layers)

    def patterns(self, choice: Choice) -> tuple[Packing, ...]:
        """The level of each layer."""
        return tuple(layer.levels[place] for layer, place in zip(self.layers, choice, strict=True))

    def neighbours(self, choice: Choice, step: int) -> Iterator[tuple[int, Choice]]:
        """Each layer that can go `step` levels up (denser) or down, and the choice where it has."""
        for index, place in enumerate(choice):
            if 0 <= place + step < len(self.layers[index].levels):
                yield index, (*choice[:index], place + step, *choice[index + 1 :])


@dataclass(frozen=True)
class LevelCost:
    """What a choice costs, in one unit: `fixed`, and a number for each layer and level."""

    unit: str
    """`FLOPs`, as ELSA counts, for one image; or `ms`, by the cost model."""
    fixed: float
    parts: tuple[tuple[float, ...], ...]

    def of(self, choice: Choice) -> float:
        """The cost of a choice."""
        return self.fixed + sum(part[place] for part, place in zip(self.parts, choice, strict=True))


@dataclass(frozen=True)
class SearchBudget:
    """A limit to a cost."""

    text: str
    limit: float


def find_space(
    program: Program,
    target: Target,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    parameters: Container[str] | None = None,
) -> tuple[Space, list[Refusal]]:
    """The layers of a canonical program that can take the target's levels, and those that cannot, each with its reason.

    Selected like the sites of a pass; unless told otherwise the linears of the blocks but patch merging, as in the paper.
    `parameters` are the names that the model trains under, where it is to be trained.
    Raises `InputError` where the target multiplies no N:M zeros, or where no layer can take any.
    """
    patterns = _patterns(target)
    macs = {product.node: product.macs for product in find_products(program)}
    layers, refused = list[Layer](), list[Refusal]()
    sites = find_sites(program).linears
    for site in select(sites, only, skip, PRUNED_ROLES):
        levels = tuple(each for each in patterns if site.k % each.m == 0)
        selector = _selector(site, sites)
        why = _refusal(site, program, levels, target)
        name = str(weight_of(site.node).target)
        if why is None and parameters is not None and name not in parameters:
            why = "its weight is made of others (folded with a norm), so it cannot be trained under a mask"
        if why is not None or selector is None:
            refused.append(Refusal(site.path, why or "no selector tells it from another linear of its module"))
            continue
        dense = Packing(levels[-1].m, levels[-1].m)
        layers.append(Layer(selector, site.role, name, site.n, site.k, macs[site.node], (*levels, dense)))
    if not layers:
        raise InputError(f"{program.name}: no linear can take a level of {target.name}; {_first(refused)}")
    return Space(tuple(layers)), refused


def _patterns(target: Target) -> tuple[Packing, ...]:
    """The N:M that a target multiplies, sparsest first."""
    found = [] if target.sparse is None else [Packing(n, m) for n, m in target.sparse.patterns if n < m]
    if not found:
        raise InputError(f"target {target.name} multiplies no N:M zeros; `vitgraph targets` lists what each one does")
    return tuple(sorted(found, key=lambda each: (each.kept, each.m)))


def _selector(site: LinearSite, sites: Sequence[LinearSite]) -> str | None:
    """The shortest selector that selects this linear alone; None where none does."""
    candidates = (site.path, f"{site.path}:{site.role}")
    return next((each for each in candidates if select(sites, [each]) == [site]), None)


def _refusal(site: LinearSite, program: Program, levels: tuple[Packing, ...], target: Target) -> str | None:
    """Why a linear gets no level, or None."""
    weight = weight_of(site.node)
    if WeightedCall(site.node).weight is not weight or not isinstance(program.constant(weight), torch.nn.Parameter):
        return "its weight is computed, quantized or masked, so it cannot be trained under a mask"
    if sum(call.weight is weight for user in weight.users if (call := WeightedCall.of(user)) is not None) > 1:
        return "its weight is used by more than one linear"
    if not levels:
        return f"K = {site.k} holds no whole groups of {' or '.join(str(each.m) for each in _patterns(target))}"
    return None


def _first(refused: list[Refusal]) -> str:
    return f"{refused[0].site}: {refused[0].why}" if refused else "it has no linears in blocks"


def flops(program: Program, space: Space) -> LevelCost:
    """FLOPs for one image as ELSA counts them; the program's own zeros do not count."""
    parts = tuple(tuple(layer.macs * each.kept for each in layer.levels) for layer in space.layers)
    dense = [replace(each, density=1.0, packing=None) for each in find_products(program)]
    return LevelCost("FLOPs", elsa_flops(program, dense) - sum(part[-1] for part in parts), parts)


def milliseconds(program: Program, space: Space, target: Target, batch: int, kind: str) -> LevelCost:
    """The cost model's estimate with every value in the type `kind`; a level costs what is faster, its kernel or the dense one.

    Raises `InputError` where the target has no estimate.
    """
    line = roofline(target)
    kernels = [each.in_type(kind, DENSE) for each in find_kernels(program)]
    why = line if isinstance(line, str) else estimate_refusal(kernels, line)
    if isinstance(line, str) or why is not None:
        raise InputError(
            f"a budget in ms needs an estimate, and {target.name} has none: {why}; give it in FLOPs (2.9x)"
        )
    own = {(each.path, each.role, each.weights): each for each in kernels if each.weights}
    chosen = [own[layer.path.partition(":")[0], layer.role, layer.n * layer.k] for layer in space.layers]
    rest = [each for each in kernels if not any(each is other for other in chosen)]

    def at(kernel: Kernel, level: Packing) -> float:
        return kernel.in_type(kind, DENSE if level.n == level.m else Zeros(level)).built(line, batch).ms

    parts = tuple(
        tuple(at(kernel, each) for each in layer.levels) for kernel, layer in zip(chosen, space.layers, strict=True)
    )
    return LevelCost("ms", total(kernel.built(line, batch) for kernel in rest).ms, parts)


def read_budget(text: str, space: Space, cost: LevelCost) -> SearchBudget:
    """The limit that a text such as `2.9x` means; `InputError` where even the sparsest choice costs more."""
    limit = read_limit(text).of(cost.of(space.dense))
    least = cost.of(space.sparsest)
    if limit < least:
        ratio = cost.of(space.dense) / least
        raise InputError(
            f"--budget {text}: {show_cost(limit, cost.unit)} is less than {show_cost(least, cost.unit)}, what every layer at its "
            f"sparsest level costs; at most {int(ratio * 100) / 100:g} times less than dense can be had"
        )
    return SearchBudget(text, limit)


def uniform(space: Space, cost: LevelCost, limit: float) -> Choice:
    """One level for all, the densest within the limit; a layer that lacks it stays dense."""
    levels = sorted({each for layer in space.layers for each in layer.levels}, key=lambda each: (each.kept, each.m))
    found = [tuple(_place(layer, level) for layer in space.layers) for level in levels]
    fitting = [choice for choice in (space.sparsest, *found) if cost.of(choice) <= limit]
    return max(fitting, key=cost.of)


def _place(layer: Layer, level: Packing) -> int:
    return layer.levels.index(level) if level in layer.levels else len(layer.levels) - 1


def erk(space: Space, cost: LevelCost, limit: float) -> Choice:
    """Erdős–Rényi densities, ε (n + k) / (n k), each rounded to the nearest level; the largest ε within the limit.

    (Evci et al., arXiv 1911.11134; a linear is a convolution with a kernel of one, so that ERK is Erdős–Rényi here.)
    Rounding makes it go in steps, by one shape of linears at a time: what is left of the budget stays unused.
    """
    shares = [(layer.n + layer.k) / (layer.n * layer.k) for layer in space.layers]
    steps = {
        (low.kept + high.kept) / 2 / share
        for layer, share in zip(space.layers, shares, strict=True)
        for low, high in zip(layer.levels, layer.levels[1:], strict=False)
    }
    best = space.sparsest
    for epsilon in sorted(steps):
        choice = tuple(
            _nearest(layer, epsilon * share * (1 + 1e-9)) for layer, share in zip(space.layers, shares, strict=True)
        )
        if cost.of(choice) > limit:
            break
        best = choice
    return best


def _nearest(layer: Layer, density: float) -> int:
    gaps = [abs(level.kept - min(1.0, density)) for level in layer.levels]
    return gaps.index(min(gaps))

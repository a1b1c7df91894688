"""Rules of `canonicalize` for sums of products by letters: `einsum`, and what is one under another name, as matrix products.

Attention is found between products of matrices, whichever way it was spelt:

Before:
    scores = aten.einsum.default('bqhd,bkhd->bhqk', [q, k])

After:
    a = aten.permute.default(q, [0, 2, 1, 3])
    b = aten.permute.default(k, [0, 2, 3, 1])
    scores = aten.matmul.default(a, b)
"""

from __future__ import annotations

import math
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import fx

from vitgraph.ir.call_arguments import arguments
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import RELAYS
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Dim, Size
from vitgraph.passes.canonicalize.rule import Rule, literal_shape, shape, source

_DOTS = "..."


@dataclass(frozen=True)
class _Operand:
    """A tensor and the letter of each of its dimensions."""

    node: fx.Node
    letters: str

    @property
    def sizes(self) -> dict[str, Size]:
        return dict(zip(self.letters, shape(self.node), strict=True))


def einsum(program: Program, node: fx.Node) -> fx.Node | None:
    """Two operands at a time, from the left; where two sizes depend on the batch it stays as it is."""
    values = arguments(node)
    tensors: list[fx.Node] = values["tensors"]
    terms, result = _letters(str(values["equation"]).replace(" ", ""), [len(shape(each)) for each in tensors])
    operands: list[_Operand] = [_Operand(each, letters) for each, letters in zip(tensors, terms, strict=True)]
    unknown = {letter for each in operands for letter, size in each.sizes.items() if isinstance(size, Dim)}
    if len(unknown) > 1:
        return None
    steps = _Steps(program, node)
    operands = [steps.diagonals(each) for each in operands]
    while len(operands) > 1:
        first, second, *rest = operands
        kept = result + "".join(each.letters for each in rest)
        operands = [steps.pair(first, second, kept), *rest]
    return steps.permuted(steps.summed(operands[0], result), result).node


def _letters(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, dots and an omitted result spelled out."""
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    width = max([rank - len(term) + 3 for term, rank in zip(terms, ranks, strict=True) if _DOTS in term], default=0)
    dots = "".join(free[:width])
    terms = [
        term.replace(_DOTS, dots[width - (rank - len(term) + 3) :]) for term, rank in zip(terms, ranks, strict=True)
    ]
    if not arrow:
        counts = Counter(letter for letter in left if letter.isalpha())
        result = _DOTS * bool(dots) + "".join(sorted(letter for letter, count in counts.items() if count == 1))
    return terms, result.replace(_DOTS, dots)


class _Steps:
    """What is inserted ahead of one einsum."""

    def __init__(self, program: Program, node: fx.Node) -> None:
        self.program, self.node = program, node

    def insert(self, target: Any, *args: Any) -> fx.Node:
        return self.program.insert(self.node, target, *args)

    def diagonals(self, operand: _Operand) -> _Operand:
        """One dimension for each letter: a letter given twice reads a diagonal."""
        twice = next((letter for letter, count in Counter(operand.letters).items() if count > 1), None)
        if twice is None:
            return operand
        first = operand.letters.index(twice)
        second = operand.letters.index(twice, first + 1)
        left = "".join(letter for at, letter in enumerate(operand.letters) if at not in (first, second))
        return self.diagonals(
            _Operand(self.insert(aten.diagonal.default, operand.node, 0, first, second), left + twice)
        )

    def summed(self, operand: _Operand, kept: str) -> _Operand:
        """Without the letters that nothing else has."""
        dims = [at for at, letter in enumerate(operand.letters) if letter not in kept]
        if not dims:
            return operand
        letters = "".join(letter for letter in operand.letters if letter in kept)
        return _Operand(self.insert(aten.sum.dim_IntList, operand.node, dims), letters)

    def permuted(self, operand: _Operand, letters: str) -> _Operand:
        """With the letters in this order."""
        if operand.letters == letters:
            return operand
        order = [operand.letters.index(letter) for letter in letters]
        return _Operand(self.insert(aten.permute.default, operand.node, order), letters)

    def shaped(self, node: fx.Node, sizes: Sequence[Size]) -> fx.Node:
        return node if shape(node) == tuple(sizes) else self.insert(aten.reshape.default, node, literal_shape(sizes))

    def pair(self, left: _Operand, right: _Operand, kept: str) -> _Operand:
        """The product of two, summed over the letters that are not kept."""
        left, right = self.summed(left, kept + right.letters), self.summed(right, kept + left.letters)
        both = [letter for letter in left.letters if letter in right.letters]
        batch = "".join(sorted((letter for letter in both if letter in kept), key=kept.index))
        inner = "".join(letter for letter in both if letter not in kept)
        if self._better_swapped(left, right, batch, kept):
            left, right = right, left
        rows, columns = (
            "".join(sorted((each for each in one.letters if each not in both), key=kept.index)) for one in (left, right)
        )
        sizes = {
            letter: _larger(left.sizes.get(letter, 1), right.sizes.get(letter, 1))
            for letter in left.letters + right.letters
        }
        if not inner:
            return self._outer(left, right, batch, rows, columns)
        left, right = (self._spread(each, inner, sizes) for each in (left, right))
        node = self._matmul(left, right, (batch, rows, inner, columns), sizes)
        return _Operand(self.shaped(node, [sizes[letter] for letter in batch + rows + columns]), batch + rows + columns)

    def _better_swapped(self, left: _Operand, right: _Operand, batch: str, kept: str) -> bool:
        """Weights stand on the right; else the side whose letters come last in the result."""
        if not batch and _is_weight(left.node) != _is_weight(right.node):
            return _is_weight(left.node)
        own = [
            [kept.index(each) for each in one.letters if each in kept and each not in batch] for one in (left, right)
        ]
        return bool(own[0] and own[1] and min(own[0]) > min(own[1]))

    def _spread(self, operand: _Operand, inner: str, sizes: dict[str, Size]) -> _Operand:
        """A size of 1 meets any size: in a sum it counts as often as the other has terms."""
        wanted = [sizes[each] if each in inner else size for each, size in operand.sizes.items()]
        if tuple(wanted) == shape(operand.node):
            return operand
        given = [-1 if isinstance(size, Dim) else size for size in wanted]
        return _Operand(self.insert(aten.expand.default, operand.node, given), operand.letters)

    def _outer(self, left: _Operand, right: _Operand, batch: str, rows: str, columns: str) -> _Operand:
        """Nothing to sum over: a product of elements."""
        left, right = self.permuted(left, batch + rows), self.permuted(right, batch + columns)
        tall = self.shaped(left.node, [*shape(left.node), *[1] * len(columns)])
        common, own = shape(right.node)[: len(batch)], shape(right.node)[len(batch) :]
        wide = self.shaped(right.node, [*common, *[1] * len(rows), *own])
        return _Operand(self.insert(aten.mul.Tensor, tall, wide), batch + rows + columns)

    def _matmul(
        self, left: _Operand, right: _Operand, letters: tuple[str, str, str, str], sizes: dict[str, Size]
    ) -> fx.Node:
        """`[batch, rows, inner] @ [batch, inner, columns]`, several letters of a kind merged into one dimension."""
        batch, rows, inner, columns = letters
        a, b = self.permuted(left, batch + rows + inner).node, self.permuted(right, batch + inner + columns).node
        a, b = self._of_one_type(a, b)
        depth, count = _product([sizes[letter] for letter in inner]), len(batch)
        tops = list(shape(a)[count : count + len(rows)])
        tops = tops if not batch and rows else [_product(tops)]
        a = self.shaped(a, [*shape(a)[:count], *tops, depth])
        b = self.shaped(b, [*shape(b)[:count], depth, _product(shape(b)[count + len(inner) :])])
        return self.insert(aten.matmul.default, a, b)

    def _of_one_type(self, *operands: fx.Node) -> list[fx.Node]:
        """torch multiplies element by element, with types promoted, where what is summed has a size of 1."""
        types: list[torch.dtype] = [operand.meta["type"].dtype for operand in operands]
        common = reduce(torch.promote_types, types)
        pairs = zip(operands, types, strict=True)
        return [each if dtype == common else self.insert(aten.to.dtype, each, common) for each, dtype in pairs]


def _larger(a: Size, b: Size) -> Size:
    return b if a == 1 else a


def _product(sizes: Sequence[Size]) -> Size:
    """The number of elements; of which one size may depend on the batch."""
    known = math.prod(size for size in sizes if isinstance(size, int))
    unknown = next((size for size in sizes if isinstance(size, Dim)), None)
    return known if unknown is None else Dim(unknown.times * known, unknown.plus * known)


def _is_weight(node: fx.Node) -> bool:
    while node.target in RELAYS:
        node = source(node)
    return node.op == "get_attr"


def by_equation(equation: str, *names: str) -> Rule:
    """An operator that is an einsum of these arguments."""

    def rule(program: Program, node: fx.Node) -> fx.Node | None:
        values = arguments(node)
        return program.insert(node, aten.einsum.default, equation, [values[name] for name in names])

    return rule


def inner(program: Program, node: fx.Node) -> fx.Node | None:
    """Over the last dimension of both."""
    values = arguments(node)
    left, right = values["self"], values["other"]
    letters = iter(string.ascii_lowercase[1:])
    terms = ["".join(next(letters) for _ in shape(each)[1:]) for each in (left, right)]
    return program.insert(node, aten.einsum.default, f"{terms[0]}a,{terms[1]}a->{''.join(terms)}", [left, right])


def tensordot(program: Program, node: fx.Node) -> fx.Node | None:
    """Over the named dimensions of both."""
    values = arguments(node)
    left, right = values["self"], values["other"]
    free = iter(string.ascii_lowercase)
    first = [next(free) for _ in shape(left)]
    second = [next(free) for _ in shape(right)]
    for a, b in zip(values["dims_self"], values["dims_other"], strict=True):
        second[b] = first[a]
    result = [each for each in (*first, *second) if (each in first) != (each in second)]
    equation = f"{''.join(first)},{''.join(second)}->{''.join(result)}"
    return program.insert(node, aten.einsum.default, equation, [left, right])


CONTRACTIONS: dict[Any, Rule] = {
    aten.einsum.default: einsum,
    aten.mv.default: by_equation("ij,j->i", "self", "vec"),
    aten.dot.default: by_equation("i,i->", "self", "tensor"),
    aten.outer.default: by_equation("i,j->ij", "self", "vec2"),
    aten.inner.default: inner,
    aten.tensordot.default: tensordot,
}
"""Rule by operator."""

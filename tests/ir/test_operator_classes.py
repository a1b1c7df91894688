"""One table says what each operator does: none of the dialect is left out, and the classes that follow from it are as decided."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import torch

from vitgraph.ir import dialect
from vitgraph.ir import operator_classes as classes
from vitgraph.ir.dialect import aten
from vitgraph.ir.operator_classes import TRAITS, Trait, is_pointwise, operators_with

DIALECT = dialect.ATEN | set(dialect.OWN)


def unclassified(table: Collection[Any]) -> set[Any]:
    return {each for each in DIALECT if each not in table}


def test_every_operator_is_classified() -> None:
    assert unclassified(TRAITS) == set()
    assert set(TRAITS) <= DIALECT
    assert all(TRAITS.values())


@pytest.mark.parametrize("operator", sorted(DIALECT, key=str), ids=str)
def test_a_forgotten_operator_is_noticed(operator: Any) -> None:
    assert unclassified(set(TRAITS) - {operator}) == {operator}


def test_pointwise_is_what_torch_tags_and_what_it_forgot() -> None:
    tagged = {each for each in DIALECT if torch.Tag.pointwise in each.tags}
    forgotten = {
        aten.batch_norm.default,
        aten.hardswish.default,
        aten.prelu.default,
        dialect.fake_quantize,
        dialect.log2_quantize,
    }
    assert operators_with(Trait.POINTWISE) == tagged | forgotten
    assert is_pointwise(aten.hardswish.default)
    assert not is_pointwise(aten.matmul.default)


def test_an_operator_outside_the_dialect_goes_by_its_tag() -> None:
    assert is_pointwise(aten.addcmul.default)
    assert not is_pointwise(aten.addmm.default)


def test_traits_and_not_others() -> None:
    assert operators_with(Trait.CODES) == {dialect.fake_quantize, dialect.dequantize}
    assert operators_with(Trait.CODES, without=Trait.FOLDS) == {dialect.fake_quantize}
    assert operators_with(Trait.SIZES | Trait.CASTS) == {aten.sym_size.int, aten.to.dtype}


def test_what_is_looked_through() -> None:
    """Views cost nothing, a roll moves but is a copy; a cat, a cast and a pair are layout, but no move of one value."""
    views = operators_with(Trait.VIEWS)
    assert classes.RELAYS < views < classes.MOVES < classes.LAYOUT
    assert classes.MOVES - views == {aten.roll.default}
    assert views < classes.FREE
    assert aten.roll.default not in classes.FREE
    assert {
        aten.cat.default,
        aten.pad.default,
        aten.to.dtype,
        dialect.fake_quantize,
    } == classes.LAYOUT - classes.MOVES
    assert classes.LAYOUT & operators_with(Trait.GATHERS) == set()


def test_codes_stay_codes_through_moves_and_masks() -> None:
    """Where tables disagreed: an expand and a roll of rounded values are rounded values, as a reshape of them is."""
    assert {aten.expand.default, aten.roll.default, aten.to.dtype, dialect.mask} < classes.KEEPS_CODES
    assert aten.mul.Tensor not in classes.KEEPS_CODES


def test_activations_leave_channels_what_they_are() -> None:
    """Where tables disagreed: all eleven count wherever one does, and hardsigmoid; prelu has a slope for each channel."""
    assert {
        aten.hardswish.default,
        aten.hardsigmoid.default,
        aten.tanh.default,
        aten.clamp.default,
    } < classes.ACTIVATIONS
    assert {aten.prelu.default} == classes.NONLINEAR - classes.ACTIVATIONS


def test_what_leaves_an_attention_linear() -> None:
    """Where tables disagreed: a difference is as linear as a sum, a roll as much layout as a slice; a clamp is neither."""
    assert classes.LAYOUT | classes.ROUNDS | classes.SCALES < classes.BETWEEN_PRODUCTS
    assert {aten.add.Tensor, aten.sub.Tensor, aten.neg.default, aten.reciprocal.default} < classes.BETWEEN_PRODUCTS
    assert set() == classes.BETWEEN_PRODUCTS & classes.NONLINEAR
    assert aten.exp.default not in classes.BETWEEN_PRODUCTS

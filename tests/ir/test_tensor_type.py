import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.ir.dialect import aten
from vitgraph.ir.tensor_type import (
    DTYPES,
    Dim,
    IntType,
    Size,
    TensorType,
    TupleType,
    Type,
    infer,
    parse_size,
    parse_type,
    type_of,
)

sizes = st.one_of(st.integers(0, 4096), st.builds(Dim, st.integers(1, 99), st.integers(-9, 9)))
tensors = st.builds(
    TensorType, st.sampled_from(list(DTYPES.values())), st.lists(sizes, max_size=5).map(lambda each: tuple(each))
)
types = st.recursive(
    st.one_of(tensors, st.builds(IntType, sizes)),
    lambda inner: st.builds(TupleType, st.tuples(inner, inner)),
    max_leaves=6,
)


@given(types)
def test_a_type_reads_back(kind: Type) -> None:
    assert parse_type(str(kind)) == kind


@pytest.mark.parametrize(("text", "size"), [("7", 7), ("N", Dim(1, 0)), ("64*N", Dim(64, 0)), ("N+1", Dim(1, 1))])
def test_sizes(text: str, size: Size) -> None:
    assert parse_size(text) == size
    assert str(size) == text


@pytest.mark.parametrize("text", ["", "M", "N*2", "2N", "1.5", "N+N", "N" + " " * 90_000 + "x", "1" * 65])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["f31[1]", "f32", "f32[1", "float[2]"])
def test_what_is_no_type_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a type"):
        parse_type(text)


def test_a_type_with_the_batch_in_it_has_no_static_shape() -> None:
    kind = parse_type("f32[4*N, 3]")
    assert isinstance(kind, TensorType)
    assert kind.at(5) == (20, 3)
    with pytest.raises(ValueError, match="batch"):
        _ = kind.static
    assert type_of(torch.zeros(2, 3)).static == (2, 3)


def test_the_batch_is_carried_through_operators() -> None:
    x = TensorType(torch.float32, (Dim(1, 0), 16, 8))
    assert str(infer(aten.reshape.default, [x, [-1, 8]], {})) == "f32[16*N, 8]"
    assert str(infer(aten.cat.default, [[x, x], 0], {})) == "f32[2*N, 16, 8]"
    assert str(infer(aten.sym_size.int, [x, 0], {})) == "int[N]"
    assert str(infer(operator.mul, [IntType(Dim(1, 0)), 4], {})) == "int[4*N]"
    assert str(infer(aten.unbind.int, [TensorType(torch.int8, (2, 3))], {})) == "(i8[3], i8[3])"


def test_what_does_not_fit_is_refused_by_the_operator() -> None:
    x = TensorType(torch.float32, (2, 3))
    with pytest.raises(RuntimeError, match="reduction dim"):
        infer(aten.matmul.default, [x, x], {})


def test_a_size_that_is_no_line_in_the_batch_is_refused() -> None:
    x = TensorType(torch.float32, (Dim(1, 0), Dim(1, 0)))
    with pytest.raises(ValueError, match="no straight line"):
        infer(aten.reshape.default, [x, [-1]], {})

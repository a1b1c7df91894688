"""Every einsum is products of matrices, in whichever letters, and so is what is one under another name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.canonicalize.capturing import Model, Said, canonical, hold_to_torch, numbers
from vitgraph.ir.dialect import aten

e = torch.einsum
CASES: dict[str, Said] = {
    "rows by rows": lambda m, x: e("bhqd,bhkd->bhqk", x, x),
    "heads after tokens": lambda m, x: e("bqhd,bkhd->bhqk", x, x),
    "with spaces and names": lambda m, x: e("b h i d, b h j d -> b h i j", x, x),
    "capital letters": lambda m, x: e("B G H I, B G J I -> B G H J", x, x),
    "keys ahead of queries": lambda m, x: e("bhkd,bhqd->bhqk", x, x),
    "weights on the right": lambda m, x: e("bhnc,cd->bhnd", x, m.weight),
    "weights on the left": lambda m, x: e("cd,bhnc->bhdn", m.weight, x),
    "weights of two letters": lambda m, x: e("bhnc,hnk->bck", x, m.weight.t().reshape(4, 6, 1)),
    "two letters summed": lambda m, x: e("bhnc,bknc->bhk", x, x),
    "nothing summed": lambda m, x: e("bh,bn->bhn", x[:, :, 0, 0], x[:, 0, :, 0]),
    "elements": lambda m, x: e("bhnc,bhnc->bhnc", x, x),
    "a letter of one operand summed": lambda m, x: e("bhnc,bhkd->bhn", x, x),
    "dots": lambda m, x: e("...nc,...kc->...nk", x, x),
    "dots that broadcast": lambda m, x: e("...nc,...kc->...nk", x, x[0]),
    "dots in one": lambda m, x: e("...c,cd->...d", x, m.weight),
    "no result": lambda m, x: e("bhnc,bhkc", x, x),
    "no letters left": lambda m, x: e("bhnc,bhnc->", x, x),
    "one operand": lambda m, x: e("bhnc->cbn", x),
    "a diagonal": lambda m, x: e("bhnn->bhn", x[..., :6]),
    "a trace": lambda m, x: e("bhnn->bh", x[..., :6]),
    "a size of one in a sum": lambda m, x: e("bhnc,bhkc->bhnk", x, x[..., :1]),
    "a size of one beside": lambda m, x: e("bhnc,bhkc->bhnk", x[:1], x),
    "two types over a size of one": lambda m, x: e("bhnc,bhkc->bhnk", x[..., :1], x[..., :1].double()),
    "three operands": lambda m, x: e("bhnc,bhkc,bhkd->bhnd", x, x, x),
    "mv": lambda m, x: torch.mv(x[0, 0], x[0, 0, 0]),
    "dot": lambda m, x: torch.dot(x[0, 0, 0], x[0, 0, 1]),
    "outer": lambda m, x: torch.outer(x[0, 0, 0], x[0, 0, 1]),
    "inner": lambda m, x: torch.inner(x, x[0, 0]),
    "inner of vectors": lambda m, x: torch.inner(x[0, 0, 0], x[0, 0, 1]),
    "tensordot": lambda m, x: aten.tensordot.default(x, m.weight, [3], [0]),
    "tensordot of inner dimensions": lambda m, x: aten.tensordot.default(x, x, [1, 3], [1, 3]),
}
FIXED = frozenset({"mv", "dot", "outer", "inner of vectors", "weights of two letters", "tensordot of inner dimensions"})
"""Cases that read one image out of the batch, or leave two sizes to it."""


@pytest.mark.parametrize("name", CASES)
def test_gives_what_torch_gives(name: str) -> None:
    program = canonical(CASES[name])
    assert program.calls(aten.einsum.default) == []
    torch.testing.assert_close(program.run(numbers()), Model(CASES[name])(numbers()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(CASES.keys() - FIXED))
def test_gives_what_torch_gives_for_any_batch(name: str) -> None:
    program = canonical(CASES[name], dynamic=True)
    assert program.calls(aten.einsum.default) == []
    torch.testing.assert_close(program.run(numbers(5)), Model(CASES[name])(numbers(5)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["heads after tokens", "weights on the left", "two letters summed", "a size of one in a sum"]
)
def test_gives_the_same_in_onnx(name: str) -> None:
    hold_to_torch(lambda m, x: CASES[name](m, x) * 0.1, dynamic=True)


def test_weights_make_a_linear_layer_from_either_side() -> None:
    for name in ("weights on the right", "weights on the left", "dots in one", "tensordot"):
        program = canonical(CASES[name])
        assert (len(program.calls(aten.linear.default)), program.calls(aten.matmul.default)) == (1, []), name


def test_attention_takes_two_permutes_and_no_more() -> None:
    program = canonical(CASES["heads after tokens"])
    assert [str(node.target) for node in program.calls()] == [
        "aten.permute.default", "aten.permute.default", "aten.matmul.default"
    ]  # fmt: skip


def test_two_sizes_of_the_batch_stay_an_einsum() -> None:
    program = canonical(CASES["tensordot of inner dimensions"], dynamic=True)
    assert len(program.calls(aten.einsum.default)) == 1


@settings(max_examples=15, deadline=None)
@given(
    terms=st.lists(st.permutations("abcd").map(lambda t: "".join(t)), min_size=1, max_size=3),
    cuts=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    data=st.data(),
)
def test_any_letters(terms: list[str], cuts: list[int], data: st.DataObject) -> None:
    terms = [term[:cut] for term, cut in zip(terms, cuts, strict=False)]
    letters = sorted(set("".join(terms)))
    result = "".join(data.draw(st.lists(st.sampled_from(letters), unique=True)))
    equation = f"{','.join(terms)}->{result}"
    sizes = {"a": 2, "b": 4, "c": 6, "d": 8}

    def said(m: Model, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten()
        return e(equation, *(flat[: torch.Size(shape).numel()].reshape(shape) for shape in map(shape_of, terms)))

    def shape_of(term: str) -> list[int]:
        return [sizes[letter] for letter in term]

    program = canonical(said)
    assert program.calls(aten.einsum.default) == []
    torch.testing.assert_close(program.run(numbers()), Model(said)(numbers()), rtol=1e-4, atol=1e-4)

"""Powers of two: which exponent each rule gives, at the ends, and with 8-bit codes first."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import hold_to_text
from vitgraph.ir import dialect
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load, save
from vitgraph.ir.verify import verify

TEXT = """
x: f32[N, 5] = input()
s: f32[] = constant("scale")
y: f32[N, 5] = vitgraph.log2_quantize.default(x, s, 'nearest', -6, 9)
return_(y)
"""


def log2(values: list[float], *arguments: object) -> list[float]:
    found: torch.Tensor = dialect.log2_quantize(torch.tensor(values), *arguments)
    return [float(value) for value in found]


@given(st.floats(2.0**-6, 2.0**9, width=32))
def test_nearest_is_nearest_in_log2(x: float) -> None:
    (found,) = log2([x])
    near = torch.tensor(x, dtype=torch.float64).log2()
    assert abs(float(torch.tensor(found, dtype=torch.float64).log2() - near)) <= 0.5 + 1e-6


@given(st.integers(1, 255))
def test_the_bit_below_the_leading_one_decides(code: int) -> None:
    """The hardware's rule on 8-bit codes: the place of the leading one, and one more where the next bit is set."""
    place = code.bit_length() - 1
    up = place > 0 and code >> (place - 1) & 1
    assert log2([float(code)], None, "bit", 0, 15) == [2.0 ** (place + up)]


def test_the_rules_differ_between_root_two_and_one_and_a_half() -> None:
    assert log2([1.45], None, "nearest", -6, 9) == [2.0]
    assert log2([1.45], None, "bit", -6, 9) == [1.0]
    assert log2([99.0], None, "bit", -6, 9) == [128.0]  # 0110 0011b, the paper's example


def test_exponents_end_where_they_are_told() -> None:
    assert log2([0.0, -1.0, 1e-9, 1e9]) == [2.0**-6] * 3 + [2.0**9]
    assert log2([0.0, 1e9], None, "nearest", -2, 3) == [0.25, 8.0]


def test_codes_come_first_and_zero_counts_as_one() -> None:
    scale = torch.tensor(4.0)
    assert log2([0.5, 3.0, 21.9, 5000.0], scale) == [4.0, 4.0, 16.0, 512.0]


def test_the_gradient_passes_where_nothing_was_clipped() -> None:
    x = torch.tensor([1e-9, 3.0, 1e9], requires_grad=True)
    dialect.log2_quantize(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("arguments", [(None, "up"), (None, "bit", 3, 2)])
def test_what_it_does_not_know(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="a rule of nearest, bit"):
        dialect.log2_quantize(torch.ones(2), *arguments)


def test_it_stands_in_texts_and_files(tmp_path: object) -> None:
    from pathlib import Path

    program = parse(TEXT, {"scale": torch.tensor(0.5)})
    assert verify(program) == {}
    hold_to_text(program)
    save(program, Path(str(tmp_path)) / "program.safetensors")
    twin: Program = load(Path(str(tmp_path)))
    x = torch.rand(3, 5) * 100
    assert torch.equal(twin.run(x), program.run(x))


@pytest.mark.parametrize("change", [("'nearest'", "'other'"), ("-6, 9", "9, -6")])
def test_the_verifier_objects(change: tuple[str, str]) -> None:
    from vitgraph.ir.parser import TextError

    try:
        found = verify(parse(TEXT.replace(*change), {"scale": torch.tensor(0.5)}))
    except TextError:
        return
    assert found


def test_a_scale_must_be_positive() -> None:
    assert verify(parse(TEXT, {"scale": torch.tensor(0.0)}))

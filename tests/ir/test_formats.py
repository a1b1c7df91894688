"""Number formats: every value lands on its grid, stays there, and is off by half a step at most; INT4 packs and unpacks."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.quantizing.test_calibration import Rows
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.formats import FORMATS, Format, number_format, pack_int4, spread, unpack_int4
from vitgraph.ir.parser import parse
from vitgraph.quantizing.calibration import Observer as Watched
from vitgraph.quantizing.calibration import observe
from vitgraph.quantizing.scales import INT8, Statistics, threshold, weight_scales

NAMES = tuple(FORMATS)


def fp8_codes() -> Tensor:
    """Every finite number of E4M3FN, from its definition: sign, 4 bits of exponent (bias 7), 3 of mantissa."""
    found = {0.0}
    for exponent in range(16):
        for mantissa in range(8):
            if (exponent, mantissa) == (15, 7):
                continue  # the one pattern that is no number
            size = mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
            found |= {size, -size}
    return torch.tensor(sorted(found))


CODES = {"int8": torch.arange(-128.0, 128.0), "int4": torch.arange(-8.0, 8.0), "fp8": fp8_codes()}


@pytest.mark.parametrize("name", NAMES)
def test_limits_and_codes(name: str) -> None:
    grid, codes = FORMATS[name], CODES[name]
    assert (grid.low, grid.high) == (float(codes[0]), float(codes[-1]))
    assert torch.equal(grid.nearest(codes), codes)  # each code is its own nearest
    assert len(codes) == 2**grid.bits - (3 if name == "fp8" else 0)  # FP8: one zero, and two patterns are no numbers


@given(st.sampled_from(NAMES), st.floats(-1e4, 1e4, width=32))
def test_nearest_is_nearest(name: str, x: float) -> None:
    value = torch.tensor([x])
    (found,) = FORMATS[name].nearest(value)
    assert abs(float(found) - x) == float((CODES[name] - value).abs().min())


@given(
    st.sampled_from(NAMES),
    st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=20),
    st.floats(2.0**-8, 4.0, width=32),
)
def test_on_the_grid_again_the_same_and_half_a_step_off_at_most(name: str, values: list[float], step: float) -> None:
    x, scale = torch.tensor(values), torch.tensor(step)
    once = dialect.fake_quantize(x, scale, None, name)
    assert bool(torch.isin(dialect.quantize_values(x, scale, None, name).float(), CODES[name]).all())
    assert torch.equal(dialect.fake_quantize(once, scale, None, name), once)
    inside = x.abs() <= scale * FORMATS[name].high
    bound = scale / 2 if name != "fp8" else torch.maximum(scale * 2.0**-10, x.abs() / 16)  # 3 bits of mantissa
    assert bool(((once - x).abs() <= bound * (1 + 1e-5))[inside].all())
    assert bool((once[~inside].abs() >= scale * FORMATS[name].high * (1 - 1e-6)).all())


def test_a_pair_without_a_format_is_int8_and_formats_differ() -> None:
    x, scale = torch.linspace(-3, 3, 101), torch.tensor(0.1)
    plain = dialect.fake_quantize(x, scale)
    assert torch.equal(plain, dialect.fake_quantize(x, scale, None, "int8"))
    assert not torch.equal(plain, dialect.fake_quantize(x, scale, None, "int4"))
    assert not torch.equal(plain, dialect.fake_quantize(x, scale, None, "fp8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_has_no_sign_and_its_bits_are_zero(name: str) -> None:
    codes = dialect.quantize_values(torch.tensor([-0.0, -1e-30, 0.0]), torch.tensor(1.0), None, name)
    assert torch.equal(codes.view(torch.uint8), torch.zeros(3, dtype=torch.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_passes_where_nothing_was_clipped(name: str) -> None:
    grid = FORMATS[name]
    x = torch.tensor([grid.low * 2, 0.3, grid.high, grid.high * 2], requires_grad=True)
    dialect.fake_quantize(x, torch.tensor(1.0), None, name).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.tensor([0.0, 1.0, 1.0, 0.0]))


def test_unknown_formats_and_codes_of_another_are_objected_to() -> None:
    with pytest.raises(ValueError, match="there are int8, int4, fp8"):
        number_format("int3")
    with pytest.raises(ValueError, match="fp8 codes are"):
        dialect.dequantize(torch.zeros(3, dtype=torch.int8), torch.tensor(1.0), None, "fp8")


@given(st.lists(st.integers(-8, 7), max_size=33))
def test_int4_packs_and_unpacks(codes: list[int]) -> None:
    tensor = torch.tensor(codes, dtype=torch.int8)
    packed = pack_int4(tensor)
    assert packed.dtype == torch.uint8
    assert len(packed) == math.ceil(len(codes) / 2)
    assert torch.equal(unpack_int4(packed, len(codes)), tensor)


def test_int4_lies_low_half_first() -> None:
    packed = pack_int4(torch.tensor([[1, -1], [-8, 7]], dtype=torch.int8))
    assert torch.equal(packed, torch.tensor([0xF1, 0x78], dtype=torch.uint8))


def test_a_scale_for_each_group() -> None:
    scale = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    assert torch.equal(spread(scale, 1, (2, 4)), torch.tensor([[1.0, 1, 10, 10], [2, 2, 20, 20]]))
    assert torch.equal(spread(scale, 0, (4, 2)), torch.tensor([[1.0, 10], [1, 10], [2, 20], [2, 20]]))
    x = torch.randn(2, 4)
    pair = dialect.fake_quantize(x, scale, 1, "int4")
    assert torch.equal(pair[:, 2:], dialect.fake_quantize(x[:, 2:], scale[:, 1], 0, "int4"))


@given(st.sampled_from(NAMES), st.sampled_from([None, 2, 8]), st.sampled_from(["minmax", "mse"]))
def test_the_largest_weight_of_a_scale_is_the_largest_code_or_clipped(
    name: str, group: int | None, method: str
) -> None:
    weight = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    scale = weight_scales(weight, method, FORMATS[name], group)  # type: ignore[arg-type]
    assert scale.shape == ((6,) if group is None else (6, 16 // group))
    codes = dialect.quantize_values(weight, scale, 0 if group is None else 1, name).float()
    top = codes.abs().reshape(*scale.shape, -1).amax(-1)
    assert bool((top >= FORMATS[name].high * (1 - 1e-5)).all())


def test_groups_are_nearer_than_channels() -> None:
    weight = torch.randn(8, 64) * torch.logspace(-2, 0, 64)
    errors = list[float]()
    for group, axis in ((None, 0), (16, 1), (8, 1)):
        scale = weight_scales(weight, "minmax", FORMATS["int4"], group)
        errors.append(float((dialect.fake_quantize(weight, scale, axis, "int4") - weight).square().sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2


def seen(values: Tensor) -> Statistics:
    program = parse(f"x: f32[N, {values.shape[1]}] = input()\nreturn_(x)")
    return observe(program, [Watched(program.inputs[0])], Rows(values))[0]


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_no_threshold_of_the_searched_has_less_error(name: str) -> None:
    values, grid = torch.randn(64, 128), FORMATS[name]

    def error(top: float, by: Format = grid) -> float:
        return float(
            (dialect.fake_quantize(values, torch.tensor(top / by.high), None, by.name) - values).square().sum()
        )

    found = threshold(seen(values), "mse", grid=grid)
    largest = float(values.abs().max())
    assert error(found) <= min(error(largest * 2.0 ** (-i / 18)) for i in range(127)) * 1.02
    if name == "int4":  # fewer codes: clipping more pays
        assert found < 0.8 * threshold(seen(values), "mse", grid=INT8)


def test_entropy_needs_equal_steps() -> None:
    statistics = seen(torch.randn(4, 32))
    assert threshold(statistics, "entropy", grid=FORMATS["int4"]) > 0
    with pytest.raises(InputError, match="fp8 does not have; take mse or minmax"):
        threshold(statistics, "entropy", grid=FORMATS["fp8"])

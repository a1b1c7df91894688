"""Times of linears out of measured rows: exact, corrected by the nearest, or the cost model's; and the choice that follows."""

import statistics

import pytest

from vitgraph.cost.kernel import Kernel, linear
from vitgraph.cost.measured import Form, Measured, MeasuredProduct, MeasuredTime
from vitgraph.cost.measured_choice import FormChoice, choose, told
from vitgraph.cost.measured_files import shipped
from vitgraph.cost.measured_times import FORMS, MeasuredTimes, form_of, parts_of
from vitgraph.cost.roofline import Roofline, roofline
from vitgraph.cost.workload import DENSE, Attention, Zeros, two_of_four
from vitgraph.ir.packing import Packing
from vitgraph.targets.target import get_target

SHIPPED = shipped()


def line_of(name: str = "h200") -> Roofline:
    found = roofline(get_target(name))
    assert isinstance(found, Roofline)
    return found


H200 = MeasuredTimes(line_of(), SHIPPED)
SPARSE = two_of_four("int8")
ROLES = {"qkv": (3, 1), "proj": (1, 1), "fc1": (4, 1), "fc2": (1, 4)}


def site(role: str, width: int, kind: str = "int8", zeros: Zeros = SPARSE) -> Kernel:
    """A linear of a ViT of this width on the 197 tokens of one image."""
    n, k = ROLES[role]
    return linear(role, 197, n * width, k * width, kind, zeros)


def without(*left_out: MeasuredProduct) -> Measured:
    return SHIPPED.model_copy(update={"products": [each for each in SHIPPED.products if each not in left_out]})


def row(rows: int, n: int, k: int) -> MeasuredProduct:
    return next(each for each in SHIPPED.products if each.padded == (rows, n, k))


def test_a_row_of_the_size_is_taken_as_it_stands() -> None:
    found = H200.of(site("qkv", 768), 128, "fp16")
    assert found is not None
    assert (found.product_us, found.after_us, found.source) == (159.81, 0.0, "measured")


def test_rows_are_told_apart_as_they_are_padded() -> None:
    """One image has 197 tokens, and was measured as 224."""
    found = H200.of(site("qkv", 768), 1, "fp8")
    assert found is not None
    assert found.source == "measured"


def test_a_bare_product_has_its_passes_estimated() -> None:
    sparse, dense = (H200.of(site("proj", 768), 128, form) for form in ("int8 2:4", "int8"))
    assert sparse is not None
    assert dense is not None
    pass_us = 1e3 * H200.line.move(25216 * 768 * (2 + 2)).ms
    assert sparse.after_us == pytest.approx(pass_us)
    assert dense.after_us == pytest.approx(1e3 * H200.line.move(25216 * 768 * (4 + 2)).ms), "INT32 is read"
    assert sparse.us == pytest.approx(30.822 + pass_us)


def test_a_size_between_is_corrected_by_the_nearest_row() -> None:
    left_out = row(25216, 2304, 768)
    times = MeasuredTimes(line_of(), without(left_out))
    found = times.of(site("qkv", 768), 128, "int8")
    assert found is not None
    assert found.source == "corrected"
    estimate = 1e3 * linear("", 25216, 2304, 768, "int8").estimate(line_of()).ms
    nearest = row(25216, 3072, 768)
    its_estimate = 1e3 * linear("", 25216, 3072, 768, "int8").estimate(line_of()).ms
    measured = next(each.us for each in nearest.times if each.form == "int8")
    assert measured is not None
    assert found.product_us == pytest.approx(estimate * measured / its_estimate)


@pytest.mark.parametrize("form", FORMS)
def test_correcting_is_nearer_than_the_model_alone(form: Form) -> None:
    """Each row left out in turn: the median error of what the others say of it."""
    plain, corrected = list[float](), list[float]()
    for product in SHIPPED.products:
        kernel = linear("", *product.padded, *parts_of(form))
        us = next(each.us for each in product.times if each.form == form)
        found = MeasuredTimes(line_of(), without(product)).of(kernel, 1, form)
        assert us is not None
        assert found is not None
        assert found.source == "corrected"
        plain.append(abs(1e3 * kernel.estimate(line_of()).ms / us - 1))
        corrected.append(abs(found.product_us / us - 1))
    assert statistics.median(corrected) < min(0.13, statistics.median(plain))


def test_without_rows_of_a_form_the_model_speaks() -> None:
    only = [
        each.model_copy(update={"times": [time for time in each.times if time.form == "fp16"]})
        for each in SHIPPED.products
    ]
    times = MeasuredTimes(line_of(), SHIPPED.model_copy(update={"products": only}))
    found = times.of(site("fc1", 768), 128, "int8 2:4")
    assert found is not None
    assert found.source == "estimated"
    assert found.after_us > 0, "its kernel is known to leave a pass"


def test_a_row_that_is_null_is_no_row() -> None:
    null = MeasuredTime(form="int8", us=None, kernel="k", why="no memory")
    first = SHIPPED.products[0]
    changed = first.model_copy(update={"times": [null]})
    times = MeasuredTimes(line_of(), SHIPPED.model_copy(update={"products": [changed, *SHIPPED.products[1:]]}))
    found = times.of(linear("", first.rows, first.n, first.k, "int8"), 1, "int8")
    assert found is not None
    assert found.source == "corrected"


def test_what_is_no_linear_has_no_time() -> None:
    attention = Kernel("a", "attention", "int8", Attention(12, 197, 197, 64, 64), 1.0)
    assert H200.of(attention, 1, "int8") is None
    turing = MeasuredTimes(line_of("rtx-turing"), SHIPPED)
    assert turing.of(site("fc1", 768), 1, "fp8") is None, "no units for it"
    assert turing.of(site("fc1", 768), 1, "int8 2:4") is None


def test_forms_and_their_parts() -> None:
    assert [form_of(*parts_of(form)) for form in FORMS] == list(FORMS)
    assert form_of("int8", Zeros(Packing(1, 4))) is None
    assert form_of("bf16", DENSE) is None


def choice_at(role: str, width: int, batch: int, times: MeasuredTimes = H200) -> FormChoice:
    found = choose(site(role, width), times, batch)
    assert found is not None
    return found


@pytest.mark.parametrize("role", list(ROLES))
def test_at_batch_128_masks_pay_at_width_768_and_not_at_192(role: str) -> None:
    small, large = choice_at(role, 192, 128), choice_at(role, 768, 128)
    assert {each.source for choice in (small, large) for each in choice.times.values()} == {"measured"}
    assert not small.gains("int8 2:4", small.dense)
    assert large.gains("int8 2:4", large.dense)
    assert (small.dense, large.dense) == ("fp16", "fp16"), "cuBLAS's dense INT8 is slower than FP16 on this card"


def test_a_wrong_row_changes_the_choice() -> None:
    """A negative control: the sparse product of one size told to be ten times as fast."""
    old = row(25216, 192, 192)
    times = [each.model_copy(update={"us": 1.0}) if each.form == "int8 2:4" else each for each in old.times]
    planted = SHIPPED.model_copy(update={"products": [*without(old).products, old.model_copy(update={"times": times})]})
    changed = choice_at("proj", 192, 128, MeasuredTimes(line_of(), planted))
    assert not choice_at("proj", 192, 128).gains("int8 2:4", "fp16")
    assert changed.us("int8 2:4") < choice_at("proj", 192, 128).us("int8 2:4") - 9


def test_a_few_percent_are_no_gain() -> None:
    choice = choice_at("fc1", 768, 128)
    us = choice.us("fp16")
    near = FormChoice(
        {**choice.times, "int8": choice.times["fp16"]},
        {**choice.inputs, "int8": choice.inputs["fp16"] - 0.04 * us},
        "int8",
    )
    far = FormChoice(near.times, {**near.inputs, "int8": choice.inputs["fp16"] - 0.06 * us}, "int8")
    assert not near.gains("int8", "fp16")
    assert far.gains("int8", "fp16")


def test_it_is_told_where_each_number_is_from() -> None:
    said = told(choice_at("proj", 768, 128), H200, 128)
    assert said.startswith("on NVIDIA H200 at batch 128: int8 2:4 30.82 us measured and ")
    assert "of passes estimated" in said
    assert "fp16 54.72 us measured" in said

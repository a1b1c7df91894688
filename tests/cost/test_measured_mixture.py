"""Measured products in place of estimates, and how many they were."""

import pytest

from vitgraph.cost.encoder import Encoder
from vitgraph.cost.estimates import describe_estimates, estimate_on, measured_forms
from vitgraph.cost.kernel import total
from vitgraph.cost.measured_files import shipped
from vitgraph.cost.measured_mixture import mixture
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.cost.roofline import Estimate, Roofline, roofline
from vitgraph.cost.workload import two_of_four
from vitgraph.targets.target import get_target

H200, A100 = get_target("h200"), get_target("a100")
LINE = roofline(H200)
assert isinstance(LINE, Roofline)
TIMES = MeasuredTimes(LINE, shipped())
KERNELS = Encoder(layers=12, hidden=768, heads=12, tokens=197).kernels("tensorrt", "fp16")


def test_rows_take_the_place_of_the_products_and_the_rest_is_estimated() -> None:
    found = mixture(KERNELS, TIMES, 128)
    assert (found.products, found.measured, found.counted) == (48, 48, "48 of 48")
    assert found.measured_ms == pytest.approx(12 * (159.81 + 54.719 + 206.231 + 189.426) / 1e3, rel=1e-3)
    rest = total(kernel.estimate(TIMES.line, 128) for kernel in KERNELS if not kernel.weights)
    assert found.total.ms == pytest.approx(found.measured_ms + rest.ms)
    assert found.total.mj is None


def test_another_batch_has_no_rows_and_stays_an_estimate() -> None:
    found = mixture(KERNELS, TIMES, 64)
    assert (found.measured, found.measured_ms) == (0, 0.0)
    plain = estimate_on(H200, KERNELS, 64)
    assert isinstance(plain, Estimate)
    assert found.total.ms == pytest.approx(plain.ms)


def test_only_the_device_that_was_measured_is_replaced() -> None:
    plain, replaced = (describe_estimates(KERNELS, 128, [A100, H200], times) for times in (None, TIMES))
    assert plain["estimated_ms"]["a100"] == replaced["estimated_ms"]["a100"]
    assert plain["estimated_ms"]["h200"] != replaced["estimated_ms"]["h200"]
    assert "measured" not in plain
    assert replaced["measured"]["card"] == "NVIDIA H200"
    assert replaced["measured"]["measured"] == 48


def test_zeros_are_skipped_where_the_measured_sparse_product_is_faster() -> None:
    sparse = Encoder(layers=1, hidden=192, heads=3, tokens=197).kernels("tensorrt", "int8", two_of_four("int8"))
    found = mixture(sparse, TIMES, 128)
    assert found.measured == 4
    wanted = [TIMES.of(kernel, 128, "int8 2:4") for kernel in sparse if kernel.weights]
    assert found.measured_ms == pytest.approx(sum(each.us for each in wanted if each is not None) / 1e3)


def test_each_form_is_counted() -> None:
    assert measured_forms(KERNELS, 128, TIMES) == {"fp16": "48 of 48", "int8": "48 of 48", "int8 2:4": "48 of 48"}

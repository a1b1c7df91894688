"""Tuning without a GPU: what is timed in which order, what becomes of the times, and of what fails."""

import pytest

from tests.backends.cuda.pretended_tuner import PRODUCTS, US, OutOfMemory, PretendedTuner
from vitgraph.backends.cuda.interleaved import Work
from vitgraph.backends.cuda.linear_sizes import LinearSize
from vitgraph.backends.cuda.timed_products import TUNED
from vitgraph.backends.cuda.tuning import tune
from vitgraph.cost.measured import Used
from vitgraph.cost.measured_files import parse_measured

SIZES = [LinearSize(197, 192, 192, (Used(batch=1, sites=["a", "b"]),)), LinearSize(394, 192, 192)]


def test_each_size_in_each_format_in_microseconds_of_one_product() -> None:
    device = PretendedTuner()
    found = tune(SIZES, device, rounds=4)
    assert [(each.rows, each.n, each.k) for each in found.products] == [(197, 192, 192), (394, 192, 192)]
    assert found.products[0].used == [Used(batch=1, sites=["a", "b"])]
    for product in found.products:
        assert {each.form: each.us for each in product.times} == US
        assert all(each.quartiles == (each.us, each.us) and each.covers == "site" for each in product.times)
    assert found.device.card == "Pretended H200"
    assert found.method.rounds == 4
    assert device.released == 2, "memory is returned after each size"
    assert parse_measured(found.to_json(), "file") == found


def test_formats_of_a_size_take_turns() -> None:
    device = PretendedTuner()
    tune(SIZES[:1], device, rounds=2)
    names = [name for name, _ in device.asked]
    assert names == [*TUNED, *TUNED[::-1], *TUNED]
    assert all(times == round(5e3 / (PRODUCTS * US[form])) for form, times in zip(TUNED, [t for _, t in device.asked[8:]], strict=True))  # fmt: skip


def test_out_of_memory_for_one_is_null_with_the_reason_and_the_rest_goes_on() -> None:
    device = PretendedTuner(fails={("int8 2:4", 197): OutOfMemory})
    first, second = tune(SIZES, device, rounds=2).products
    row = next(each for each in first.times if each.form == "int8 2:4")
    assert (row.us, row.quartiles, row.why) == (None, None, "the GPU's memory does not hold it")
    assert sum(each.us is not None for each in first.times) == 3
    assert all(each.us is not None for each in second.times)
    assert device.released == 2


def test_what_a_library_refuses_is_told_in_one_short_line() -> None:
    device = PretendedTuner(fails={("fp8", 197): lambda: RuntimeError("CUDA error:\n\x07 " + "x" * 500)})
    row = tune(SIZES[:1], device, rounds=1).products[0].times[-1]
    assert row.why is not None
    assert row.why.startswith("CUDA error: ")
    assert len(row.why) <= 160
    assert "\n" not in row.why


def test_a_format_that_a_size_has_not() -> None:
    row = tune([LinearSize(10, 10, 32)], PretendedTuner(), rounds=1).products[0].times[-1]
    assert row.why == "10 outputs are no multiple of 16"


def test_a_failure_in_the_rounds_leaves_the_size_null() -> None:
    class Breaks(PretendedTuner):
        def milliseconds(self, work: Work, times: int) -> float:
            raise RuntimeError("the launch timed out")

    device = Breaks()
    (product,) = tune(SIZES[:1], device, rounds=1).products
    assert {each.why for each in product.times} == {"the launch timed out"}
    assert device.released == 1


def test_an_interrupt_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(SIZES, PretendedTuner(fails={("fp16", 394): KeyboardInterrupt}), rounds=1)

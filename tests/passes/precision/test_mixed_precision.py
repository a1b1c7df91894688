"""What falls back from INT8 and what goes with it; budgets; and that the measure finds a planted culprit."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.harness import body, hold_to_text, ledger_findings, run
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.precision.mixed_precision import MixedPrecision
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.targets.target import get_target

CLASSIFIER = """
x: f32[N, 5, 32] = input()
w: f32[96, 32] = weight("qkv.weight")
b: f32[96] = weight("qkv.bias")
qkv: f32[N, 5, 96] = aten.linear.default(x, w, b)  # attn.qkv
r: f32[N, 5, 3, 2, 16] = aten.reshape.default(qkv, [-1, 5, 3, 2, 16])
p: f32[3, N, 2, 5, 16] = aten.permute.default(r, [2, 0, 3, 1, 4])
q: f32[N, 2, 5, 16] = aten.select.int(p, 0, 0)
k: f32[N, 2, 5, 16] = aten.select.int(p, 0, 1)
v: f32[N, 2, 5, 16] = aten.select.int(p, 0, 2)
a: f32[N, 2, 5, 16] = vitgraph.attention.default(q, k, v, None, 0.25)  # attn
s: f32[N, 5, 2, 16] = aten.permute.default(a, [0, 2, 1, 3])
m: f32[N, 5, 32] = aten.reshape.default(s, [-1, 5, 32])
w2: f32[32, 32] = weight("proj.weight")
o: f32[N, 5, 32] = aten.linear.default(m, w2, None)  # attn.proj
y: f32[N, 5, 32] = aten.add.Tensor(x, o)
w3: f32[64, 32] = weight("fc1.weight")
h: f32[N, 5, 64] = aten.linear.default(y, w3, None)  # mlp.fc1
g: f32[N, 5, 64] = aten.gelu.default(h)
w4: f32[32, 64] = weight("fc2.weight")
f: f32[N, 5, 32] = aten.linear.default(g, w4, None)  # mlp.fc2
z: f32[N, 5, 32] = aten.add.Tensor(y, f)
t: f32[N, 32] = aten.select.int(z, 1, 0)
w5: f32[10, 32] = weight("head.weight")
c: f32[N, 10] = aten.linear.default(t, w5, None)  # head
return_(c)
"""
"""One transformer block and a classifier of ten classes."""


class Noise:
    """Seeded images, given out in chunks of any size."""

    def __init__(self, count: int = 12, chunk: int | None = None) -> None:
        self.pixels = torch.randn(count, 5, 32, generator=torch.Generator().manual_seed(3))
        self.chunk = chunk

    def __len__(self) -> int:
        return len(self.pixels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, None]]:
        size = self.chunk or size
        yield from ((self.pixels[start : start + size], None) for start in range(0, len(self), size))


def context(**images: Any) -> Context:
    return Context(get_target("a100"), calibration=Noise(**images))


def quantized(*, outputs: bool = False, outlier: bool = False, **options: Any) -> Program:
    """The classifier after `quantize`; with an outlier, one channel of fc2's input is far larger than the others."""
    program = parse(CLASSIFIER)
    if outlier:
        with torch.no_grad():
            program.tensor("fc1.weight")[7] *= 1000.0
            program.tensor("fc2.weight")[:, 7] /= 1000.0
    return run(Quantize(outputs=outputs, method="minmax", **options), program, context())


def placed(
    step: MixedPrecision, program: Program, given: Context | None = None
) -> tuple[Program, dict[str, Any], dict[str, Any]]:
    """The result, the placement as a whole, and the rows by name."""
    given = given or context()
    result = run(step, program, given)
    hold_to_text(result)
    whole, *rows = ledger_findings(given)
    return result, whole, {f"{row['site']} {row['role']}": row for row in rows}


def floats(rows: dict[str, Any]) -> set[str]:
    return {name for name, row in rows.items() if row["decision"] == "float"}


def test_measures_every_switch_and_takes_nothing_back_without_a_budget() -> None:
    program = quantized(outputs=True)
    result, whole, rows = placed(MixedPrecision(), program)
    assert show(result) == show(program)
    assert list(rows) == [
        "attn.qkv qkv", "attn attention", "attn.proj proj", "attn.proj output", "mlp.fc1 fc1", "mlp.fc2 fc2", "mlp.fc2 output",
    ]  # fmt: skip
    assert all(row["kl_alone"] > 0 for row in rows.values())
    assert all(row["kl_all_but_one"] >= 0 for row in rows.values())
    assert {row["why"] for row in rows.values()} == {"no budget asks for a fall back"}
    assert whole["placement"] == "met"
    assert (whole["int8_linears"], whole["float_layers"], whole["images"]) == (4, 0, 12)


def test_the_text_after_taking_one_linear_back() -> None:
    result, _, rows = placed(MixedPrecision(max_float_layers=1, only=("fc2",)), quantized(outlier=True))
    assert floats(rows) == {"mlp.fc2 fc2"}
    assert body(show(result)) == body(show(quantized(outlier=True, skip=("fc2",))))


def test_what_goes_along_is_in_the_table_with_the_reason() -> None:
    _, _, rows = placed(MixedPrecision(max_drop=0.0, only=("fc2",)), quantized(outlier=True, outputs=True))
    assert floats(rows) == {"mlp.fc2 fc2", "mlp.fc2 output"}
    assert rows["mlp.fc2 fc2"]["why"].startswith("worth most: divergence ")
    assert rows["mlp.fc2 output"]["why"] == "goes with mlp.fc2: a product in floating point has no INT8 output"


def test_with_nothing_left_to_lose_all_is_floating_point() -> None:
    given = context()
    result, whole, _ = placed(MixedPrecision(max_drop=0.0), quantized(outputs=True, outlier=True), given)
    assert whole["placement"] == "met"
    assert whole["expected_drop"] == 0.0
    assert given.refusals == []
    assert show(run(MixedPrecision(max_drop=0.0), result, context())) == show(result)


def test_the_planted_culprit_is_the_one_taken_back() -> None:
    result, whole, rows = placed(MixedPrecision(max_float_layers=1), quantized(outlier=True))
    assert floats(rows) == {"mlp.fc2 fc2"}
    worst = max(rows, key=lambda name: float(rows[name]["kl_alone"]))
    assert worst == "mlp.fc2 fc2"
    assert min(rows, key=lambda name: float(rows[name]["kl_all_but_one"])) == "mlp.fc2 fc2"
    assert whole["kl"] < whole["kl_all_int8"] / 3
    (fc2,) = [node for node in result.calls(aten.linear.default) if node.meta["path"] == "mlp.fc2"]
    assert fc2.args[0].target is aten.gelu.default  # type: ignore[union-attr]


def test_a_broken_measure_takes_back_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: were the program not compared with the one in floating point, the culprit would go unseen."""
    from vitgraph.quantizing import sensitivity

    def blind(reference: Tensor, logits: Tensor) -> Any:
        return real(reference, reference)

    real: Callable[[Tensor, Tensor], Any] = sensitivity.Seen.of
    monkeypatch.setattr(sensitivity.Seen, "of", staticmethod(blind))
    _, _, rows = placed(MixedPrecision(max_float_layers=1), quantized(outlier=True))
    assert floats(rows) == set()


def test_a_budget_that_a_culprit_alone_breaks_costs_that_culprit_alone() -> None:
    program = quantized(outlier=True)
    _, before, _ = placed(MixedPrecision(), program)
    _, best, _ = placed(MixedPrecision(max_float_layers=1), program)
    budget = (before["expected_drop"] + best["expected_drop"]) / 2
    _, whole, rows = placed(MixedPrecision(max_drop=budget), program)
    assert floats(rows) == {"mlp.fc2 fc2"}
    assert whole["placement"] == "met"
    assert whole["expected_drop"] <= budget < whole["expected_drop_all_int8"]


def test_what_turns_out_not_to_be_needed_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitgraph.passes.precision.fallback_search import FallbackSearch

    def all_at_once(self: FallbackSearch) -> list[Any]:
        return [each for each in self.allowed() if each.is_linear]

    monkeypatch.setattr(FallbackSearch, "_pick", all_at_once)
    program = quantized(outlier=True)
    _, before, _ = placed(MixedPrecision(), program)
    _, whole, rows = placed(MixedPrecision(max_drop=before["expected_drop"] * 0.9), program)
    assert whole["placement"] == "met"
    assert whole["int8_linears"] >= 2
    assert any(row["why"].startswith("put back") for row in rows.values())


def test_a_budget_that_can_not_be_met_says_how_close_it_came() -> None:
    given = context()
    program = quantized(outlier=True)
    result, whole, rows = placed(MixedPrecision(max_drop=0.0, min_int8=4), program, given)
    assert whole["placement"] == "missed"
    assert 0 < whole["expected_drop"] <= whole["expected_drop_all_int8"]
    assert whole["int8_linears"] == 4
    (refusal,) = given.refusals
    assert re.search(r"expected to lose [\d.]+ points, over max_drop=0", refusal.why)
    assert rows["mlp.fc2 fc2"]["why"] == "min_int8=4 keeps it"
    assert sum(n.args[0].target is dialect.fake_quantize for n in result.calls(aten.linear.default)) == 4  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, 2])
def test_no_more_sites_than_allowed(count: int) -> None:
    _, whole, rows = placed(MixedPrecision(max_drop=0.0, max_float_layers=count), quantized(outputs=True, outlier=True))
    assert whole["float_layers"] <= count
    own = {name for name in floats(rows) if not rows[name]["why"].startswith("goes with mlp.fc2")}
    assert len(own) <= count


@pytest.mark.parametrize(("only", "skip"), [(("fc1",), ()), ((), ("fc2", "attn*"))])
def test_takes_back_only_what_it_may(only: tuple[str, ...], skip: tuple[str, ...]) -> None:
    _, _, rows = placed(MixedPrecision(max_drop=0.0, only=only, skip=skip), quantized(outlier=True))
    assert floats(rows) <= {"mlp.fc1 fc1"}
    assert "only, skip" in rows["mlp.fc2 fc2"]["why"]


def test_the_same_however_the_images_come_and_however_often() -> None:
    program = quantized(outlier=True)
    rows = [placed(MixedPrecision(max_drop=0.1), program, context(chunk=size)) for size in (1, 5, 12, 12)]
    assert rows[2][1:] == rows[3][1:]
    assert len({show(result) for result, _, _ in rows}) == 1
    for _, whole, _ in rows:
        assert whole["expected_drop"] == pytest.approx(rows[0][1]["expected_drop"], rel=1e-3, abs=1e-3)


def test_measures_on_no_more_images_than_asked() -> None:
    _, whole, _ = placed(MixedPrecision(images=7), quantized(), context(chunk=5))
    assert whole["images"] == 7


def test_a_static_batch_is_filled_and_the_filling_not_counted() -> None:
    fixed = run(
        Quantize(method="minmax"), parse(CLASSIFIER.replace("[N,", "[5,").replace("[3, N,", "[3, 5,")), context()
    )
    free = quantized()
    for name, tensor in free.tensors().items():  # the scales too: a static batch calibrates with its filling
        fixed.tensor(name).data = tensor.data
    _, ours, _ = placed(MixedPrecision(), fixed)
    _, theirs, _ = placed(MixedPrecision(), free)
    assert ours["images"] == theirs["images"] == 12
    assert ours["kl"] == pytest.approx(theirs["kl"], rel=1e-3)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("min_int8=9", "only 4 linears are INT8"),
        ("only=[fc9]", "matches no site"),
    ],
)
def test_bounds_that_this_program_cannot_keep(options: str, why: str) -> None:
    program = quantized()
    with pytest.raises(InputError, match=why):
        pipeline(f"mixed-precision{{{options}}}").run(program, context())


def test_asks_for_images() -> None:
    with pytest.raises(InputError, match="no calibration images"):
        run(MixedPrecision(), quantized(), Context(get_target("a100")))


def test_a_program_without_pairs_is_left_alone() -> None:
    given = context()
    run(MixedPrecision(max_drop=0.1), parse(CLASSIFIER), given)
    assert [(r.site, r.why) for r in given.refusals] == [
        ("model", "nothing in it is quantized, so there is nothing to fall back")
    ]


def test_stops_when_the_fuel_is_used_up() -> None:
    given = context()
    given.fuel = 2
    result = run(MixedPrecision(max_drop=0.0, only=("fc1", "fc2")), quantized(outlier=True), given)
    left = sum(n.args[0].target is dialect.fake_quantize for n in result.calls(aten.linear.default))  # type: ignore[union-attr]
    assert left == 3


def test_what_buys_no_time_falls_back_first_and_stays_so() -> None:
    program = quantized()
    result, whole, rows = placed(MixedPrecision(unprofitable=("mlp.fc1", "attn.proj"), max_drop=100.0), program)
    assert floats(rows) == {"mlp.fc1 fc1", "attn.proj proj", "attn attention"}
    assert rows["mlp.fc1 fc1"]["why"] == "unprofitable: INT8 buys it no time on the device"
    assert rows["attn attention"]["why"].startswith("goes with attn.proj: an INT8 attention hands")
    assert whole["expected_drop"] <= whole["expected_drop_all_int8"] or whole["kl"] <= whole["kl_all_int8"]
    assert body(show(result)) != body(show(program))
    assert (whole["int8_linears"], whole["placement"]) == (2, "met"), "the budget holds, and yet they are not put back"


def test_bounds_on_the_number_go_before_what_buys_no_time() -> None:
    _, whole, rows = placed(MixedPrecision(unprofitable=("mlp.*",), min_int8=3), quantized())
    assert whole["int8_linears"] == 3
    assert floats(rows) == {"mlp.fc1 fc1"}
    assert rows["mlp.fc2 fc2"]["why"] == "min_int8=3 keeps it"


def test_an_unprofitable_site_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"'mlp\.fc9' matches no site"):
        placed(MixedPrecision(unprofitable=("mlp.fc9",)), quantized())

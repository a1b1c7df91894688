"""Instruments: each is shown a fault it must notice, and a pass it must leave alone."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.planted import MLP, PLUGIN, installed
from vitgraph.errors import PassError
from vitgraph.frontend.capture import capture
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load
from vitgraph.pass_manager.instruments import Compare, Dump, Memory, Reproducer, Verify
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.pass_manager.pipeline import Instrument, Pipeline
from vitgraph.passes import pipeline

PLAIN = MLP.replace("(g, c, d)", "(g, c, None)")
"""Without the second linear's bias: what scales its input scales its output."""


@dataclass(frozen=True)
class Doing(Pass):
    """A pass whose work is handed in."""

    name: ClassVar[str] = "doing"
    effect: ClassVar[Effect] = Effect.EXACT

    work: Callable[[Program], None] = lambda program: None
    declared: Effect = Effect.EXACT

    def declares(self) -> Effect:
        return self.declared

    def run(self, program: Program, context: Context) -> None:
        self.work(program)


def probe() -> list[torch.Tensor]:
    return [torch.randn(4, 8, generator=torch.Generator().manual_seed(1))]


def run(work: Callable[[Program], None], watched: Sequence[Instrument], declared: Effect = Effect.EXACT) -> Program:
    return Pipeline((Doing(work, declared),)).run(parse(PLAIN), Context(probe=probe()), watched)


def leave(program: Program) -> None:
    """Nothing at all."""


def insert(program: Program, target: Any, *more: Any) -> None:
    """Put an operator between the activation and the second linear."""
    linear = program.calls(aten.linear.default)[1]
    linear.update_arg(0, program.insert(linear, target, linear.args[0], *more))


def insert_clone(program: Program) -> None:
    insert(program, aten.clone.default)


def scaled(factor: float) -> Callable[[Program], None]:
    return lambda program: insert(program, aten.mul.Tensor, factor)


def write_into_weight(program: Program) -> None:
    with torch.no_grad():
        program.tensor("fc1.weight").mul_(1.5)


def shrink_output(program: Program) -> None:
    last = program.output.args[0]
    assert isinstance(last, torch.fx.Node)
    program.output.args = (program.insert(program.output, aten.slice.Tensor, last, 1, 0, 5),)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (insert_clone, "not of the dialect"),
        (write_into_weight, "wrote into fc1.weight"),
        (shrink_output, "changed the signature"),
    ],
)
def test_verify_objects(work: Callable[[Program], None], said: str) -> None:
    run(work, [])  # without the instrument nobody notices
    with pytest.raises(PassError, match=said):
        run(work, [Verify()])


def test_verify_lets_a_valid_rewrite_pass() -> None:
    run(scaled(2.0), [Verify()])


def test_verify_keeps_no_weight_that_a_pass_replaces() -> None:
    """A large model's weights are not held twice while a pass runs."""
    program = parse(PLAIN)
    old = weakref.ref(program.tensor("fc1.weight"))
    watching = Verify()
    watching.before(Doing(), program, Context())
    linear = program.calls(aten.linear.default)[0]
    linear.update_arg(1, program.constant_node(linear, "fc1.other", program.tensor("fc1.weight").detach() * 2))
    assert old() is not None  # the program itself has it until it is cleaned
    program.clean()
    assert old() is None
    watching.after(Doing(), program, Context(), {})


@pytest.mark.parametrize(
    ("declared", "factor", "fine"),
    [
        (Effect.EXACT, 1.0, True),
        (Effect.EXACT, 1.0001, False),
        (Effect.REORDERS, 1.000001, True),
        (Effect.REORDERS, 1.01, False),
        (Effect.LOSSY, 1.1, True),
        (Effect.LOSSY, 2.0, False),
    ],
)
def test_compare_holds_to_the_declared_effect(declared: Effect, factor: float, fine: bool) -> None:
    if fine:
        run(scaled(factor), [Compare()], declared)
        return
    with pytest.raises(PassError, match=f"declared {declared.value}"):
        run(scaled(factor), [Compare()], declared)


def test_compare_allows_what_the_coarsest_type_on_the_way_rounds() -> None:
    """Whose outputs are FP32 again, as those of a mixed model are."""
    half = "s: f16[4, 16] = aten.to.dtype(g, f16)\nm: f32[4, 16] = aten.to.dtype(s, f32)\nc: f32"
    mixed = PLAIN.replace("c: f32", half).replace("(g, c", "(m, c")
    steps = Pipeline((Doing(scaled(1.001), Effect.REORDERS),))
    steps.run(parse(mixed), Context(probe=probe()), [Compare()])
    with pytest.raises(PassError, match="declared reorders"):
        steps.run(parse(PLAIN), Context(probe=probe()), [Compare()])


def test_compare_holds_to_the_ranking() -> None:
    def halve(program: Program) -> None:
        program.output.args = (program.insert(program.output, aten.mul.Tensor, program.output.args[0], 0.5),)

    def negate(program: Program) -> None:
        program.output.args = (program.insert(program.output, aten.mul.Tensor, program.output.args[0], -1.0),)

    run(halve, [Compare()], Effect.RANKING)
    with pytest.raises(PassError, match="order of the outputs"):
        run(negate, [Compare()], Effect.RANKING)


def test_compare_writes_the_drift_ledger() -> None:
    entry = run(scaled(1.1), [Compare()], Effect.LOSSY).ledger[0]
    drift = entry["drift"]
    assert 0.01 < drift["relative_l2"] < 0.5
    assert drift["worst_site"]["site"] == "fc2"
    assert drift["worst_site"]["snr_db"] == pytest.approx(20, abs=0.1)
    assert drift["since_start"]["relative_l2"] == drift["relative_l2"]
    assert run(leave, [Compare()]).ledger[0]["drift"] is None, "nothing ran, so nothing was measured"


def test_drift_adds_up_over_passes() -> None:
    steps = Pipeline((Doing(scaled(1.1), Effect.LOSSY), Doing(scaled(1.1), Effect.LOSSY)))
    first, second = steps.run(parse(MLP), Context(probe=probe()), [Compare()]).ledger
    assert second["drift"]["since_start"]["relative_l2"] > 1.5 * first["drift"]["relative_l2"]
    assert second["drift"]["relative_l2"] < 1.5 * first["drift"]["relative_l2"]


def test_compare_needs_a_probe() -> None:
    with pytest.raises(PassError, match="probe"):
        Pipeline((Doing(),)).run(parse(MLP), Context(), [Compare()])


@pytest.mark.parametrize(
    ("name", "instrument", "blind", "said"),
    [
        ("planted-invalid", Verify, Compare, "aten.clone.default"),
        ("planted-off", Compare, Verify, "relative L2 drift"),
        ("planted-loud", Compare, Verify, "fc2 keeps 0.0 dB"),
    ],
)
def test_planted_passes_are_caught_by_the_right_instrument(
    name: str, instrument: type[Verify | Compare], blind: type[Verify | Compare], said: str
) -> None:
    with installed():
        steps = pipeline(f"{name}{{at=fc2}}")
        steps.run(parse(MLP), Context(probe=probe()), [blind()])
        with pytest.raises(PassError, match=said):
            steps.run(parse(MLP), Context(probe=probe()), [instrument()])
    assert (PLUGIN / "planted_passes").is_dir()


@pytest.mark.parametrize(("when", "count"), [("before", 2), ("after", 2), ("change", 1)])
def test_dump_prints_at_its_moment(when: Any, count: int) -> None:
    printed = list[str]()
    Pipeline((Doing(leave), Doing(scaled(1.5)))).run(parse(MLP), Context(), [Dump(when, write=printed.append)])
    assert len(printed) == count
    assert ("aten.mul" in printed[-1]) == (when != "before")


def test_dump_picks_passes_and_writes_files(tmp_path: Path) -> None:
    Pipeline((Doing(leave), Doing(scaled(1.5)))).run(parse(MLP), Context(), [Dump("after", folder=tmp_path / "dumps")])
    files = sorted((tmp_path / "dumps").iterdir())
    assert [file.name for file in files] == ["01-after-doing.txt", "02-after-doing.txt"]
    assert show(parse(files[1].read_text())) == files[1].read_text()
    printed = list[str]()
    Pipeline((Doing(),)).run(parse(MLP), Context(), [Dump("after", frozenset({"other"}), printed.append)])
    assert printed == []


def test_memory_is_measured() -> None:
    assert run(leave, [Memory()]).ledger[0]["peak_rss_mb"] > 50


def test_reproducer_keeps_what_the_pass_was_given(tmp_path: Path) -> None:
    file = tmp_path / "again.safetensors"
    with installed():
        steps = pipeline("planted-loud{at=head},planted-invalid")
    with pytest.raises(PassError):
        steps.run(parse(MLP), Context(), [Reproducer(file, {"target": "a100"}), Verify()])
    given = load(file)
    assert "fc1.weight_scaled" in show(given)
    assert "aten.clone" not in show(given)
    assert given.provenance["reproduce"]["pipeline"] == "planted-invalid"
    assert given.provenance["reproduce"]["settings"] == {"target": "a100"}
    assert "not of the dialect" in given.provenance["reproduce"]["error"]


def test_reproducer_is_written_for_a_crash_and_not_for_a_success(tmp_path: Path) -> None:
    def crash(program: Program) -> None:
        raise ZeroDivisionError("planted")

    run(leave, [Reproducer(tmp_path / "no")])
    assert not (tmp_path / "no").exists()
    with pytest.raises(PassError, match="ZeroDivisionError: planted"):
        run(crash, [Reproducer(tmp_path / "yes")])
    assert load(tmp_path / "yes").name == "mlp"


class Branch(nn.Module):
    """A residual branch of two linears, so much of which reaches the output."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.fc1, self.fc2, self.share = nn.Linear(8, 8), nn.Linear(8, 8), share

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = x + self.share * self.fc2(self.fc1(x).relu())
        return added


def spoil_fc1(program: Program) -> None:
    """Another weight altogether, of the same sizes."""
    linear = program.calls(aten.linear.default)[0]
    linear.update_arg(1, program.constant_node(linear, "fc1.other", -program.tensor("fc1.weight")))
    program.clean()


def test_a_spoilt_site_is_a_fault_where_it_reaches_the_output() -> None:
    steps = Pipeline((Doing(spoil_fc1, Effect.LOSSY),))

    def drift(share: float) -> dict[str, Any]:
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
        program = capture(Branch(share), probe()[0])
        found: dict[str, Any] = steps.run(program, Context(probe=probe()), [Compare()]).ledger[0]["drift"]
        return found

    told = drift(1e-4)
    assert told["worst_site"]["site"] == "fc1"
    assert told["worst_site"]["snr_db"] < 0
    assert told["below_floor"]["sites"] == ["fc1"]  # fc2 is judged on what the reference's fc1 gives
    assert told["below_floor"]["output_snr_db"] > 60
    with pytest.raises(PassError, match=r"fc1 keeps -\d+.\d dB, which leaves -?[01].\d dB of the output"):
        drift(100.0)

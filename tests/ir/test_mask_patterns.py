"""Patterns as the program declares them, in its text too, and the verifier's word where a weight has lost its own."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.planted import MLP
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.engine_check import judge_patterns
from vitgraph.backends.tensorrt.engine_plan import plan_engine
from vitgraph.errors import PassError
from vitgraph.ir.mask_patterns import lost
from vitgraph.ir.navigate import path_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import TextError, parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load, save
from vitgraph.ir.verify import verify
from vitgraph.pass_manager.instruments import Verify
from vitgraph.passes import pipeline
from vitgraph.targets.target import get_target


def masked(steps: str = "nm-mask", text: str = MLP) -> Program:
    return pipeline(steps).run(parse(text))


def names(program: Program) -> list[str]:
    return [path_of(node) for node, _ in lost(program)]


def test_the_program_declares_every_pattern() -> None:
    steps = "nm-mask{only=[fc1]},nm-mask{n=2 m=8 v=8 only=[fc2]},nm-mask{group_size=2 only=[head]}"
    assert masked(steps).masks == {
        ("fc1", 0): Packing(2, 4),
        ("fc2", 0): Packing(2, 8, v=8),
        ("head", 0): Packing(2, 4, group_size=2),
    }
    assert parse(MLP).masks == {}


@pytest.mark.parametrize("steps", ["nm-mask", "nm-mask,materialize"])
def test_a_weight_that_is_denser_than_its_mask_is_told(steps: str) -> None:
    program = masked(steps)
    assert names(program) == []
    assert verify(program) == {}
    name = "fc1.weight_keep" if steps == "nm-mask" else "fc1.weight_masked"
    program.tensor(name)[3, :4] = 1
    assert names(program) == ["fc1"]
    assert [violation for violations in verify(program).values() for violation in violations] == [
        "its weight was masked 2:4 and is denser now"
    ]


def test_a_pipeline_stops_after_the_pass_that_lost_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    from vitgraph.passes.quantization.materialize import Materialize

    def forgets(step: Materialize, program: Program, context: object) -> None:
        for node in program.calls(torch.ops.vitgraph.mask.default):
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]

    steps = pipeline("nm-mask,materialize")
    assert steps.run(parse(MLP), instruments=[Verify()])
    monkeypatch.setattr(Materialize, "run", forgets)
    with pytest.raises(
        PassError, match=r"pass 'materialize' left an invalid graph, 2 violation.*masked 2:4 and is denser"
    ):
        steps.run(parse(MLP), instruments=[Verify()])


def test_what_has_no_values_is_not_judged() -> None:
    program = masked()
    program.module.fc1.weight_keep = program.tensor("fc1.weight_keep").to("meta")  # type: ignore[union-attr]
    assert names(program) == []


SHARED = """
x: f32[4, 16] = input()
a: f32[8, 16] = weight("fc1.weight")
h: f32[4, 8] = aten.linear.default(x, a, None)  # fc
g: f32[4, 8] = aten.gelu.default(h)  # act
c: f32[16, 8] = weight("fc2.weight")
y: f32[4, 16] = aten.linear.default(g, c, None)  # fc
return_(y)
"""


def test_linears_under_one_path_are_told_apart() -> None:
    """Each has its own mask, or none: the second's K of 8 holds no group of 16."""
    program = masked("nm-mask{n=8 m=16 only=[fc]}", SHARED)
    assert len(program.ledger[-1]["refused"]) == 1
    assert program.masks == {("fc", 0): Packing(8, 16)}
    assert names(program) == []
    program.tensor("fc1.weight_keep")[0] = True
    assert names(program) == ["fc"]
    both = masked("nm-mask{n=8 m=16 only=[fc]},nm-mask{only=[fc] n=1}", SHARED)
    assert both.masks == {("fc", 0): Packing(8, 16), ("fc", 1): Packing(1, 4)}
    assert names(both) == []
    both.tensor("fc2.weight_keep")[0, :2] = True
    assert [pattern for _, pattern in lost(both)] == [Packing(1, 4)]


def test_a_dense_linear_beside_a_masked_one_owes_nothing_in_the_file(tmp_path: Path) -> None:
    program = masked("nm-mask{n=8 m=16 only=[fc]},materialize", SHARED)
    plan = plan_engine(program, lower(program, tmp_path / "m.onnx"), get_target("a100"))
    assert [linear.masked for linear in plan.linears] == [Packing(8, 16), None]
    assert judge_patterns(plan) == ()


def _pattern(kept: tuple[int, int], group_size: int, v: int) -> Packing:
    return Packing(*kept, group_size, v)


def patterns() -> st.SearchStrategy[Packing]:
    """Any N:M pattern, in pairs or in tiles too."""
    sizes = st.integers(2, 40).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m)))
    return st.builds(_pattern, sizes, st.integers(1, 4), st.sampled_from([1, 16, 64]))


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["fc1", "blocks.0.a b", "x 2:4", "model"]), st.integers(0, 3)), patterns()
    )
)
def test_masks_read_back_from_the_text(masks: dict[tuple[str, int], Packing]) -> None:
    program = parse(MLP)
    program.masks = masks
    twin = parse(show(program))
    assert twin.masks == masks
    assert show(twin) == show(program)


def test_the_header_names_what_is_not_usual() -> None:
    program = parse(MLP)
    program.masks = {
        ("fc2", 0): Packing(2, 4),
        ("fc1", 1): Packing(2, 8, v=64),
        ("fc1", 0): Packing(2, 4, group_size=2),
    }
    assert show(program).splitlines()[2:5] == [
        "# mask: fc1 2:4 group_size=2",
        "# mask: fc1 2:8 v=64 occurrence=1",
        "# mask: fc2 2:4",
    ]


@pytest.mark.parametrize("steps", ["nm-mask", "nm-mask,materialize", "nm-mask{n=2 m=8 v=8 only=[fc2]}"])
@pytest.mark.parametrize("with_weights", [True, False])
def test_the_verifier_holds_a_text_that_was_read_back(steps: str, with_weights: bool) -> None:
    """The weights drawn for a text have its patterns; one that is denser is told."""
    program = masked(steps)
    twin = parse(show(program), program.tensors() if with_weights else None)
    assert twin.ledger == []
    assert twin.masks == program.masks
    assert verify(twin) == {}
    place = next(iter(twin.masks))[0]
    node = next(node for node in twin.calls(torch.ops.aten.linear.default) if path_of(node) == place)
    name = next(name for name in twin.tensors() if name.startswith(place) and name.endswith(("_keep", "_masked")))
    twin.tensor(name)[0] = 1
    assert names(twin) == [place]
    assert "is denser now" in verify(twin)[node][0]


@pytest.mark.parametrize("steps", ["nm-mask", "nm-mask,quantize{activation_format=float},materialize"])
def test_a_saved_program_keeps_its_masks_and_a_copy_has_its_own(steps: str, tmp_path: Path) -> None:
    program = masked(steps)
    save(program, tmp_path / "p.safetensors")
    assert load(tmp_path / "p.safetensors").masks == program.masks != {}
    copy = program.copy()
    copy.masks.clear()
    assert program.masks != {}


@pytest.mark.parametrize(
    "line",
    [
        "# mask: fc1",
        "# mask: fc1 4:2",
        "# mask: fc1 2:4 rows=3",
        "# mask: fc1 0:4",
        "# mask: fc1 2:4 v=0",
        "# mask: 2:4",
    ],
)
def test_a_header_that_is_no_mask_is_named_with_its_line(line: str) -> None:
    with pytest.raises(TextError, match=r"line 2: # mask: "):
        parse(MLP.replace("# program: mlp", line))


@pytest.mark.parametrize("place", ["fc3 2:4", "fc1 2:4 occurrence=1", "act 2:4"])
def test_a_mask_of_no_linear_is_a_violation(place: str) -> None:
    program = parse(MLP.replace("# program: mlp", f"# mask: {place}"))
    (said,) = next(iter(verify(program).values()))
    assert said.startswith(f"the mask of '{place.split()[0]}'")
    program.masks.clear()
    assert verify(program) == {}


def test_a_later_mask_counts() -> None:
    program = parse(MLP)
    program.masks["fc1", 0] = Packing(1, 2)
    assert pipeline("nm-mask{only=[fc1]}").run(program).masks == {("fc1", 0): Packing(2, 4)}

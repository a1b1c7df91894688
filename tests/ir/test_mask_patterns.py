"""Patterns as the ledger declares them, and the verifier's word where a weight has lost its own."""

from pathlib import Path

import pytest
import torch

from tests.planted import MLP
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt.engine_check import judge_patterns
from vitgraph.backends.tensorrt.engine_plan import plan_engine
from vitgraph.errors import PassError
from vitgraph.ir.mask_patterns import declared, lost
from vitgraph.ir.navigate import path_of
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.ir.verify import verify
from vitgraph.pass_manager.instruments import Verify
from vitgraph.passes import pipeline
from vitgraph.targets.target import get_target


def masked(steps: str = "nm-mask", text: str = MLP) -> Program:
    return pipeline(steps).run(parse(text))


def names(program: Program) -> list[str]:
    return [path_of(node) for node, _ in lost(program)]


def test_the_ledger_declares_every_pattern() -> None:
    steps = "nm-mask{only=[fc1]},nm-mask{n=2 m=8 v=8 only=[fc2]},nm-mask{group_size=2 only=[head]}"
    assert declared(masked(steps)) == {
        ("fc1", 0): Packing(2, 4),
        ("fc2", 0): Packing(2, 8, v=8),
        ("head", 0): Packing(2, 4, group_size=2),
    }
    assert declared(parse(MLP)) == {}


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
    assert declared(program) == {("fc", 0): Packing(8, 16)}
    assert names(program) == []
    program.tensor("fc1.weight_keep")[0] = True
    assert names(program) == ["fc"]
    both = masked("nm-mask{n=8 m=16 only=[fc]},nm-mask{only=[fc] n=1}", SHARED)
    assert declared(both) == {("fc", 0): Packing(8, 16), ("fc", 1): Packing(1, 4)}
    assert names(both) == []
    both.tensor("fc2.weight_keep")[0, :2] = True
    assert [pattern for _, pattern in lost(both)] == [Packing(1, 4)]


def test_a_dense_linear_beside_a_masked_one_owes_nothing_in_the_file(tmp_path: Path) -> None:
    program = masked("nm-mask{n=8 m=16 only=[fc]},materialize", SHARED)
    plan = plan_engine(program, lower(program, tmp_path / "m.onnx"), get_target("a100"))
    assert [linear.masked for linear in plan.linears] == [Packing(8, 16), None]
    assert judge_patterns(plan) == ()

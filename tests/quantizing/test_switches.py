"""What can fall back from INT8, what goes with it, and that no half-quantized kernel is left."""

from typing import Any

import pytest

from tests.harness import body, run
from tests.passes.precision.test_mixed_precision import quantized
from tests.passes.quantization.test_quantize import SEPARATE, block, context
from vitgraph.ir import dialect
from vitgraph.ir.dialect import aten
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.passes.quantization.quantize import Quantize
from vitgraph.quantizing.switches import Switch, Switches, find_switches, take_back


def named(switches: Switches) -> dict[str, Switch]:
    return {f"{switch.path} {switch.role}": switch for switch in switches.all}


def after(program: Program, name: str) -> Program:
    """The program with one switch, and what goes with it, fallen back."""
    work = program.copy()
    switches = find_switches(work)
    take_back(work, switches.off(named(switches)[name]))
    work.clean()
    return work


def hold_whole(program: Program) -> None:
    """An attention reads q, k and v through pairs, rounds its softmax and feeds an INT8 linear, or none of it."""
    for node in program.calls(dialect.attention):
        rounded = len(node.args) > 5
        for operand in node.args[:3]:
            assert _after(operand) is rounded
        if rounded:
            assert any(
                _after(linear.args[0]) for linear in program.calls(aten.linear.default) if "proj" in linear.meta["path"]
            )


def _after(value: Any) -> bool:
    """Is there a pair before anything that computes?"""
    moves = (aten.select.int, aten.permute.default, aten.reshape.default)
    while value.target in moves:
        value = value.args[0]
    return value.target is dialect.fake_quantize


def test_every_switch_of_a_block() -> None:
    switches = find_switches(quantized(outputs=True))
    assert list(named(switches)) == [
        "attn.qkv qkv", "attn attention", "attn.proj proj", "attn.proj output", "mlp.fc1 fc1", "mlp.fc2 fc2", "mlp.fc2 output",
    ]  # fmt: skip
    owned = [edge for switch in switches.all for edge in switch.edges]
    assert len(owned) == len(set(owned))
    assert [each.n for each in switches.all if each.role == "attention"] == [5]


@pytest.mark.parametrize(
    ("name", "along"),
    [
        ("attn.qkv qkv", []),
        ("attn attention", []),
        ("attn.proj proj", ["attn attention", "attn.proj output"]),
        ("attn.proj output", []),
        ("mlp.fc1 fc1", []),
        ("mlp.fc2 fc2", ["mlp.fc2 output"]),
    ],
)
def test_what_goes_along(name: str, along: list[str]) -> None:
    program = quantized(outputs=True)
    switches = find_switches(program)
    by_name = named(switches)
    assert switches.off(by_name[name]) == {by_name[name], *(by_name[each] for each in along)}
    left = after(program, name)
    hold_whole(left)
    assert set(named(find_switches(left))) == set(by_name) - {name, *along}


def test_a_linear_left_to_itself_would_leave_half_an_attention() -> None:
    program = quantized()
    switches = find_switches(program)
    take_back(program, [named(switches)["attn.proj proj"]])
    program.clean()
    with pytest.raises(AssertionError):
        hold_whole(program)


def test_the_text_is_that_of_quantizing_less() -> None:
    for name, less in {
        "mlp.fc1 fc1": Quantize(method="minmax", skip=("fc1",)),
        "attn.proj proj": Quantize(method="minmax", skip=("proj",)),
        "attn attention": Quantize(method="minmax", attention=False),
    }.items():
        whole = run(Quantize(method="minmax"), parse(block()), context()) if "fc1" not in name else quantized()
        wanted = run(less, parse(block()), context()) if "fc1" not in name else quantized(skip=("fc1",))
        assert body(show(after(whole, name))) == body(show(wanted)), name


def test_after_a_linear_in_floating_point_the_attention_keeps_its_pairs() -> None:
    left = after(quantized(), "attn.qkv qkv")
    (attention,) = left.calls(dialect.attention)
    assert len(attention.args) == 6
    (qkv,) = [node for node in left.calls(aten.linear.default) if node.meta["path"] == "attn.qkv"]
    assert [user.target for user in qkv.users] == [dialect.fake_quantize]
    assert qkv.args[0].op == "placeholder"  # type: ignore[union-attr]


def test_a_value_that_several_linears_read_is_taken_back_for_one_of_them() -> None:
    program = run(Quantize(only=("q", "k", "v", "head")), parse(SEPARATE), context(channels=16))
    left = after(program, "k k")
    readers = {node.meta["path"]: node.args[0] for node in left.calls(aten.linear.default)}
    assert readers["k"] is left.inputs[0]
    assert readers["q"] is readers["v"]
    assert readers["q"].target is dialect.fake_quantize  # type: ignore[union-attr]


@pytest.mark.parametrize(("moved", "switches"), [(False, ["attn", "other"]), (True, ["attn"])])
def test_attentions_that_read_one_reshaped_pair_go_together(moved: bool, switches: list[str]) -> None:
    k = "kr" if moved else "k"
    text = SEPARATE.replace("attention.default(q, k, v,", f"attention.default(q, {k}, v,")
    text = text.replace("a: f32", "kr: f32[N, 5, 16] = aten.reshape.default(k, [-1, 5, 16])\na: f32")
    text = text.replace(
        "w: f32[16, 16]",
        f"a2: f32[N, 5, 16] = vitgraph.attention.default(q, {k}, v, None, 0.25)  # other\n"
        'w6: f32[16, 16] = weight("other.weight")\n'
        "y2: f32[N, 5, 16] = aten.linear.default(a2, w6, None)  # head2\nw: f32[16, 16]",
    ).replace("return_([y, x])", "return_([y, y2])")
    program = run(Quantize(only=("q", "k", "v", "head")), parse(text), context(channels=16, target=None))
    found = [each for each in find_switches(program).all if each.role == "attention"]
    assert [each.path for each in found] == switches
    assert [node.meta["path"] for each in found for node in each.nodes] == ["attn", "other"]


def test_nothing_quantized_nothing_to_switch() -> None:
    assert find_switches(parse(block())) == Switches((), {})

"""One pattern all the way: from the mask through every pass, a saved program and the ONNX file to the bytes of the plan.

At each stage one weight more than the pattern allows is put in, and the check of that stage must see it.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.passes.quantization.test_quantize import Noise
from tests.passes.sparsity.test_hold_patterns import dense
from vitgraph.analysis.roles import BLOCK_ROLES
from vitgraph.analysis.sites import find_sites
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.onnx.stored_weights import StoredWeight, read_weights
from vitgraph.backends.tensorrt import engine_plan
from vitgraph.backends.tensorrt.backend import build_engine, unbuildable_why
from vitgraph.backends.tensorrt.engine_check import EnginePlan, PlannedLinear, check_contract, judge_patterns
from vitgraph.backends.tensorrt.engine_plan import plan_engine
from vitgraph.compile.compiler import compile_model
from vitgraph.compile.recipe import load_recipe
from vitgraph.cost.counts import count
from vitgraph.errors import CheckFailed
from vitgraph.ir.mask_patterns import lost
from vitgraph.ir.navigate import path_of, weight_of
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load, save
from vitgraph.ir.verify import verify
from vitgraph.pass_manager.instruments import Verify
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import find_pass, pipeline
from vitgraph.targets.target import get_target

A100 = get_target("a100")

BLOCK = """
x: f32[1, 8, 32] = input()
n1w: f32[32] = weight("norm1.weight")
n1b: f32[32] = weight("norm1.bias")
n1: f32[1, 8, 32] = aten.layer_norm.default(x, [32], n1w, n1b, 1e-6)  # norm1
w: f32[96, 32] = weight("qkv.weight")
b: f32[96] = weight("qkv.bias")
qkv: f32[1, 8, 96] = aten.linear.default(n1, w, b)  # attn.qkv
r: f32[1, 8, 3, 2, 16] = aten.reshape.default(qkv, [-1, 8, 3, 2, 16])
p: f32[3, 1, 2, 8, 16] = aten.permute.default(r, [2, 0, 3, 1, 4])
q: f32[1, 2, 8, 16] = aten.select.int(p, 0, 0)
k: f32[1, 2, 8, 16] = aten.select.int(p, 0, 1)
v: f32[1, 2, 8, 16] = aten.select.int(p, 0, 2)
a: f32[1, 2, 8, 16] = vitgraph.attention.default(q, k, v, None, 0.25)  # attn
s: f32[1, 8, 2, 16] = aten.permute.default(a, [0, 2, 1, 3])
m: f32[1, 8, 32] = aten.reshape.default(s, [-1, 8, 32])
w2: f32[32, 32] = weight("proj.weight")
b2: f32[32] = weight("proj.bias")
o: f32[1, 8, 32] = aten.linear.default(m, w2, b2)  # attn.proj
y: f32[1, 8, 32] = aten.add.Tensor(x, o)
n2w: f32[32] = weight("norm2.weight")
n2b: f32[32] = weight("norm2.bias")
n2: f32[1, 8, 32] = aten.layer_norm.default(y, [32], n2w, n2b, 1e-6)  # norm2
w3: f32[64, 32] = weight("fc1.weight")
b3: f32[64] = weight("fc1.bias")
h: f32[1, 8, 64] = aten.linear.default(n2, w3, b3)  # mlp.fc1
g: f32[1, 8, 64] = aten.gelu.default(h)  # mlp.act
w4: f32[32, 64] = weight("fc2.weight")
b4: f32[32] = weight("fc2.bias")
f: f32[1, 8, 32] = aten.linear.default(g, w4, b4)  # mlp.fc2
z: f32[1, 8, 32] = aten.add.Tensor(y, f)
return_(z)
"""
PRODUCTS = {
    "int8": "",
    "int4": "weight_format=int4",
    "w4a4": "weight_format=int4 activation_format=int4",
    "fp8": "weight_format=fp8 activation_format=fp8",
}
PATTERNS = (Packing(2, 4), Packing(1, 4), Packing(2, 4, group_size=2), Packing(2, 8, v=16), Packing(3, 16, v=32))


def steps_of(pattern: Packing, score: str, fitted: bool, format: str, rounding: str) -> list[str]:
    """Everything that touches weights, one pass after the other."""
    mask = f"nm-mask{{n={pattern.n} m={pattern.m} group_size={pattern.group_size} v={pattern.v} score={score} refit={str(fitted).lower()}}}"
    fit = f"reconstruct{{iterations=3 weights={rounding}}}"
    return [
        *("permute-channels", mask, "balance-attention", "smooth-quant", "equalize-outputs", f"quantize{{{PRODUCTS[format]} outputs=true}}"),
        *(fit, "absorb-shifts", "assign-precision{to=f16}", "materialize", "legalize"),
    ]  # fmt: skip


def staged(steps: list[str], target: str | None = None) -> list[Program]:
    """The program after each step, masks first."""
    context = Context(None if target is None else get_target(target), calibration=Noise((8, 32), count=8))
    program, stages = parse(BLOCK), list[Program]()
    for step in steps:
        program = pipeline(step).run(program, context, [Verify()])
        stages.append(program)
    return stages[1:]


def thickened(program: Program, path: str) -> Program:
    """A copy in which one group of one linear has a weight more than its pattern allows."""
    pattern, work = program.masks[path, 0], program.copy()
    (linear,) = (node for node in work.calls(torch.ops.aten.linear.default) if path_of(node) == path)
    weight = weight_of(linear)
    masks = [user for user in weight.users if user.target is torch.ops.vitgraph.mask.default]
    holder = masks[0].args[1] if masks else weight
    values = work.constant(holder)
    assert values is not None
    bits = values.detach().clone()
    kept = (bits.view(torch.uint8) & 127 if bits.dtype == torch.float8_e4m3fn else bits) != 0
    units = kept.reshape(len(kept), -1, pattern.m, pattern.group_size).any(-1)
    row, group = map(int, (units.sum(-1) == pattern.n).nonzero()[0])
    unit = int((~units[row, group]).nonzero()[0])
    bits[row, (group * pattern.m + unit) * pattern.group_size] = 1
    assert isinstance(holder, torch.fx.Node)
    holder.target = work.add_tensor(f"{holder.target}_thicker", bits)
    work.clean()
    return work


@pytest.mark.parametrize(
    ("pattern", "score", "format", "rounding"),
    [
        (Packing(2, 4), "sparsegpt", "int8", "round"),
        (Packing(2, 4, group_size=2), "magnitude", "int4", "tune"),
        (Packing(2, 4, group_size=2), "sparsegpt", "w4a4", "round"),
        (Packing(2, 4), "magnitude", "w4a4", "keep"),
        (Packing(2, 8, v=16), "wanda", "fp8", "keep"),
    ],
    ids=str,
)
def test_the_pattern_holds_after_every_pass_and_in_the_file(
    pattern: Packing, score: str, format: str, rounding: str, tmp_path: Path
) -> None:
    hold(staged(steps_of(pattern, score, True, format, rounding)), pattern, tmp_path)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(PATTERNS),
    st.sampled_from(["magnitude", "wanda", "sparsegpt", "cap"]),
    st.booleans(),
    st.sampled_from(list(PRODUCTS)),
    st.sampled_from(["tune", "round", "keep"]),
)
def test_whatever_the_pattern_the_score_and_the_format(
    tmp_path_factory: pytest.TempPathFactory, pattern: Packing, score: str, fitted: bool, format: str, rounding: str
) -> None:
    rounding = "tune" if format == "fp8" and rounding == "round" else rounding
    hold(staged(steps_of(pattern, score, fitted, format, rounding)), pattern, tmp_path_factory.mktemp("integrity"))


def hold(stages: list[Program], pattern: Packing, folder: Path) -> None:
    """The pattern after each pass, in a saved program and in the ONNX file; and one weight more, which each finds."""
    path = "mlp.fc2"
    for program in stages:
        masked = {site.path for site in find_sites(program).linears if site.role in BLOCK_ROLES}
        assert program.masks == {(site, 0): pattern for site in masked}
        assert list(lost(program)) == []
        assert [path_of(node) for node, _ in lost(thickened(program, path))] == [path], program.ledger[-1]["name"]
    save(stages[-1], folder / "p.safetensors")
    save(thickened(stages[-1], path), folder / "q.safetensors")
    for name, broken in (("p", list[str]()), ("q", [path])):
        loaded = load(folder / f"{name}.safetensors")
        assert [path_of(node) for node in verify(loaded)] == broken
        plan = plan_engine(loaded, lower(loaded, folder / f"{name}.onnx"), A100)
        assert [linear.masked for linear in plan.linears] == [pattern] * 4
        assert [violation.site for violation in judge_patterns(plan)] == broken


@pytest.mark.parametrize("format", ["int4", "w4a4"])
def test_int4_in_pairs_takes_five_eighths_of_its_bytes(format: str, tmp_path: Path) -> None:
    """As counted, and as the file holds the codes; 2:4, which sparse INT4 units do not read, saves nothing."""
    pairs, plain = (
        staged(steps_of(pattern, "magnitude", False, format, "keep"))[-1]
        for pattern in (Packing(2, 4, group_size=2), Packing(2, 4))
    )
    stored = read_weights(lower(pairs, tmp_path / "pairs.onnx").path)
    dense = sum(weight.values.size for weight in stored.values()) / 2
    assert {weight.format for weight in stored.values()} == {"int4"}
    assert dense == (96 * 32 + 32 * 32 + 2 * 64 * 32) / 2
    assert [share(each, dense) for each in (pairs, plain)] == [0.625, 1.0]
    assert share(thickened(pairs, "mlp.fc2"), dense) > 0.65  # more than four of eight are kept somewhere: less is saved
    file = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for weight in stored.values():
        codes = weight.packed(weight.values)
        assert len(codes) == weight.values.size // 2
        assert codes in file
        assert weight.packed(np.roll(weight.values, 1)) not in file


def share(program: Program, dense: float) -> float:
    """What is stored of the masked weights, over the bytes of their dense codes."""
    cost = count(program)
    return 1 - (cost.unpacked_bytes - cost.stored_bytes) / dense


def test_zeros_of_a_mask_stay_where_they_were_while_weights_are_fitted() -> None:
    """Not only as many: the same ones, from the mask to the codes."""
    stages = staged(steps_of(Packing(2, 4), "sparsegpt", True, "int8", "tune"))
    first, last = stages[0], stages[-1]
    for linear, built in zip(find_sites(first).linears, find_sites(last).linears, strict=True):
        mask = linear.node.args[1]
        assert isinstance(mask, torch.fx.Node)
        keep, codes = first.constant(mask.args[1]), last.constant(weight_of(built.node))
        assert keep is not None
        assert codes is not None
        assert codes.dtype == torch.int8
        assert bool((codes[~keep] == 0).all())
        assert float((codes[keep] != 0).float().mean()) > 0.9


def recipe_on_sparse_weights(recipe: str, folder: Path) -> tuple[list[bool], Program]:
    """The block after training with ASP, through a recipe: whether each linear of `model.onnx` is 2:4, and the program."""
    dense, pattern = parse(BLOCK).tensors(), Packing(2, 4)
    came = {
        name: values * nm_keep(values.abs(), pattern) if values.dim() == 2 else values for name, values in dense.items()
    }
    steps = str(load_recipe(recipe, find_pass).pipeline).replace("reconstruct", "reconstruct{iterations=5 rate=20}")
    result = pipeline(steps).run(parse(BLOCK, came), Context(A100, calibration=Noise((8, 32), count=8)), [Verify()])
    stored = read_weights(lower(result, folder / "model.onnx").path, floats=True)
    return [weight.follows(pattern) for weight in stored.values()], result


@pytest.mark.parametrize(
    "recipe", ["fp16", "int8", "int8-best", "sparse-int8", "sparse-int8-best", "lpvit", "lpvit-int8"]
)
def test_patterns_that_come_with_the_weights_stand_in_the_file(recipe: str, tmp_path: Path) -> None:
    held, result = recipe_on_sparse_weights(recipe, tmp_path)
    assert held == [True] * 4
    assert set(result.masks.values()) == {Packing(2, 4)}


def test_int8_best_would_end_them_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: nobody looks for what came sparse."""
    for module in ("quantization.fitting", "sparsity.hold_patterns"):
        monkeypatch.setattr(f"vitgraph.passes.{module}.existing_pattern", dense)
    held, result = recipe_on_sparse_weights("int8-best", tmp_path)
    assert not any(held)
    assert result.masks == {}


@pytest.mark.parametrize("broken", [False, True])
def test_the_file_is_held_to_its_masks_where_no_engine_is_built(
    broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ones = StoredWeight(np.ones((64, 256), np.int8), 0, False, "fp32")

    def tampered(path: Path, floats: bool = False) -> dict[str, StoredWeight]:
        return {"blocks.0.mlp.fc1/MatMul": ones}

    if broken:
        monkeypatch.setattr(engine_plan, "read_weights", tampered)
    steps = "canonicalize,fuse-attention,nm-mask{only=[blocks.0.mlp.fc1]},materialize"
    options: dict[str, Any] = {"target": "orin-agx", "recipe": "fp16", "weights": "random", "pipeline": steps}
    if not broken:
        assert compile_model("digits-vit", out=tmp_path / "out", **options).violations == []
        return
    with pytest.raises(CheckFailed, match=r"blocks\.0\.mlp\.fc1: planned 2:4 along K in the ONNX file, found denser"):
        compile_model("digits-vit", out=tmp_path / "out", **options)


@pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}")
@pytest.mark.parametrize(
    ("pattern", "format"),
    [(Packing(2, 4), "int8"), (Packing(2, 8, v=16), "int8"), (Packing(2, 4, group_size=2), "int4")],
    ids=str,
)
def test_the_pattern_stands_in_the_bytes_of_the_plan(pattern: Packing, format: str, tmp_path: Path) -> None:
    program = staged(steps_of(pattern, "magnitude", False, format, "keep"), "a100")[-1]
    model = lower(program, tmp_path / "m.onnx")
    engine, planned = build_engine(model.path, A100), plan_engine(program, model, A100)
    report = check_contract(engine, planned)
    assert report.violations == ()
    assert report.engine["sparse"]["held"] == report.engine["sparse"]["masked"] == 4
    assert report.engine["sparse"]["patterns"] == {str(pattern): 4}
    for name, weight in read_weights(model.path).items():
        assert weight.follows(pattern)
        at = engine.plan.find(weight.packed(weight.values))
        assert at >= 0, name
        changed = replace(engine, plan=engine.plan[:at] + bytes([engine.plan[at] ^ 1]) + engine.plan[at + 1 :])
        assert [violation.found for violation in check_contract(changed, planned).violations] == ["not there"]
    assert [c.site for c in judge_patterns(EnginePlan(tuple(map(_full, planned.linears))))] == [
        linear.module for linear in planned.linears
    ]


def _full(linear: PlannedLinear) -> PlannedLinear:
    """The same with a weight of ones."""
    assert linear.weight is not None
    return replace(linear, weight=replace(linear.weight, values=np.ones_like(linear.weight.values)))

"""The contract against hand-made layers; tests/backends/tensorrt/test_backend.py holds real engines against it."""

from dataclasses import replace

import numpy as np
import pytest

from tests.backends.tensorrt.test_engine import ATTENTION, HALF, INT8, engine
from tests.backends.tensorrt.test_engine_layers import layer
from vitgraph.backends.onnx.stored_weights import StoredWeight
from vitgraph.backends.tensorrt.engine_check import (
    EnginePlan,
    PlannedAttention,
    PlannedLinear,
    check_contract,
    judge_patterns,
)
from vitgraph.backends.tensorrt.engine_layers import EngineLayer
from vitgraph.errors import CheckFailed
from vitgraph.ir.packing import Packing

VALUES = np.tile(np.array([[5], [0], [-3], [0]], np.int8), (2, 8))
WEIGHT = StoredWeight(VALUES, 0, False)
LINEAR = PlannedLinear("a", "a/MatMul", "int8", WEIGHT, Packing(2, 4))
SITE = PlannedAttention("attn", "attn/Softmax", "int8")
PLAN = b"..." + VALUES.tobytes() + b"..."


def test_a_kept_contract_has_no_violation() -> None:
    report = check_contract(engine(INT8, HALF, ATTENTION, plan=PLAN), EnginePlan((LINEAR,), (SITE,)))
    assert report.violations == ()
    report.require()
    assert report.engine["linears"] == {"planned_int8": 1, "int8": 1, "fallback": []}
    assert report.engine["attention"] == {"sites": 1, "fused": 1, "fused_int8": 1}
    assert report.engine["sparse"]["masked"] == report.engine["sparse"]["held"] == 1
    assert report.engine["sparse"]["patterns"] == {"2:4": 1}
    assert report.engine["sparse"]["dense_why"] is None
    assert report.engine["sparse"]["chosen"] is None
    assert report.engine["sparse"]["why"]
    assert report.engine["layers"] == 3


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (layer("runtime_fusion", "int8:4x8,fp16:8x8", nodes=("a/MatMul",)), "hoisted"),
        (layer("gemm", "fp32:4x8", "fp32:8x8", nodes=("a/MatMul",)), "not quantized"),
        (layer("kgen", "int8:1x8", "int8:8x8", nodes=("a/MatMul",)), "generated kernel"),
        (HALF, "does not mention"),
    ],
)
def test_a_linear_that_fell_back_is_named(made: EngineLayer, why: str) -> None:
    report = check_contract(engine(made, plan=PLAN), EnginePlan((LINEAR,)))
    (violation,) = report.violations
    assert violation.site == "a"
    assert why in violation.why
    assert report.engine["linears"] == {"planned_int8": 1, "int8": 0, "fallback": ["a"]}
    with pytest.raises(CheckFailed, match=r"1 site.*\n  a: planned int8 gemm"):
        report.require()


def test_a_float_linear_owes_nothing() -> None:
    assert check_contract(engine(), EnginePlan((PlannedLinear("b", "b/MatMul", "fp16"),))).violations == ()


def test_attention_unfused_or_of_another_type_is_named() -> None:
    loose = layer("kgen", "fp32:3x4x4", nodes=("attn/Softmax",))
    report = check_contract(engine(loose), EnginePlan((), (replace(SITE, type="fp16"),)))
    assert "unfused" in report.violations[0].found
    assert "FP32" in report.violations[0].why
    assert report.engine["attention"] == {"sites": 1, "fused": 0, "fused_int8": 0}
    half = layer("kgen", "fp16:3x4x8,fp16:3x8x4,fp16:3x4x8", name="_gemm_mha_v2", nodes=("attn/Softmax",))
    report = check_contract(engine(half), EnginePlan((), (SITE,)))
    assert report.violations[0].found == "one fused fp16 attention"
    assert report.engine["attention"] == {"sites": 1, "fused": 1, "fused_int8": 0}


def test_a_kernel_that_casts_by_itself_keeps_an_attention_in_floating_point() -> None:
    """Of one query; a site planned in INT8 is not kept so."""
    casting = layer("kgen", "fp32:1x16x512", "fp16:4x1x64", name="_gemv_mha_v1", nodes=("attn/Softmax",))
    assert check_contract(engine(casting), EnginePlan((), (replace(SITE, type="fp16"),))).violations == ()
    assert check_contract(engine(casting), EnginePlan((), (SITE,))).violations != ()


def test_a_recorded_refusal_is_not_a_violation() -> None:
    site = replace(SITE, unfused_why="head dim 24 is not one of 16, 32, 64")
    assert check_contract(engine(), EnginePlan((), (site,))).violations == ()
    assert check_contract(engine(), EnginePlan((), (SITE,))).violations != ()


def test_a_weight_changed_on_the_way_is_named() -> None:
    tampered = bytearray(PLAN)
    tampered[3] ^= 1
    report = check_contract(engine(INT8, plan=bytes(tampered)), EnginePlan((LINEAR,)))
    assert [violation.found for violation in report.violations] == ["not there"]


def test_a_product_of_one_row_stores_its_weight_turned() -> None:
    turned = np.ascontiguousarray(VALUES.T).tobytes()
    assert check_contract(engine(INT8, plan=turned), EnginePlan((LINEAR,))).violations == ()


@pytest.mark.parametrize(("outputs", "fill", "kept"), [(7, 0, True), (7, 1, False), (8, 0, False)])
def test_an_odd_number_of_outputs_is_stored_with_one_more_of_zeros(outputs: int, fill: int, kept: bool) -> None:
    values = np.ascontiguousarray(VALUES[:, :outputs])
    stored = np.pad(values, ((0, 0), (0, 1)), constant_values=fill).tobytes()
    linear = replace(LINEAR, weight=StoredWeight(values, 0, False), masked=None)
    violations = check_contract(engine(INT8, plan=stored), EnginePlan((linear,))).violations
    assert [violation.found for violation in violations] == ([] if kept else ["not there"])


def test_a_convolutions_bytes_are_exempt() -> None:
    linear = replace(LINEAR, weight=replace(WEIGHT, convolution=True))
    assert check_contract(engine(INT8, plan=b""), EnginePlan((linear,))).violations == ()


def test_weights_out_of_order_in_the_plan_are_found() -> None:
    other = StoredWeight(np.full((4, 4), 7, np.int8), 0, False)
    plan = other.values.tobytes() + PLAN
    linears = (LINEAR, replace(LINEAR, module="b", weight=other, masked=None))
    assert check_contract(engine(INT8, plan=plan), EnginePlan(linears)).violations == ()


def test_a_mask_that_was_lost_is_named() -> None:
    dense = StoredWeight(np.ones((8, 8), np.int8), 0, False)
    made = engine(INT8, plan=dense.values.tobytes())
    report = check_contract(made, EnginePlan((replace(LINEAR, weight=dense),)))
    assert [violation.planned for violation in report.violations] == ["2:4 along K in the ONNX file"]
    assert (report.engine["sparse"]["masked"], report.engine["sparse"]["held"]) == (1, 0)
    unmasked = replace(LINEAR, weight=dense, masked=None)
    assert check_contract(made, EnginePlan((unmasked,))).violations == ()


@pytest.mark.parametrize("pattern", [Packing(2, 4), Packing(2, 4, 2), Packing(2, 8, v=8)])
def test_one_weight_more_is_one_violation_whatever_the_pattern(pattern: Packing) -> None:
    """In floating point too, and without an engine."""
    keep = np.zeros((16, 8), np.int8)
    keep[: pattern.n * pattern.group_size] = keep[8 : 8 + pattern.n * pattern.group_size] = 1
    held = PlannedLinear("a", "a/MatMul", "float", StoredWeight(keep, 0, False, "fp16"), pattern)
    assert judge_patterns(EnginePlan((held,))) == ()
    broken = keep.copy()
    broken[pattern.n * pattern.group_size] = 1
    for weight in (StoredWeight(broken, 0, False, "fp16"), None):
        (violation,) = judge_patterns(EnginePlan((held, replace(held, module="b", weight=weight))))
        assert (violation.site, violation.planned) == ("b", f"{pattern} along K in the ONNX file")


def test_a_pattern_that_no_kernel_reads_is_named() -> None:
    linear = PlannedLinear("a", "a/MatMul", "float", StoredWeight(VALUES, 0, False, "fp16"), Packing(2, 8, v=8))
    report = check_contract(engine(), EnginePlan((linear,)))
    assert "no kernel of TensorRT gathers columns: 8:2:8" in report.engine["sparse"]["dense_why"]


def test_a_quantized_linear_with_a_weight_in_floating_point_is_named() -> None:
    linear = replace(LINEAR, weight=StoredWeight((VALUES != 0).astype(np.int8), 0, False, "fp16"))
    report = check_contract(engine(INT8), EnginePlan((linear,)))
    assert [violation.why for violation in report.violations] == ["not materialized"]


def test_an_int8_linear_without_a_constant_is_named() -> None:
    report = check_contract(engine(INT8), EnginePlan((replace(LINEAR, weight=None),)))
    assert "INT8 constant" in report.violations[0].planned


@pytest.mark.parametrize("kept", [True, False])
def test_weights_merged_into_one_product_are_found_side_by_side(kept: bool) -> None:
    values = [VALUES, np.roll(VALUES, 1, axis=1) * 2]
    linears = tuple(
        PlannedLinear(name, f"{name}/MatMul", "int8", StoredWeight(each, 0, False))
        for name, each in zip("qk", values, strict=True)
    )
    together = layer("gemm", "int8:4x8,int8:8x16", nodes=("k/MatMul", "q/MatMul"))
    stored = np.concatenate([values[1], values[0]] if kept else values, axis=1).tobytes()
    violations = check_contract(engine(together, plan=stored), EnginePlan(linears)).violations
    assert [violation.site for violation in violations] == ([] if kept else ["q", "k"])

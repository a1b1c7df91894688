"""Small engines from the real builder; every promise has a graph that breaks it."""

import signal
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.backends.onnx_vit import Vit, linear_nodes, make_vit, onnx, softmax_nodes, write_vit
from vitgraph.backends.onnx.stored_weights import read_weights
from vitgraph.backends.tensorrt import backend as trt
from vitgraph.backends.tensorrt import runtime
from vitgraph.backends.tensorrt.backend import build_engine, unbuildable_why
from vitgraph.backends.tensorrt.builder import EngineBuildError
from vitgraph.backends.tensorrt.engine import Engine
from vitgraph.backends.tensorrt.engine_check import (
    ContractReport,
    EnginePlan,
    PlannedAttention,
    PlannedLinear,
    check_contract,
)
from vitgraph.errors import InputError, VitgraphError
from vitgraph.ir.packing import Packing
from vitgraph.targets.target import Target, get_target

A100 = get_target("a100")

pytestmark = pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}")


def build(vit: Vit, folder: Path, **options: Any) -> Engine:
    return build_engine(write_vit(vit, folder / "m.onnx"), A100, **options)


def hold(engine: Engine, vit: Vit, folder: Path, attention: str) -> ContractReport:
    """The contract of `vit` with all its linears INT8 where it is quantized."""
    weights = read_weights(folder / "m.onnx")
    masked = Packing(2, 4) if vit.masked else None
    linears = tuple(
        PlannedLinear(node.rpartition("/")[0], node, "int8", weights[node], masked)
        for node in linear_nodes(vit)
        if vit.quantization != "none"
    )
    attentions = tuple(PlannedAttention(node.rpartition("/")[0], node, attention) for node in softmax_nodes(vit))
    return check_contract(engine, EnginePlan(linears, attentions))


@pytest.mark.parametrize(
    "vit",
    [
        pytest.param(Vit(depth=2), id="vit"),
        pytest.param(Vit(depth=2, masked=True), id="sparse"),
        pytest.param(Vit(tokens=49, windows=4, dim=96, heads=3), id="window"),
        pytest.param(Vit(stream="fp32"), id="fp32-stream"),
        pytest.param(Vit(stream="bf16"), id="bf16-stream"),
    ],
)
def test_the_recipe_keeps_the_contract(vit: Vit, tmp_path: Path) -> None:
    engine = build(vit, tmp_path)
    report = hold(engine, vit, tmp_path, "int8")
    assert report.violations == ()
    assert engine.gemms() == {"int8": 4 * vit.depth, "fp16": 0, "bf16": 0, "fp32": 0}
    assert engine.fused_attentions() == {"int8": vit.depth}
    assert report.engine["sparse"]["masked"] == (4 * vit.depth if vit.masked else 0)
    # Nine kernels a block, and a few at the ends: quantizing costs no kernel of its own.
    assert report.engine["layers"] <= 9 * vit.depth + 4


@pytest.mark.parametrize("stream", ["fp16", "bf16"])
def test_floating_attention_is_one_kernel(stream: Any, tmp_path: Path) -> None:
    vit = Vit("none", stream=stream)
    assert hold(build(vit, tmp_path), vit, tmp_path, stream).violations == ()


def test_linears_only_with_fp32_dequantization_keep_int8_products(tmp_path: Path) -> None:
    vit = Vit("linears", depth=2)
    report = hold(build(vit, tmp_path), vit, tmp_path, "fp16")
    assert report.violations == ()
    assert report.engine["attention"] == {"sites": 2, "fused": 2, "fused_int8": 0}


def test_linears_only_in_fp16_lose_the_qkv_product_and_are_caught(tmp_path: Path) -> None:
    vit = Vit("linears", dequantize="fp16", depth=2)
    report = hold(build(vit, tmp_path), vit, tmp_path, "fp16")
    assert [violation.site for violation in report.violations] == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]
    assert report.engine["linears"]["fallback"] == ["blocks.0.attn.qkv", "blocks.1.attn.qkv"]
    assert "hoisted" in report.violations[0].why


@pytest.mark.parametrize(
    ("vit", "planned"),
    [
        pytest.param(Vit("none", stream="fp32"), "fp16", id="fp32"),
        pytest.param(Vit(softmax_quantized=False), "int8", id="softmax-not-quantized"),
        pytest.param(Vit(dim=48, heads=2), "int8", id="head-dim-24"),
    ],
)
def test_an_attention_left_unfused_is_caught(vit: Vit, planned: str, tmp_path: Path) -> None:
    report = hold(build(vit, tmp_path), vit, tmp_path, planned)
    assert [c.site for c in report.violations if "attention" in c.planned] == ["blocks.0.attn"]
    assert report.engine["attention"]["fused_int8"] == 0


def test_a_tampered_weight_is_not_found_in_the_plan(tmp_path: Path) -> None:
    vit = Vit(masked=True)
    engine = build(vit, tmp_path)
    assert hold(engine, vit, tmp_path, "int8").violations == ()
    model = onnx.load(tmp_path / "m.onnx")
    stored = next(tensor for tensor in model.graph.initializer if tensor.name == "blocks.0.mlp.fc1.weight")
    stored.raw_data = bytes([stored.raw_data[0] ^ 1]) + stored.raw_data[1:]
    onnx.save(model, tmp_path / "m.onnx")
    report = hold(engine, vit, tmp_path, "int8")
    assert {(c.site, c.found) for c in report.violations} >= {("blocks.0.mlp.fc1", "not there")}


def test_the_same_model_gives_the_same_plan_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first = build_engine(write_vit(Vit(), tmp_path / "a.onnx"), A100)
    second = build_engine(write_vit(Vit(), tmp_path / "elsewhere" / "b.onnx"), A100)
    other = build_engine(write_vit(Vit(masked=True), tmp_path / "c.onnx"), A100)
    assert first.plan == second.plan
    assert first.as_json() == second.as_json()
    assert first.plan != other.plan


def test_every_layer_leads_back_to_modules(tmp_path: Path) -> None:
    engine = build(Vit(), tmp_path)
    kernels = [layer for layer in engine.layers if layer.is_gemm or layer.is_fused_attention]
    assert [layer.modules[0] for layer in kernels] == [
        "blocks.0.attn.qkv",
        "blocks.0.attn",
        "blocks.0.attn.proj",
        "blocks.0.mlp.fc1",
        "blocks.0.mlp.fc2",
    ]


def test_the_engine_says_what_it_is(tmp_path: Path) -> None:
    engine = build(Vit(), tmp_path)
    assert (engine.flavour, engine.role) == ("tensorrt_rtx", "structural proxy")
    assert engine.compute_capabilities == ("8.0",)
    assert engine.build_seconds > 0
    assert "cudaError 35" not in engine.log
    assert engine.sparse.eligible is None


def test_dynamic_batch_needs_a_profile_that_fits(tmp_path: Path) -> None:
    vit = Vit(dynamic=True)
    engine = build(vit, tmp_path, batch=(1, 8, 64))
    assert hold(engine, vit, tmp_path, "int8").violations == ()
    with pytest.raises(InputError, match="MIN:OPT:MAX"):
        build(vit, tmp_path)
    with pytest.raises(InputError, match="0 < MIN <= OPT <= MAX"):
        build(vit, tmp_path, batch=(8, 1, 64))
    with pytest.raises(InputError, match="fixed at"):
        build(Vit(), tmp_path, batch=(1, 8, 64))
    assert build(Vit(), tmp_path, batch=(1, 1, 1)).layers


@pytest.mark.parametrize("name", ["rtx-ampere", "rtx-ada", "rtx-blackwell"])
def test_other_generations(name: str, tmp_path: Path) -> None:
    engine = build_engine(write_vit(Vit(), tmp_path / "m.onnx"), get_target(name))
    assert engine.role == "deployable"
    assert hold(engine, Vit(), tmp_path, "int8").violations == ()


def test_a_capability_that_the_builder_lacks_is_refused(tmp_path: Path) -> None:
    board = get_target("rtx-ada").model_copy(update={"name": "board", "compute_capability": "11.0"})
    with pytest.raises(InputError, match="target board: this TensorRT builds for no SM110; take `tensorrt_rtx` out"):
        build_engine(write_vit(Vit(), tmp_path / "m.onnx"), board)


def test_turing_takes_fp16_dequantization_only(tmp_path: Path) -> None:
    turing = get_target("rtx-turing")
    vit = Vit(dequantize="fp16")
    engine = build_engine(write_vit(vit, tmp_path / "m.onnx"), turing)
    assert hold(engine, vit, tmp_path, "int8").violations == ()
    with pytest.raises(EngineBuildError, match=r"blocks\.0\.attn\.qkv/MatMul.*FP32 GEMM is not supported"):
        build_engine(write_vit(Vit(), tmp_path / "m.onnx"), turing)


def test_external_data(tmp_path: Path) -> None:
    onnx.save(make_vit(Vit()), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    engine = build_engine(tmp_path / "m.onnx", A100)
    assert hold(engine, Vit(), tmp_path, "int8").violations == ()
    (tmp_path / "m.data").write_bytes(b"short")
    with pytest.raises(InputError, match="external data"):
        build_engine(tmp_path / "m.onnx", A100)
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputError, match="external data"):
        build_engine(tmp_path / "m.onnx", A100)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "is empty"), (b"not a model" * 99, "not an ONNX model"), (make_vit(Vit()).SerializeToString()[:999], "cut")],
    ids=["empty", "garbage", "truncated"],
)
def test_files_that_are_no_model(content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match=why):
        build_engine(tmp_path / "m.onnx", A100)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a file"):
        build_engine(tmp_path / "m.onnx", A100)


def test_a_graph_without_output(tmp_path: Path) -> None:
    model = make_vit(Vit("none"))
    del model.graph.output[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="no graph output"):
        build_engine(tmp_path / "m.onnx", A100)


def test_an_operator_it_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Det", ["x"], ["y"], name="head/Det")], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    with pytest.raises(EngineBuildError, match=r"node head/Det \(Det\): unsupported node"):
        build_engine(tmp_path / "m.onnx", A100)


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []

    def tell(phase: str, fraction: float) -> None:
        told.append((phase, fraction))

    build(Vit(depth=2), tmp_path, progress=tell)
    assert told
    assert all(0 <= fraction <= 1 for _, fraction in told)


def test_ctrl_c_ends_the_build(tmp_path: Path) -> None:
    def interrupt(phase: str, fraction: float) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        build(Vit(depth=12), tmp_path, progress=interrupt)
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]
    assert build(Vit(), tmp_path).layers


@pytest.mark.parametrize(("name", "why"), [("orin-agx", "sm_87"), ("h200", "sm_90"), ("cpu", "no TensorRT engine")])
def test_targets_without_a_builder_say_why(name: str, why: str, tmp_path: Path) -> None:
    assert why in (unbuildable_why(get_target(name)) or "")
    with pytest.raises(VitgraphError, match=why):
        build_engine(write_vit(Vit(), tmp_path / "m.onnx"), get_target(name))


def test_no_builder_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        return None

    monkeypatch.setattr(trt, "find_spec", find_nothing)
    with pytest.raises(VitgraphError, match="pip install tensorrt-rtx"):
        build_engine(write_vit(Vit(), tmp_path / "m.onnx"), A100)


def test_full_tensorrt_takes_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Full TensorRT cannot run here; the RTX bindings stand in for it."""
    bindings = runtime.import_bindings("tensorrt_rtx")

    def serve(target: Target) -> bool:
        return True

    def load(flavour: str) -> Any:
        return bindings

    monkeypatch.setattr(trt, "_full_tensorrt_serves", serve)
    monkeypatch.setattr(runtime, "import_bindings", load)
    engine = build(Vit(), tmp_path)
    assert (engine.flavour, engine.role) == ("tensorrt", "deployable")
    assert "no (Sparsity) line" in engine.sparse.why

from tests.backends.tensorrt.test_engine_layers import layer
from vitgraph.backends.tensorrt.engine import RTX_SPARSE_WHY, Engine, SparseTactics, read_sparse_tactics
from vitgraph.backends.tensorrt.engine_layers import EngineLayer


def engine(*layers: EngineLayer, plan: bytes = b"") -> Engine:
    """An engine of hand-made layers."""
    sparse = SparseTactics(None, None, RTX_SPARSE_WHY)
    return Engine(plan, layers, "tensorrt_rtx", "1.7.1", ("8.0",), "structural proxy", "toy", 0.1, "", sparse)


INT8 = layer("gemm", "int8:4x8", "int8:8x8", nodes=("a/MatMul",))
HALF = layer("runtime_fusion", "fp16:4x8", "fp16:8x8", nodes=("b/MatMul", "b/Add"))
ATTENTION = layer("kgen", "int8:3x4x8,int8:3x8x4,int8:3x4x8", name="_gemm_mha_v2", nodes=("attn/Softmax",))


def test_counts() -> None:
    made = engine(INT8, HALF, HALF, ATTENTION)
    assert made.gemms() == {"int8": 1, "fp16": 2, "bf16": 0, "fp32": 0}
    assert made.fused_attentions() == {"int8": 1}
    assert made.layers_of("b/Add") == (HALF, HALF)
    assert made.layers_of("c/MatMul") == ()


def test_json_has_every_layer_and_no_time() -> None:
    made = engine(INT8, ATTENTION, plan=b"12345").as_json()
    assert [row["type"] for row in made["layers"]] == ["int8", "int8"]
    assert made["layers"][0]["modules"] == ["a"]
    assert made["bytes"] == 5
    assert not any("seconds" in key for key in made)


def test_sparse_tactics_are_null_with_a_reason_or_the_last_said() -> None:
    assert read_sparse_tactics([], "tensorrt_rtx") == SparseTactics(None, None, RTX_SPARSE_WHY)
    assert "no (Sparsity) line" in read_sparse_tactics(["hello"], "tensorrt").why
    lines = [
        "(Sparsity) Found 3 layer(s) eligible to use sparse tactics: a, b, c",
        "(Sparsity) Chose 1 layer(s) using sparse tactics: a",
        "(Sparsity) Found 196 layer(s) eligible to use sparse tactics: a",
        "(Sparsity) Chose 140 layer(s) using sparse tactics: a",
    ]
    read = read_sparse_tactics(lines, "tensorrt")
    assert (read.eligible, read.chosen) == (196, 140)

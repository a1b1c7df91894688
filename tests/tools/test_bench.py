"""`vitgraph bench`: interleaving, medians, ratios."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.tools.conftest import Cli
from vitgraph.tools.bench_rounds import run_rounds


def write_model(path: Path, layers: int, batch: int | str = "N") -> None:
    """As many products as asked for, one after the other, on a batch that is open unless its size is given."""
    x = helper.make_tensor_value_info("v0", TensorProto.FLOAT, [batch, 256])
    y = helper.make_tensor_value_info(f"v{layers}", TensorProto.FLOAT, [batch, 256])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [256, 256], [0.01] * 256 * 256)
    nodes = [helper.make_node("MatMul", [f"v{i}", "w"], [f"v{i + 1}"]) for i in range(layers)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], [weight]), opset_imports=[helper.make_opsetid("", 20)]
    )
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())


def test_rounds_take_turns_in_both_orders() -> None:
    seen = list[str]()
    times = run_rounds([lambda: seen.append("a"), lambda: seen.append("b")], rounds=3, warm_up=1)
    assert "".join(seen) == "ab" + "ab" + "ba" + "ab"
    assert [len(each) for each in times] == [3, 3]


def test_ratio_is_to_the_first(cli: Cli) -> None:
    write_model(Path("small.onnx"), 1)
    write_model(Path("large.onnx"), 64)
    found = cli("bench", "small.onnx", "large.onnx", "--rounds", "5", "--batch", "16", "--threads", "1", "--json").json
    small, large = found["results"]
    assert small["ratio_to_first"] == 1
    assert large["ratio_to_first"] == pytest.approx(large["median_ms"] / small["median_ms"], rel=0.05)
    assert large["ratio_to_first"] > 2, "64 times the work takes longer"
    assert large["min_ms"] <= large["median_ms"] <= large["max_ms"]
    assert (small["batch"], found["rounds"]) == (16, 5)


def test_every_model_runs_in_every_backend_at_every_batch_size(cli: Cli) -> None:
    write_model(Path("a.onnx"), 1)
    write_model(Path("b.onnx"), 2)
    ran = cli("bench", "a.onnx", "b.onnx", "--backend", "ort,openvino", "--batch", "1,4", "--rounds", "2", "--json")
    assert ran.status == 0, ran.err
    rows = ran.json["results"]
    found = [(each["batch"], each["model"], each["backend"]) for each in rows]
    assert found == [
        (size, model, name) for size in (1, 4) for model in ("a.onnx", "b.onnx") for name in ("ort", "openvino")
    ]
    assert [each["ratio_to_first"] for each in rows[::4]] == [1, 1]
    assert all(each["median_ms"] >= each["min_ms"] > 0 for each in rows)
    assert set(rows[1]["execution"]["linears"].values()) == {"fp32"}
    assert "execution" not in rows[0], "ONNX Runtime does not say"


def test_a_fixed_batch_skips_others_with_the_reason(cli: Cli) -> None:
    write_model(Path("open.onnx"), 1)
    write_model(Path("fixed.onnx"), 1, batch=4)
    ran = cli("bench", "fixed.onnx", "open.onnx", "--batch", "4,8", "--rounds", "1", "--json")
    assert ran.status == 0, ran.err
    *_, skipped, alone = ran.json["results"]
    assert (skipped["batch"], skipped["median_ms"], skipped["ratio_to_first"]) == (8, None, None)
    assert skipped["why"].startswith("fixed.onnx was made for batches of 4, not 8; `vitgraph compile --batch 1:8:8`")
    assert alone["median_ms"] > 0
    assert (alone["ratio_to_first"], alone["why"]) == (None, "the baseline does not run this batch")
    assert "was made for batches of 4" in cli("bench", "fixed.onnx", "open.onnx", "--batch", "8", "--rounds", "1").out
    own = cli("bench", "fixed.onnx", "--rounds", "1", "--json").json["results"]
    assert [each["batch"] for each in own] == [4], "unless given, the model's own batch"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fixed.onnx", "--batch", "8"], "was made for batches of 4, not 8"),
        (["fixed.onnx", "--batch", "1:8"], "write sizes with commas between"),
        (["fixed.onnx", "--batch", "0"], "write sizes with commas between"),
        (["fixed.onnx", "--backend", "trt"], "--backend tensorrt: "),
        (["fixed.onnx", "--backend", "torch-compile"], "--backend torch-compile: "),
        (["fixed.onnx", "--backend", "ort,orz"], "there is no backend 'orz'"),
        (["fixed.onnx", "--backend", "eager"], "a model takes one input [batch, 1 or 3, height, width]"),
        (["nothing"], "no folder with either"),
    ],
)
def test_what_can_not_be_timed_is_an_input_error(cli: Cli, words: list[str], says: str) -> None:
    write_model(Path("fixed.onnx"), 1, batch=4)
    ran = cli("bench", *words, "--rounds", "1")
    assert ran.status == 2
    assert says in " ".join(ran.err.split())


def test_a_saved_program_runs_in_any_backend(cli: Cli, mlp: Path) -> None:
    assert cli("opt", mlp, "--pipeline", "fold-constants", "-o", "mlp.safetensors").status == 0
    ran = cli("bench", "mlp.safetensors", "--backend", "eager,ort,openvino", "--rounds", "1", "--json")
    assert ran.status == 0, ran.err
    assert [(each["backend"], each["batch"]) for each in ran.json["results"]] == [
        ("eager", 4),
        ("ort", 4),
        ("openvino", 4),
    ]


def test_text_has_a_row_for_each(cli: Cli) -> None:
    write_model(Path("small.onnx"), 1)
    ran = cli("bench", "small.onnx", "small.onnx", "--rounds", "1")
    assert ran.out.count("small.onnx") == 2

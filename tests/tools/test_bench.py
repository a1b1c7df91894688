"""`vitgraph bench`: interleaving, medians, ratios."""

from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.tools.conftest import Cli
from vitgraph.tools.bench import run_rounds


def write_model(path: Path, layers: int) -> None:
    """As many products as asked for, one after the other, on a batch that is open."""
    x = helper.make_tensor_value_info("v0", TensorProto.FLOAT, ["N", 256])
    y = helper.make_tensor_value_info(f"v{layers}", TensorProto.FLOAT, ["N", 256])
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


def test_text_has_a_row_for_each(cli: Cli) -> None:
    write_model(Path("small.onnx"), 1)
    ran = cli("bench", "small.onnx", "small.onnx", "--rounds", "1")
    assert ran.out.count("small.onnx") == 2

"""`vitgraph inspect`."""

import json
import re
from pathlib import Path

from onnx import TensorProto, helper

from tests.backends.onnx_vit import Vit, make_vit, onnx
from tests.tools.conftest import Cli
from tests.tools.engine_file import ENGINE
from vitgraph.backends.onnx.lowering import lower
from vitgraph.ir.program_file import load, save


def test_text_shows_facts_sites_and_every_node(cli: Cli, mlp: Path) -> None:
    ran = cli("inspect", mlp)
    assert ran.status == 0
    assert "# sites: linear fc1 1, fc2 1, head 1" in ran.out
    assert "# weights: 370" in ran.out
    assert ran.out.count("aten.linear.default(") == 3
    assert "aten.linear.default(gelu, fc2_weight, fc2_bias)  # fc2" in ran.out


def test_captured_model_has_no_sites_yet(cli: Cli) -> None:
    found = cli("inspect", "digits-vit", "--weights", "random", "--json").json
    assert found["form"] == "captured"
    assert found["sites"] is None
    assert found["inputs"] == ["f32[1, 1, 24, 24]"]


def test_json_nodes_are_linked(cli: Cli, mlp: Path) -> None:
    ran = cli("inspect", mlp, "--format", "json")
    found = json.loads(ran.out)
    names = {node["name"] for node in found["nodes"]}
    assert len(names) == len(found["nodes"])
    assert all(set(node["inputs"]) <= names for node in found["nodes"])
    by_path = {node["path"]: node for node in found["nodes"] if node["operator"] == "aten.linear.default"}
    assert by_path["fc2"]["inputs"] == ["gelu", "fc2_weight", "fc2_bias"]


def test_glob_picks_by_path_name_and_operator(cli: Cli, mlp: Path) -> None:
    assert cli("inspect", mlp, "--node", "fc?").out.count("aten.linear.default(") == 2
    assert cli("inspect", mlp, "--node", "gelu").out.count("\n") == 1
    assert cli("inspect", mlp, "--node", "*linear*").out.count("aten.linear.default(") == 3


def test_dot_holds_every_node_and_edge(cli: Cli, mlp: Path) -> None:
    dot = cli("inspect", mlp, "--format", "dot").out
    nodes = json.loads(cli("inspect", mlp, "--format", "json").out)["nodes"]
    assert dot.startswith('digraph "mlp" {')
    assert dot.count("{") == dot.count("}")
    assert len(re.findall(r"\[label=", dot)) == len(nodes)
    assert dot.count(" -> ") == sum(len(set(node["inputs"])) for node in nodes)
    assert '"gelu" -> "linear_1";' in dot


def test_onnx(cli: Cli) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy")
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [0.0] * 16)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="blocks.0.fc1"),
        helper.make_node("Relu", ["h"], ["y"], name="blocks.0.act"),
    ]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    Path("m.onnx").write_bytes(model.SerializeToString())
    found = cli("inspect", "m.onnx", "--json").json
    assert found["inputs"] == ["x: float[N, 4]"]
    assert found["weights"] == 16
    assert [(node["name"], node["inputs"]) for node in found["nodes"]] == [
        ("blocks.0.fc1", []),
        ("blocks.0.act", ["blocks.0.fc1"]),
    ]
    assert "blocks.0.act: float[N, 4] = Relu(blocks.0.fc1)" in cli("inspect", "m.onnx").out
    assert cli("inspect", "m.onnx", "--node", "*.fc1").out.count("\n") == 1


def test_masks_and_what_became_of_them(cli: Cli, mlp: Path) -> None:
    """Of a program and of an ONNX file: which patterns the weights have, and which masks were lost."""
    steps = "nm-mask{only=[fc1]},nm-mask{n=2 m=8 v=8 only=[fc2]}"
    assert cli("opt", mlp, "--pipeline", steps, "-o", "p.safetensors").status == 0
    found = cli("inspect", "p.safetensors", "--json").json
    assert (found["sparse"], found["masks_lost"]) == ({"2:4": 1, "2:8": 1}, [])  # 8 rows: no tile that packs better
    program = load(Path("p.safetensors"))
    lower(program, Path("m.onnx"))
    assert cli("inspect", "m.onnx", "--json").json["sparse"] == {"2:4": 1, "2:8": 1}
    assert "# sparse: 2:4 1, 2:8 1" in cli("inspect", "m.onnx").out
    program.tensor("fc1.weight_keep")[0, :4] = True
    save(program, Path("q.safetensors"))
    found = cli("inspect", "q.safetensors", "--json").json
    assert "2:4" not in found["sparse"]
    assert found["masks_lost"] == ["fc1"]
    assert "# masks_lost: fc1" in cli("inspect", "q.safetensors").out
    lower(program, Path("n.onnx"))
    assert "2:4" not in cli("inspect", "n.onnx", "--json").json["sparse"]


def test_weights_in_a_file_that_is_not_there_are_an_input_error(cli: Cli) -> None:
    onnx.save(make_vit(Vit(masked=True)), "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert cli("inspect", "m.onnx", "--json").json["sparse"] == {"2:4": 4}
    Path("m.data").unlink()
    ran = cli("inspect", "m.onnx")
    assert ran.status == 2
    assert "m.data" in ran.err


def test_engine_report(cli: Cli) -> None:
    Path("engine.json").write_text(json.dumps(ENGINE))
    gemm, copied = cli("inspect", "engine.json").out.splitlines()[-2:]
    assert re.split("  +", gemm) == ["gemm", "int8", "int8[1, 4, 8]", "int8[1, 4, 8]", "blocks.0.fc1", "myl_0"]
    assert (copied.split()[0], copied.split()[-1]) == ("copy", "reformat")
    assert cli("inspect", "engine.json", "--node", "*fc1*", "--json").json["layers"] == ENGINE["layers"][:1]
    Path("engine.json").write_text("{}")
    assert cli("inspect", "engine.json").status == 2

"""TensorRT as a builder of the registry: what is planned, built, deferred and refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.backends.operator_cases import build
from vitgraph.backends import choose, find_builder
from vitgraph.backends.onnx.lowering import lower
from vitgraph.backends.tensorrt import backend as trt
from vitgraph.backends.tensorrt.backend import EngineBuild, unbuildable_why
from vitgraph.backends.tensorrt.builder import Record
from vitgraph.backends.tensorrt.engine_check import EnginePlan
from vitgraph.errors import VitgraphError
from vitgraph.ir.batch import parse_batch
from vitgraph.ir.program import Program
from vitgraph.runtime.backend import Build, Builder, Violation
from vitgraph.targets.target import get_target

A100 = get_target("a100")
LINEAR = (
    "s: f32[] = constant('s'); w: f32[64, 32] = weight('w'); ws: f32[64] = constant('w_scale'); x: f32[{batch}, 16, 32] = input(); "
    "f = vitgraph.fake_quantize.default(x, s); g = vitgraph.fake_quantize.default(w, ws, 0); "
    "y = aten.linear.default(f, g)  # fc1"
)


def program(batch: str = "4") -> Program:
    made = build(LINEAR.format(batch=batch))
    made.tensor("s").fill_(0.03)
    made.tensor("w_scale").copy_(made.tensor("w").detach().abs().amax(1) / 127)
    return made


def plan(folder: Path, target: str = "a100", batch: str = "4") -> Build:
    made = program("N" if ":" in batch else batch)
    model = lower(made, folder / "model.onnx")
    return find_builder("tensorrt").plan(made, model, get_target(target), parse_batch(batch))


def ignore(what: str, done: int, total: int) -> None:
    """Nobody watches."""


def test_is_the_default_and_of_the_protocol() -> None:
    runner, builder = choose(None)
    assert isinstance(builder, Builder)
    assert (runner.name, builder.name) == ("ort", "tensorrt")


def test_what_is_chosen_takes_the_place_of_the_default_it_can_stand_for() -> None:
    assert choose("openvino")[1] is None
    runner, builder = choose("tensorrt")
    assert builder is not None
    assert (runner.name, builder.name) == ("ort", "tensorrt")


@pytest.mark.parametrize("name", ["a100", "orin-agx", "cpu", "rtx-ada"])
def test_refuses_what_cannot_be_built_here(name: str) -> None:
    target = get_target(name)
    assert find_builder("tensorrt").refusal(target) == unbuildable_why(target)


def test_refuses_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        """Stand for importlib's search."""

    monkeypatch.setattr(trt, "find_spec", find_nothing)
    assert "pip install tensorrt-rtx" in (find_builder("tensorrt").refusal(A100) or "")


@pytest.mark.skipif(unbuildable_why(A100) is not None, reason=f"no engine here: {unbuildable_why(A100)}")
@pytest.mark.parametrize("batch", ["4", "1:4:8"])
def test_builds_files_and_the_reports_part(batch: str, tmp_path: Path) -> None:
    told = list[tuple[str, int]]()
    artifact = plan(tmp_path, batch=batch).run(lambda what, done, total: told.append((what, done)))
    assert set(artifact.files) == {"engine.plan", "engine.json", "build.log"}
    assert artifact.report["linears"] == {"planned_int8": 1, "int8": 1, "fallback": []}
    assert artifact.report["bytes"] == len(artifact.files["engine.plan"])
    assert artifact.violations == ()
    assert all(what.startswith("build: ") and 0 <= done <= 100 for what, done in told)


def test_the_program_may_go_before_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is built from holds the program: its weights are read, or in the file."""
    planned = plan(tmp_path)
    assert isinstance(planned, EngineBuild)
    assert not any(isinstance(value, Program) for value in vars(planned).values())
    asked = dict[str, Any]()

    def refuse(path: Path, target: Any, batch: Any, progress: Any) -> None:
        asked.update(path=path, target=target.name, batch=batch)
        raise VitgraphError("stop here")

    monkeypatch.setattr(trt, "build_engine", refuse)
    with pytest.raises(VitgraphError, match="stop here"):
        planned.run(ignore)
    assert asked == {"path": tmp_path / "model.onnx", "target": "a100", "batch": None}


def test_elsewhere_it_leaves_the_command_for_the_device(tmp_path: Path) -> None:
    artifact = plan(tmp_path, "orin-agx", "1:4:8").defer()
    (script,) = artifact.files.values()
    assert list(artifact.files) == ["build_on_device.sh"]
    assert b"--minShapes=x:1x16x32 --optShapes=x:4x16x32 --maxShapes=x:8x16x32" in script
    assert (dict(artifact.report), artifact.violations) == ({}, ())
    assert dict(plan(tmp_path, "cpu").defer().files) == {}


def test_what_the_file_alone_shows_is_found_without_an_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Violation("fc1", "2:4 along K in the ONNX file", "denser", "the mask was lost on the way")

    def judge(planned: EnginePlan) -> tuple[Violation, ...]:
        return (lost,) if [linear.module for linear in planned.linears] == ["fc1"] else ()

    monkeypatch.setattr(trt, "judge_patterns", judge)
    assert plan(tmp_path, "cpu").defer().violations == (lost,)


def test_the_log_is_the_same_wherever_and_whenever_the_model_is_built() -> None:
    def log(path: Path, milliseconds: float, memory: int) -> str:
        record = Record()
        record.take(3, f"Input filename:   {path}")
        record.take(3, f"weights of {path.parent}/model.onnx.data")
        record.take(
            3, f"Algorithm ShiftNTopDown took {milliseconds}ms to assign 1 blocks to 1 nodes requiring 8249344 bytes."
        )
        record.take(3, f"Engine generation completed in {milliseconds / 1000} seconds.")
        record.take(
            3, f"[MemUsageStats] Peak memory usage of TRT CPU/GPU memory allocators: CPU 0 MiB, GPU {memory} MiB"
        )
        record.take(3, "Detected 1 inputs and 1 output network tensors.")
        return record.text(path)

    assert log(Path("a/.out.unfinished/folder/model.onnx"), 7.5, 4) == log(Path("b/model.onnx"), 1.25e-5, 5)
    assert "Input filename:   model.onnx\n" in log(Path("b/model.onnx"), 1.0, 4)
    assert "took …ms to assign 1 blocks to 1 nodes requiring 8249344 bytes." in log(Path("b/model.onnx"), 1.0, 4)


def test_another_build_has_another_log() -> None:
    one, other = Record(["Detected 1 inputs"]), Record(["Detected 2 inputs"])
    assert one.text(Path("model.onnx")) != other.text(Path("model.onnx"))

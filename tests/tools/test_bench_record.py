"""`bench --record` and `evaluate` through a device that pretends, on one compilation."""

import json
from pathlib import Path

import pytest

from tests.backends.tensorrt.fake_runtime import plan_of
from tests.tools.conftest import Cli
from tests.tools.pretended_backend import engines_run, pretended_installed
from vitgraph.outputs.manifest import differences

COMPILE = ("compile", "digits-vit", "--target", "cpu", "--recipe", "fp16", "--pipeline", "canonicalize,fold-constants", "--batch", "1:8:16")  # fmt: skip
BENCH = ("bench", "out", "--rounds", "4", "--warm-up", "0", "--batch", "2,64")


def test_latency_comes_from_a_gpu_and_the_folder_stays_whole(cli: Cli) -> None:
    assert cli(*COMPILE, "-o", "out").status == 0
    before = json.loads(Path("out/report.json").read_text())
    assert before["latency"] is None
    assert "bench OUT --record" in before["latency_why"]
    model = Path("out/model.onnx").read_bytes()
    with pretended_installed():
        on_cpu = cli(*BENCH, "--backend", "eager", "--record")
        assert (on_cpu.status, differences(Path("out"))) == (2, [])
        assert "out is timed on a CPU alone (by eager)" in " ".join(on_cpu.err.split())
        assert json.loads(Path("out/report.json").read_text()) == before
        ran = cli(*BENCH, "--backend", "pretended,eager", "--record", "--json")
        assert ran.status == 0, ran.err
        assert ran.json["recorded"] == ["out"]
        _evaluates(cli)
    after = json.loads(Path("out/report.json").read_text())
    latency = after["latency"]
    assert after == before | {"latency": latency, "latency_why": None}
    assert latency["measured_on"] == "Pretended GPU"
    assert latency["card"]["driver"] == "580.1"
    assert set(latency["versions"]) == {"vitgraph", "torch"}
    (row,) = latency["results"]
    assert (row["backend"], row["batch"], row["device_median_ms"]) == ("pretended", 2, 2.5)
    assert row["settings"] == {"runtime": "pretended 1.0"}
    assert not any("ratio" in key for key in row)
    assert "Pretended GPU, driver 580.1" in Path("out/report.html").read_text()
    assert Path("out/model.onnx").read_bytes() == model
    assert "2.5 ms (1.3 to 3.7) for 2 images by pretended on Pretended GPU" in " ".join(
        cli("inspect", "out").out.split()
    )
    assert differences(Path("out")) == []
    assert not Path(".out.unfinished").exists()
    _refuses_what_is_not_ours(cli)
    assert cli(*COMPILE, "-o", "out", "--force").status == 0, "it is still replaced"
    after["latency"]["results"][0]["device_median_ms"] = "fast"
    Path("out/report.json").write_text(json.dumps(after))
    edited = cli("inspect", "out")
    assert edited.status == 2
    assert "is no vitgraph report: latency" in " ".join(edited.err.split())


def _evaluates(cli: Cli) -> None:
    """The device judges accuracy by the same path as ONNX Runtime."""
    words = ("evaluate", "out", "--data", "digits:test", "--images", "40", "--json")
    refused = cli(*words, "--backend", "trt")
    assert refused.status == 2
    assert "\n" not in refused.err.strip()
    with engines_run():
        assert "is no engine such as engine.plan" in cli(*words, "--backend", "trt").err
        engine = Path("out/engine.plan")
        engine.write_bytes(plan_of(shape=[-1, 1, 24, 24], width=10))
        judged = cli(*words, "--backend", "trt")
        engine.unlink()
    assert judged.status == 0, judged.err
    assert judged.json["measured_on"] == "tensorrt engine.plan"
    assert judged.json["execution"]["settings"]["runtime"] == "tensorrt_rtx 1.7.1"
    ort, device = (cli(*words, "--backend", name).json for name in ("ort", "pretended"))
    assert device["measured_on"] == "pretended program"
    assert device["top1"] == ort["top1"]
    broken = cli(*words, "--backend", "broken")
    assert broken.status == 1
    assert "blocks.0.mlp.fc1: planned int8 gemm, found fp16" in broken.err
    assert broken.json["violations"][0]["site"] == "blocks.0.mlp.fc1"
    assert broken.json["top1"] == device["top1"]


def _refuses_what_is_not_ours(cli: Cli) -> None:
    note = Path("out/note.txt")
    note.write_text("mine")
    with pretended_installed():
        ran = cli(*BENCH, "--backend", "pretended", "--record")
    assert ran.status == 2
    assert "note.txt" in ran.err
    assert note.read_text() == "mine"
    note.unlink()


def test_the_control_sees_a_changed_report(tmp_path: Path) -> None:
    """What `differences` is for: a report that is written into a folder without its manifest is found."""
    from vitgraph.outputs.whole_folder import whole_folder

    with whole_folder(tmp_path / "out", False, ("report.json",)) as folder:
        (folder / "report.json").write_text('{"latency": null, "seconds": 1.5}')
    report = tmp_path / "out" / "report.json"
    report.write_text('{"latency": null, "seconds": 2.5}')
    assert differences(tmp_path / "out") == []
    report.write_text('{"latency": {"ms": 1}, "seconds": 2.5}')
    assert differences(tmp_path / "out") == ["report.json (changed)"]


@pytest.mark.parametrize("fails", [True, False])
def test_a_revised_folder_appears_whole_or_not_at_all(tmp_path: Path, fails: bool) -> None:
    from vitgraph.outputs.revised_folder import revised_folder
    from vitgraph.outputs.whole_file import write_whole
    from vitgraph.outputs.whole_folder import whole_folder

    out = tmp_path / "out"
    with whole_folder(out, False, ("times.json",)) as folder:
        (folder / "times.json").write_text("1")
        (folder / "deep").mkdir()
        (folder / "deep" / "kept.txt").write_text("kept")

    def revise() -> None:
        with revised_folder(out) as revised:
            write_whole(revised / "times.json", b"[2]")
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            revise()
    else:
        revise()
    assert (out / "times.json").read_text() == ("1" if fails else "[2]")
    assert (out / "deep" / "kept.txt").read_text() == "kept"
    assert differences(out) == []
    assert [each.name for each in tmp_path.iterdir()] == ["out"]

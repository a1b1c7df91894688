"""`--backend` in compile and evaluate: a backend of another package, one that only runs, one that can't be had."""

from pathlib import Path

import pytest

from tests.planted import installed
from tests.tools.conftest import Cli

STEPS = "canonicalize,fold-constants,fuse-attention"
DIGITS = (*("compile", "digits-vit", "--recipe", "fp16", "--pipeline", STEPS), *("--batch", "1:8:8"))
EVALUATE = ("--evaluate-data", "digits:test", "--evaluate-images", "16")


def test_another_packages_backend_builds_and_measures(cli: Cli) -> None:
    with installed():
        ran = cli(*DIGITS, *EVALUATE, "--target", "a100", "--backend", "planted", "-o", "out", "--json")
        assert ran.status == 0, ran.err
        assert ran.json["engine"] == {"flavour": "planted", "target": "a100", "products": 18}
        assert ran.json["accuracy"]["measured_on"] == "planted program"
        assert ran.json["accuracy"]["execution"]["summary"] == "1 of 1 linears in fp32"
        assert Path("out/engine.txt").read_text().startswith("patch_embed.proj float\n")
        assert "planted" in Path("out/report.html").read_text()
        assert "flavour planted" in cli("inspect", "out").out
        found = cli("evaluate", "out", "--data", "digits:test", "--images", "16", "--backend", "planted", "--json").json
        assert found["measured_on"] == "planted program"
        assert found["top1"] == ran.json["accuracy"]["top1"]
        timed = cli("bench", "out", "--backend", "ort,planted", "--rounds", "1", "--json").json["results"]
        assert [each["backend"] for each in timed] == ["ort", "planted"]
        listed = {each["backend"]: each for each in cli("doctor", "--json").json["backends"]}
    assert listed["planted"]["does"] == ["runs models", "builds engines"]
    assert "NoSuchClass" in listed["planted-missing"]["why"]
    assert listed["tensorrt"]["does"] == ["runs models", "builds engines"]
    assert cli("evaluate", "out", "--data", "digits:test", "--backend", "planted").status == 2, "gone with its package"


def test_one_that_only_runs_measures_and_no_engine_is_built(cli: Cli) -> None:
    ran = cli(*DIGITS, *EVALUATE, "--target", "a100", "--backend", "openvino", "-o", "out", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["engine"] is None
    assert ran.json["engine_why"] == "--backend openvino runs models and builds no engine"
    assert ran.json["accuracy"]["measured_on"] == "openvino model.onnx"
    assert ran.json["accuracy"]["agreement"] == 100
    assert not Path("out/engine.plan").exists()
    assert "18 of 18 linears in fp32; 4 of 4 attentions in fp32" in cli("inspect", "out").out
    found = cli("evaluate", "out", "--data", "digits:test", "--images", "16", "--backend", "openvino")
    assert "openvino: 18 of 18 linears in fp32" in found.out


@pytest.mark.parametrize(
    ("backend", "target", "says"),
    [
        ("tensorrt", "cpu", "--backend tensorrt: a CPU has no TensorRT engine"),
        ("tensorrt", "orin-agx", "--backend tensorrt: "),
        ("planted", "cpu", "--backend planted: it builds for no CPU"),
        ("ortt", "a100", "did you mean ort"),
        ("planted-missing", "a100", "can't be loaded from planted_backends:NoSuchClass"),
    ],
)
def test_what_can_not_be_had_is_told_before_any_work(cli: Cli, backend: str, target: str, says: str) -> None:
    with installed():
        ran = cli(*DIGITS, "--target", target, "--backend", backend, "-o", "out")
    assert ran.status == 2
    assert says in " ".join(ran.err.split())
    assert list(Path.cwd().iterdir()) == []


def test_the_former_option_says_its_new_name(cli: Cli) -> None:
    ran = cli("evaluate", "out", "--data", "digits:test", "--on", "eager")
    assert ran.status == 2
    assert "the option --on is called --backend now" in ran.err


def test_a_saved_program_is_evaluated(cli: Cli, mlp: Path) -> None:
    assert cli("opt", "digits-vit", "--batch", "1:8:8", "--pipeline", STEPS, "-o", "p.safetensors").status == 0
    found = [
        cli("evaluate", "p.safetensors", "--data", "digits:test", "--images", "64", "--backend", name, "--json").json
        for name in ("ort", "eager")
    ]
    assert {(each["model"], each["recipe"], each["top1"]) for each in found} == {("digits-vit", None, 100.0)}
    assert cli("opt", mlp, "--pipeline", "canonicalize", "-o", "mlp.safetensors").status == 0
    ran = cli("evaluate", "mlp.safetensors", "--data", "digits:test")
    assert (ran.status, "a model takes one input" in ran.err) == (2, True)

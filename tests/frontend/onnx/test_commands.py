"""The commands with an ONNX file in the place of a model."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.handmade_vit import HandmadeViT
from vitgraph.tools.cli import main

IMAGES = ("--mean", "0.5", "--std", "0.5")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded digits-vit as an ONNX file."""
    from vitgraph.backends.onnx.lowering import lower
    from vitgraph.frontend.capture import capture_model
    from vitgraph.frontend.models import load_model
    from vitgraph.ir.batch import Batch
    from vitgraph.passes.prepared import prepare

    path = tmp_path_factory.mktemp("digits") / "digits.onnx"
    lower(prepare(capture_model(load_model("digits-vit"), Batch(1, 8, 64))), path)
    return path


def _json(capfd: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    import json

    capfd.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_it_is_as_good_as_the_model(digits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Accuracy of the file, run by ONNX Runtime and as a program, is that of the model."""
    by_file = _json(capfd, "evaluate", digits, "--data", "digits:test", "--images", "200", *IMAGES)
    by_program = _json(
        capfd, "evaluate", digits, "--data", "digits:test", "--images", "200", "--backend", "eager", *IMAGES
    )
    assert by_file["top1"] == by_program["top1"] > 90


def test_evaluation_asks_for_what_the_file_does_not_say(digits: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(digits), "--data", "digits:test"]) == 2
    assert "give --mean and --std" in capfd.readouterr().err


def test_it_is_counted_and_rewritten(digits: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    counted = _json(capfd, "inspect", digits, "--cost", "--target", "a100")
    assert counted["name"] == "digits"
    saved = tmp_path / "p.safetensors"
    assert main(["opt", str(digits), "--pipeline", "canonicalize,nm-mask{n=2 m=4}", *IMAGES, "-o", str(saved)]) == 0
    told = _json(capfd, "evaluate", saved, "--data", "digits:test", "--images", "50", "--backend", "eager")
    assert told["top1"] is not None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_engine_is_that_of_the_module(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    onnx: Any = torch.onnx
    module = HandmadeViT().eval()
    file = tmp_path / "m.onnx"
    onnx.export(module, (torch.zeros(1, 3, 16, 16),), str(file), dynamo=False, opset_version=17)
    common = ("--recipe", "int8", "--target", "a100", "--calibration-data", "random", "--image-size", "16",
              "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")  # fmt: skip
    own = _json(capfd, "compile", "tests.handmade_vit:HandmadeViT", *common, "-o", tmp_path / "own")
    found = _json(capfd, "compile", file, *common, "-o", tmp_path / "found")
    if own["engine"] is None:
        pytest.skip("no engine is built here")
    layers = [each["engine"]["layers"] for each in (own, found)]
    assert abs(layers[0] - layers[1]) <= 0.03 * layers[0]
    assert own["model"]["parameters"] == found["model"]["parameters"]

"""`vitgraph doctor`."""

from importlib.metadata import version

import pytest
import torch

from tests.tools.conftest import Cli


def test_tells_what_is_here(cli: Cli) -> None:
    found = cli("doctor", "--json").json
    assert found["packages"]["torch"] == version("torch")
    assert "CPUExecutionProvider" in found["onnxruntime_providers"]
    assert {each["target"]: each["builds_here"] for each in found["targets"]}["cpu"] is False
    assert version("torch") in cli("doctor").out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_says_why_nothing_runs_on_a_gpu_here(cli: Cli) -> None:
    found = cli("doctor", "--json").json
    assert (found["machine"]["gpu"], found["machine"]["driver"]) == (None, None)
    why = {each["backend"]: (each["does"], each["why"]) for each in found["backends"]}
    for name, does in (
        ("tensorrt", ["runs models", "builds engines"]),
        ("cuda", ["runs models", "builds engines"]),
        ("torch-compile", ["runs models"]),
    ):
        assert why[name][0] == does
        assert "\n" not in why[name][1]
        assert why[name][1]


def test_says_what_is_missing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        """Stand for importlib's search."""

    monkeypatch.setattr("vitgraph.backends.tensorrt.backend.find_spec", find_nothing)
    found = cli("doctor", "--json").json
    assert [each["target"] for each in found["targets"] if each["builds_here"]] == []
    (a100,) = (each for each in found["targets"] if each["target"] == "a100")
    assert "pip install" in a100["why"]

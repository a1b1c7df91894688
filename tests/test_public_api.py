"""The front door: exactly these names, loaded when first used."""

import json
import subprocess
import sys

import pytest

import vitgraph

# A name more or less is a decision: change this list, CHANGELOG.md and the documentation together.
PUBLIC = {
    "CheckFailed",
    "Compare",
    "Context",
    "Dump",
    "Effect",
    "InputError",
    "Pass",
    "PassError",
    "Pipeline",
    "Program",
    "Report",
    "Reproducer",
    "Target",
    "Verify",
    "VitgraphError",
    "capture_model",
    "capture_module",
    "compile_model",
    "find_sites",
    "get_target",
    "load",
    "load_model",
    "open_images",
    "parse",
    "read_pipeline",
    "read_report",
    "save",
    "show",
    "verify_program",
}

HEAVY = (
    *("torch", "torchvision", "timm", "transformers", "onnx", "onnx_ir", "onnxruntime", "openvino", "safetensors"),
    *("numpy", "PIL"),
    *("scipy", "sklearn", "tensorrt", "tensorrt_rtx", "tensorrt_rtx_libs", "tensorrt_rtx_bindings"),
)


def heavy_modules_after(statement: str) -> list[str]:
    """Which of HEAVY a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded: list[str] = json.loads(done.stdout)
    return loaded


def test_public_names_are_the_listed_ones() -> None:
    assert set(vitgraph.__all__) == PUBLIC
    assert len(vitgraph.__all__) == len(PUBLIC), "a name stands twice in __all__"


def test_every_public_name_is_there_and_explained() -> None:
    for name in PUBLIC:
        assert name in dir(vitgraph)
        thing = getattr(vitgraph, name)
        assert isinstance(thing, str) or thing.__doc__, f"vitgraph.{name} has no docstring"


def test_unknown_name_is_an_attribute_error() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(vitgraph, name)


@pytest.mark.parametrize("statement", ["import vitgraph", "import vitgraph.tools.cli"])
def test_start_loads_nothing_heavy(statement: str) -> None:
    assert heavy_modules_after(statement) == []


def test_heavy_modules_are_noticed() -> None:
    assert heavy_modules_after("import vitgraph, numpy") == ["numpy"]

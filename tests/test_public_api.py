"""The front door: exactly these names, loaded when first used."""

import ast
import inspect
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import pytest

import vitgraph

# A name more or less is a decision: change this list, CHANGELOG.md and the documentation together.
PUBLIC = {
    "AccuracyPart",
    "AttentionKernel",
    "AttentionSite",
    "Augmentation",
    "Batch",
    "BuilderSupport",
    "CheckFailed",
    "Chip",
    "Compare",
    "Compression",
    "Context",
    "DataSource",
    "Dim",
    "Distillation",
    "Dump",
    "Effect",
    "Elsa",
    "EmbeddingPart",
    "Evolution",
    "Finding",
    "ImageSet",
    "Images",
    "InputError",
    "Instrument",
    "Items",
    "LinearSite",
    "LoadedModel",
    "MachineError",
    "MatmulRule",
    "ModelFacts",
    "ModelPart",
    "NormSite",
    "Optimization",
    "OutputError",
    "Packing",
    "Pass",
    "PassError",
    "Pipeline",
    "Preprocessing",
    "PreprocessingOptions",
    "Printable",
    "ProductRule",
    "Program",
    "Rate",
    "Recipe",
    "Refusal",
    "Report",
    "Reproducer",
    "ResidualSite",
    "Schedule",
    "SearchResult",
    "Settings",
    "Sites",
    "SparseRule",
    "Stage",
    "Target",
    "TensorType",
    "TrainingRecipe",
    "TrainingResult",
    "Verify",
    "VitgraphError",
    "capture_model",
    "capture_module",
    "compile_model",
    "find_sites",
    "findings_of",
    "get_target",
    "load",
    "load_model",
    "open_images",
    "parse",
    "quantize",
    "read_pipeline",
    "read_report",
    "save",
    "search",
    "show",
    "sparsify",
    "train",
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


def type_checking_names(module: ModuleType) -> dict[str, Any]:
    """What a module imports for type checkers alone."""
    names = dict[str, Any]()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), names)  # noqa: S102 - our own imports
    return names


def types_within(hint: Any) -> Iterator[type]:
    """Every class that an annotation names, however deep."""
    if inspect.isclass(hint):
        yield hint
    for part in hint if isinstance(hint, list) else get_args(hint):  # pyright: ignore[reportUnknownVariableType]
        yield from types_within(part)


def hints_of(thing: Any) -> dict[str, Any]:
    """The annotations of a function, or of the fields that a class declares itself."""
    module = sys.modules[thing.__module__]
    names = {**vars(module), **type_checking_names(module)}
    if not inspect.isclass(thing):
        return get_type_hints(thing, names)
    found = inspect.get_annotations(thing)
    return {field: eval(hint, names) if isinstance(hint, str) else hint for field, hint in found.items()}


def signatures_of(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """(where, annotated thing) of a public function, or of a class, our classes under it, and their public members."""
    if not inspect.isclass(thing):
        yield name, thing
        return
    for base in (each for each in thing.__mro__ if each.__module__.startswith("vitgraph.")):
        yield name, base
        for member, value in vars(base).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(function) and (member == "__call__" or not member.startswith("_")):
                yield f"{name}.{member}", function


def unexported(names: Iterable[str]) -> dict[str, str]:
    """Types of vitgraph that the signatures of these public names speak of and that are not public, and where."""
    found = dict[str, str]()
    for name in names:
        for where, thing in signatures_of(name, getattr(vitgraph, name)):
            for argument, hint in hints_of(thing).items():
                for kind in types_within(hint) if not argument.startswith("_") else ():
                    ours = kind.__module__.startswith("vitgraph.") and not kind.__name__.startswith("_")
                    if ours and kind.__name__ not in vitgraph.__all__:
                        found[f"{kind.__module__}:{kind.__name__}"] = f"{where}({argument})"
    return found


def test_every_type_of_a_public_signature_is_public() -> None:
    assert unexported(PUBLIC) == {}


def test_a_type_that_is_not_public_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vitgraph, "__all__", sorted(PUBLIC - {"ImageSet", "TensorType"}))
    assert set(unexported({"quantize", "Program"})) == {
        "vitgraph.images.image_set:ImageSet", "vitgraph.ir.tensor_type:TensorType",
    }  # fmt: skip


def test_version_is_that_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert vitgraph.__version__ == project["project"]["version"]

"""Who may import whom: the table of CONTRIBUTING.md, read from the source with `ast`, hidden imports included."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("vitgraph", "passes", "backends", "tools")
UPPER = ("vitgraph.passes", "vitgraph.backends", "vitgraph.tools")
FRONT_DOORS = {
    "vitgraph/__init__.py",
    "vitgraph/compile/compiler.py",
    "vitgraph/compile/request.py",
}  # the only core files that may look upward
LATE_IMPORT = re.compile(r"vitgraph(\.\w+)+(:\w+)?")  # "vitgraph.passes.quantization.quantize:Quantize" in a registry
PASSES_MAY_USE = {"torch", *sys.stdlib_module_names}


def source_files(root: Path) -> list[Path]:
    """Every Python file of the four folders, each once: the links inside vitgraph/ are not followed."""
    inner_links = {root / name.replace(".", "/") for name in UPPER}
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    return [file for file in files if not inner_links & set(file.parents)]


def is_module(root: Path, name: str) -> bool:
    """Whether `name`, such as `vitgraph.passes.quantization.quantize`, is a file or folder of ours; the links are not needed."""
    place = root / re.sub(r"^vitgraph\.(passes|backends|tools)\b", r"\1", name).replace(".", "/")
    return place.with_suffix(".py").is_file() or place.is_dir()


def imported_names(tree: ast.AST, root: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import at any depth.

    `from vitgraph import text` yields `vitgraph.ir.text` where that is a module, and else the front door, `vitgraph`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "." * node.level + (node.module or "")
            inner = [f"{package}.{alias.name}" for alias in node.names]
            yield from ((node.lineno, name if is_module(root, name) else package) for name in inner)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and LATE_IMPORT.fullmatch(node.value):
            yield node.lineno, node.value.partition(":")[0]


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def objection(place: str, module: str) -> str | None:
    """Why the file at `place` (relative to the root) may not import `module`; None where it may."""
    folder = place.partition("/")[0]
    if module.startswith("."):
        return "a relative import: name the module in full"
    if module in FOLDERS:
        return "name the defining module: `from vitgraph.errors import InputError`, `import vitgraph.passes`"
    if place in FRONT_DOORS or folder == "tools":
        return None
    if module == "vitgraph.compile.compiler":
        return "vitgraph.compile.compiler looks upward; nothing below it may look back"
    if folder == "passes" and module.partition(".")[0] not in {"vitgraph", *PASSES_MAY_USE}:
        return "a pass may use vitgraph and torch only"

    neighbours = f"vitgraph.{folder}" if folder != "vitgraph" else None
    for upper in UPPER:
        if not within(module, upper):
            continue
        private = module.rpartition(".")[2].startswith("_")
        if upper == neighbours and (place == f"{folder}/__init__.py" or private):
            return None
        return f"{folder}/ may not know {upper}" if upper != neighbours else f"one of {folder}/ may not know another"
    return None


def complaints(root: Path) -> list[str]:
    """Every forbidden import under `root`, as `file:line imports module: reason`."""
    found: list[str] = []
    for file in source_files(root):
        place = file.relative_to(root).as_posix()
        for line, module in imported_names(ast.parse(file.read_text(encoding="utf-8"), filename=place), root):
            if why := objection(place, module):
                found.append(f"{place}:{line} imports {module}: {why}")
    return found


def test_import_directions() -> None:
    assert len(source_files(ROOT)) > len(FOLDERS), "found next to no source: the test looks in the wrong place"
    assert complaints(ROOT) == []


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("vitgraph/ir/text.py", "import vitgraph.passes"),
        ("vitgraph/ir/text.py", "from vitgraph.backends.tensorrt.backend import Trt"),
        ("vitgraph/ir/text.py", "def late():\n    from vitgraph.tools.cli import main"),
        ("vitgraph/ir/text.py", "from vitgraph import capture"),
        ("vitgraph/ir/text.py", "from vitgraph import passes"),
        ("vitgraph/ir/text.py", "from . import verify"),
        ("vitgraph/ir/text.py", "import passes"),
        ("vitgraph/ir/text.py", "from vitgraph.compile.compiler import compile"),
        ("vitgraph/ir/text.py", "NAME = 'vitgraph.passes.quantization.quantize:Quantize'"),
        ("passes/quantization/quantize.py", "from vitgraph.passes.quantization.smooth_quant import Smooth"),
        ("passes/quantization/quantize.py", "import vitgraph.backends.ort"),
        ("passes/quantization/quantize.py", "import onnx"),
        ("backends/tensorrt/backend.py", "from vitgraph.backends.ort import Ort"),
        ("backends/tensorrt/backend.py", "from vitgraph.backends import trt"),
        ("backends/tensorrt/backend.py", "import vitgraph.passes"),
        ("backends/tensorrt/backend.py", "import vitgraph.tools.cli"),
        ("tools/cli.py", "from vitgraph import compile"),
        ("tools/cli.py", "from ..vitgraph import text"),
    ],
)
def test_objects_to(place: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, place, text)
    (only,) = complaints(tmp_path)
    assert only.startswith(f"{place}:")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("vitgraph/__init__.py", "import vitgraph.passes"),
        ("vitgraph/compile/compiler.py", "from vitgraph.backends.tensorrt.backend import Trt"),
        ("vitgraph/ir/text.py", "import numpy\nfrom vitgraph.errors import InputError"),
        ("vitgraph/ir/text.py", "from vitgraph import text"),
        ("vitgraph/ir/text.py", "'''Prints what vitgraph.passes made.'''"),
        ("passes/__init__.py", "from vitgraph.passes.quantization.quantize import Quantize"),
        ("passes/quantization/quantize.py", "import math\nimport torch.fx\nimport vitgraph.pass_manager.pass_contract"),
        ("backends/tensorrt/backend.py", "import tensorrt\nfrom vitgraph.backends.onnx.lowering import lower"),
        ("backends/onnx/lowering.py", "from vitgraph.backends import _onnx"),
        ("backends/__init__.py", "ORT = 'vitgraph.backends.ort:Ort'"),
        (
            "tools/cli.py",
            "import vitgraph.passes\nimport vitgraph.backends.tensorrt.backend\nimport vitgraph.compile.compiler",
        ),
    ],
)
def test_allows(place: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, place, text)
    assert complaints(tmp_path) == []


def plant(root: Path, place: str, text: str) -> None:
    (root / place).parent.mkdir(parents=True)
    (root / place).write_text(text + "\n")


def imports_in_circle(edges: dict[str, set[str]]) -> list[str]:
    """The modules that reach themselves by following imports, in order of name."""

    def reached_from(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            fresh = edges.get(waiting.pop(), set()) - seen
            seen |= fresh
            waiting += fresh
        return seen

    return sorted(module for module in edges if module in reached_from(module))


def core_edges(root: Path) -> dict[str, set[str]]:
    """Which core module imports which at its top level, where a circle would break the import."""
    edges: dict[str, set[str]] = {}
    for file in source_files(root):
        place = file.relative_to(root)
        if place.parts[0] != "vitgraph" or place.as_posix() in FRONT_DOORS:
            continue
        top = ast.Module(body=ast.parse(file.read_text(encoding="utf-8")).body, type_ignores=[])
        statements = [node for node in top.body if isinstance(node, ast.Import | ast.ImportFrom)]
        parts = place.parent.parts if place.name == "__init__.py" else place.with_suffix("").parts
        edges[".".join(parts)] = {name for node in statements for _, name in imported_names(node, root)}
    return edges


def test_core_has_no_import_circle() -> None:
    assert imports_in_circle(core_edges(ROOT)) == []


def test_finds_an_import_circle() -> None:
    assert imports_in_circle({"a": {"b"}, "b": {"c", "torch"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]

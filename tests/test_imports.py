"""Who may import whom: the floors of CONTRIBUTING.md, read from the source with `ast`, hidden imports included."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitgraph.passes import ORDER

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("vitgraph", "passes", "backends", "tools")
UPPER = ("vitgraph.passes", "vitgraph.backends", "vitgraph.tools")
FLOORS = (
    {"errors", "threads"},
    {"domains", "logs", "outputs", "progress", "reading"},
    {"ir", "digits"},
    {"images", "targets"},
    {"runtime"},
    {"analysis", "pass_manager", "frontend"},
    {"quantizing", "cost"},
    {"training"},
    {"compile"},
    {"searching", "finetuning"},
    {"api"},
)
"""The rooms of the core from the ground up: a room imports rooms of the floors below it, and itself."""
FRONT_DOORS = (
    "vitgraph/__init__.py",
    "vitgraph/__main__.py",
    "vitgraph/api.py",
    "vitgraph/compile/compiler.py",
    "vitgraph/compile/opening.py",
    "vitgraph/searching/runner.py",  # finds the passes of a recipe by name
    "vitgraph/finetuning/runner.py",  # finds the passes of a recipe by name
    "vitgraph/finetuning/stages.py",  # brings a teacher to the form in which blocks are found
    "vitgraph/finetuning/stage_work.py",  # runs programs in torch, to evaluate them
    "vitgraph/searching/elsa_method.py",  # writes a recipe of masks, which have their place in the order of passes
    "vitgraph/searching/lpvit_method.py",  # asks `block-prune` for its curves and allocates by them
)
"""The only core files that may look up to passes and backends: they put the parts together."""
SHARED_BACKEND = "vitgraph.backends.onnx"
PASSES = {f"vitgraph.passes.{place.partition(':')[0]}" for place in ORDER.values()}
"""The modules that are passes; the others in passes/ are helpers, which passes share."""
LATE_IMPORT = re.compile(r"vitgraph(\.\w+)+(:\w+)?")  # "vitgraph.passes.quantization.quantize:Quantize" in a registry
PASSES_MAY_USE = {"torch", *sys.stdlib_module_names}


def source_files(root: Path) -> list[Path]:
    """Every Python file of the four folders, each once: the links inside vitgraph/ are not followed."""
    inner_links = {root / name.replace(".", "/") for name in UPPER}
    files = [file for folder in FOLDERS for file in sorted((root / folder).rglob("*.py"))]
    return [file for file in files if not inner_links & set(file.parents)]


def is_module(root: Path, name: str) -> bool:
    """Whether `name`, such as `vitgraph.passes.affine`, is a file or folder of ours; the links are not needed."""
    place = root / re.sub(r"^vitgraph\.(passes|backends|tools)\b", r"\1", name).replace(".", "/")
    return place.with_suffix(".py").is_file() or place.is_dir()


def imported_names(tree: ast.AST, root: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import at any depth.

    `from vitgraph import text` yields `vitgraph.text` where that is a module, and else the front door, `vitgraph`.
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


def private_names(tree: ast.AST, folder: str) -> Iterator[tuple[int, str]]:
    """(line, module.name) of names with a leading underscore that are imported from another folder than `folder`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("vitgraph"):
            continue
        home = (node.module or "").rpartition(".")[0]
        hidden = [f"{node.module}.{a.name}" for a in node.names if a.name.startswith("_")]
        hidden += [f"{node.module}" for part in (node.module or "").split(".") if part.startswith("_")]
        yield from ((node.lineno, name) for name in hidden if home != folder)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def package_of(place: str) -> str:
    """The dotted folder of a file: `passes/pruning/tiles.py` is in `vitgraph.passes.pruning`."""
    folder = place.rpartition("/")[0].replace("/", ".")
    return folder if folder.startswith("vitgraph") else f"vitgraph.{folder}"


def floor_of(room: str) -> int:
    """Which floor a room of the core is on; `KeyError` for one that has none."""
    for level, rooms in enumerate(FLOORS):
        if room in rooms:
            return level
    raise KeyError(f"vitgraph/{room} has no floor: give it one in tests/test_imports.py and CONTRIBUTING.md")


def objection(place: str, module: str) -> str | None:
    """Why the file at `mixed-precision` (relative to the root) may not import `module`; None where it may."""
    folder = place.partition("/")[0]
    if module.startswith("."):
        return "a relative import: name the module in full"
    if module in FOLDERS:
        return "name the defining module: `from vitgraph.errors import InputError`, `import vitgraph.passes`"
    if place in FRONT_DOORS and place != "vitgraph/__main__.py" and within(module, "vitgraph.tools"):
        return "the core may not know its command line"
    if place in FRONT_DOORS or folder == "tools":
        return None
    if module.startswith("tests"):
        return "the product may not know its tests"
    if module in {f"{package_of(door)}.{Path(door).stem}" for door in FRONT_DOORS} and folder != "vitgraph":
        return f"{module} looks upward; nothing below it may look back"
    if folder == "passes":
        return _objection_of_pass(place, module)
    if folder == "backends":
        return _objection_of_backend(place, module)
    return _objection_of_core(place, module)


def _objection_of_pass(place: str, module: str) -> str | None:
    if module.partition(".")[0] not in {"vitgraph", *PASSES_MAY_USE}:
        return "a pass may use vitgraph and torch only"
    if within(module, "vitgraph.backends") or within(module, "vitgraph.tools"):
        return f"passes/ may not know {module}"
    if module in PASSES and place != "passes/__init__.py":
        return "one pass may not know another; what they share is a helper"
    return None


def _objection_of_backend(place: str, module: str) -> str | None:
    if within(module, "vitgraph.passes") or within(module, "vitgraph.tools"):
        return f"backends/ may not know {module}"
    if not within(module, "vitgraph.backends") or place == "backends/__init__.py" or within(module, SHARED_BACKEND):
        return None
    own = ".".join(package_of(place).split(".")[:3])  # folders inside a backend are parts of it
    if own != "vitgraph.backends" and within(module, own):
        return None
    return "one backend may not know another; the lowering to ONNX is shared"


def _objection_of_core(place: str, module: str) -> str | None:
    if any(within(module, upper) for upper in UPPER):
        return f"vitgraph/ may not know {module}"
    if not within(module, "vitgraph"):
        return None
    here, there = place.split("/")[1].removesuffix(".py"), module.split(".")[1]
    if here != there and floor_of(there) >= floor_of(here):
        return f"vitgraph/{here} stands on floor {floor_of(here)} and may not look up to {there} on {floor_of(there)}"
    return None


def violations(root: Path) -> list[str]:
    """Every forbidden import under `root`, as `file:line imports module: reason`."""
    found: list[str] = []
    for file in source_files(root):
        place = file.relative_to(root).as_posix()
        tree = ast.parse(file.read_text(encoding="utf-8"), filename=place)
        for line, module in imported_names(tree, root):
            if why := objection(place, module):
                found.append(f"{place}:{line} imports {module}: {why}")
        for line, name in private_names(tree, package_of(place)):
            found.append(f"{place}:{line} imports {name}: a name with a leading underscore stays in its folder")
    return found


def test_import_directions() -> None:
    assert len(source_files(ROOT)) > len(FOLDERS), "found next to no source: the test looks in the wrong place"
    assert violations(ROOT) == []


def floors_of(page: str) -> list[set[str]]:
    """The packages of each floor, from the ground up, as the table of a page has them."""
    rows = re.findall(r"^\| (\d+) \| `(\w+)(?:/|\.py)` \|", page, re.MULTILINE)
    floors: list[set[str]] = [set() for _ in range(1 + max(int(level) for level, _ in rows))]
    for level, name in rows:
        floors[int(level)].add(name)
    return floors


def test_contributing_shows_the_floors() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert floors_of(page) == list(FLOORS)
    assert floors_of(page.replace("| 5 | `analysis/` |", "| 4 | `analysis/` |")) != list(FLOORS)


def test_every_room_has_a_floor() -> None:
    links = {upper.rpartition(".")[2] for upper in UPPER}
    rooms = {each.name for each in (ROOT / "vitgraph").iterdir() if (each / "__init__.py").is_file()} - links
    files = {each.stem for each in (ROOT / "vitgraph").glob("*.py")}
    assert rooms == set().union(*FLOORS) - files


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("vitgraph/ir/printer.py", "import vitgraph.passes"),
        ("vitgraph/ir/printer.py", "from vitgraph.backends.tensorrt.backend import Trt"),
        ("vitgraph/ir/printer.py", "def late():\n    from vitgraph.tools.cli import main"),
        ("vitgraph/ir/printer.py", "from vitgraph import capture"),
        ("vitgraph/ir/printer.py", "from vitgraph import passes"),
        ("vitgraph/ir/printer.py", "from . import verify"),
        ("vitgraph/ir/printer.py", "import passes"),
        ("vitgraph/ir/printer.py", "from vitgraph.compile.compiler import compile"),
        ("vitgraph/ir/printer.py", "from vitgraph.analysis.sites import find_sites"),
        ("vitgraph/ir/printer.py", "def late():\n    from vitgraph.cost.counts import count"),
        ("vitgraph/analysis/sites.py", "from vitgraph.pass_manager.pipeline import Pipeline"),
        ("vitgraph/ir/printer.py", "from vitgraph.analysis.roles import _role"),
        ("vitgraph/ir/printer.py", "NAME = 'vitgraph.passes.quantization.quantize:Quantize'"),
        ("vitgraph/ir/printer.py", "from tests.harness import run"),
        ("passes/quantization/quantize.py", "from vitgraph.passes.sparsity.nm_mask import NmMask"),
        ("passes/quantization/quantize.py", "import vitgraph.backends.ort.backend"),
        ("passes/quantization/quantize.py", "import onnx"),
        ("passes/quantization/quantize.py", "from vitgraph.passes.sparsity.tiles import _tile"),
        ("backends/tensorrt/backend.py", "from vitgraph.backends.ort.backend import Ort"),
        ("backends/tensorrt/backend.py", "from vitgraph.backends import ort"),
        ("backends/onnx/lowering.py", "import vitgraph.backends.tensorrt.engine"),
        ("backends/cuda/kernels/linear.py", "import vitgraph.backends.ort.backend"),
        ("backends/tensorrt/backend.py", "import vitgraph.passes"),
        ("backends/tensorrt/backend.py", "import vitgraph.tools.cli"),
        ("backends/ort/backend.py", "from vitgraph.backends.onnx.model import _name"),
        ("vitgraph/searching/runner.py", "from vitgraph.tools.command import group"),
        ("tools/cli.py", "from vitgraph import compile"),
        ("tools/cli.py", "from ..vitgraph import text"),
        ("tools/cli.py", "from vitgraph.ir.printer import _names"),
    ],
)
def test_objects_to(place: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, place, text)
    assert violations(tmp_path)
    assert all(each.startswith(f"{place}:") for each in violations(tmp_path))


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("vitgraph/__init__.py", "import vitgraph.passes"),
        ("vitgraph/compile/compiler.py", "from vitgraph.backends.tensorrt.backend import Trt"),
        ("vitgraph/ir/printer.py", "import numpy\nfrom vitgraph.errors import InputError"),
        ("vitgraph/ir/printer.py", "from vitgraph.ir import dialect\nfrom vitgraph.ir.dialect import _attention"),
        ("vitgraph/ir/printer.py", "'''Prints what vitgraph.passes made.'''"),
        ("vitgraph/cost/counts.py", "from vitgraph.analysis.sites import find_sites"),
        ("passes/__init__.py", "from vitgraph.passes.quantization.quantize import Quantize"),
        ("passes/quantization/quantize.py", "import math\nimport torch.fx\nimport vitgraph.pass_manager.pass_contract"),
        ("passes/quantization/quantize.py", "from vitgraph.passes.quantization.qdq_pair import insert_pair"),
        ("passes/pruning/block_prune.py", "from vitgraph.passes.sparsity.layerwise import change_in_order"),
        ("backends/tensorrt/backend.py", "import tensorrt\nfrom vitgraph.backends.onnx.lowering import lower"),
        ("backends/tensorrt/backend.py", "from vitgraph.backends.tensorrt.engine import Engine"),
        ("backends/cuda/kernels/linear.py", "from vitgraph.backends.cuda.operands import expect"),
        ("backends/__init__.py", "ORT = 'vitgraph.backends.ort.backend:Ort'"),
        (
            "tools/cli.py",
            "import vitgraph.passes\nimport vitgraph.backends.ort.backend\nimport vitgraph.compile.compiler",
        ),
    ],
)
def test_allows(place: str, text: str, tmp_path: Path) -> None:
    plant(tmp_path, place, text)
    assert violations(tmp_path) == []


def plant(root: Path, place: str, text: str) -> None:
    (root / place).parent.mkdir(parents=True)
    (root / place).write_text(text + "\n")


def in_circle(edges: dict[str, set[str]]) -> list[str]:
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


def module_edges(root: Path) -> dict[str, set[str]]:
    """Which module imports which, hidden imports included; the front door is left out, since all it does is look up."""
    edges: dict[str, set[str]] = {}
    for file in source_files(root):
        place = file.relative_to(root)
        if place.as_posix() == "vitgraph/__init__.py":
            continue
        name = package_of(place.as_posix()) + ("" if place.name == "__init__.py" else f".{place.stem}")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        statements = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        edges[name] = {found for node in statements for _, found in imported_names(node, root)}
    return edges


def test_no_import_circle() -> None:
    assert in_circle(module_edges(ROOT)) == []


def test_finds_an_import_circle(tmp_path: Path) -> None:
    assert in_circle({"a": {"b"}, "b": {"c", "torch"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]
    plant(tmp_path, "vitgraph/ir/one.py", "from vitgraph.ir.two import x")
    (tmp_path / "vitgraph/ir/two.py").write_text("def late():\n    from vitgraph.ir.one import x\n")
    assert in_circle(module_edges(tmp_path)) == ["vitgraph.ir.one", "vitgraph.ir.two"]

"""The wheel holds every file of the four folders and puts nothing but vitgraph into site-packages."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "vitgraph": "vitgraph",
    "passes": "vitgraph/passes",
    "backends": "vitgraph/backends",
    "tools": "vitgraph/tools",
}
LINKS = ("passes", "backends", "tools")
MUST_HOLD = (
    "vitgraph/py.typed",
    "vitgraph/digits/digits.safetensors",
    "vitgraph/compile/recipes/sparse-int8.yaml",
    "vitgraph/targets/capabilities/sm_80.yaml",
    "vitgraph/targets/devices/a100.yaml",
    "vitgraph/passes/__init__.py",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a build reads, so that a build never writes into the project nor picks up an old build/."""
    copy = tmp_path / "tree"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def files_wanted(tree: Path) -> set[str]:
    """Every file of the four folders under the name it must have in the wheel."""
    return {
        f"{inside}/{file.relative_to(tree / folder).as_posix()}"
        for folder, inside in FOLDERS.items()
        for file in (tree / folder).rglob("*")
        if file.is_file() and not (folder == "vitgraph" and file.relative_to(tree / folder).parts[0] in LINKS)
    }


def files_in_wheel(tree: Path) -> set[str]:
    """Build a wheel from `tree` with the installed setuptools (no network) and list it without its metadata."""
    target = tree.parent / "wheel"
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    target.mkdir()
    done = subprocess.run([sys.executable, "-c", build, target], cwd=tree, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_wheel_holds_the_tree_and_nothing_else(tree: Path) -> None:
    wanted = files_wanted(tree)
    held = files_in_wheel(tree)
    assert wanted - held == set(), "left out of the wheel: add the package or its data to pyproject.toml"
    assert held - wanted == set(), "in the wheel but not in the tree"
    assert set(MUST_HOLD) - held == set()


def test_notices_a_file_left_out(tree: Path) -> None:
    (tree / "passes" / "extra").mkdir()
    (tree / "passes" / "extra" / "thing.py").write_text("")
    (tree / "vitgraph" / "targets" / "notes.txt").write_text("")
    assert files_wanted(tree) - files_in_wheel(tree) == {"vitgraph/passes/extra/thing.py", "vitgraph/targets/notes.txt"}


@pytest.mark.parametrize("folder", LINKS)
def test_folder_is_no_package_of_its_own(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"ImportError: import vitgraph.{folder}" in done.stderr


@pytest.mark.parametrize("folder", LINKS)
def test_link_for_checkers_leads_to_the_folder(folder: str) -> None:
    assert (ROOT / "vitgraph" / folder).resolve() == ROOT / folder

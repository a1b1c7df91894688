"""The checkers' settings read all folders, each file once: an error planted in each is found by both checkers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLANTED = {
    folder: f"{folder}/planted.py" for folder in ("vitgraph", "passes", "backends", "tools", "tests", "tests/passes")
}
WRONG = 'number: int = "text"\n'


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Our settings over folders that hold one wrong file each."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder, file in PLANTED.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / file).write_text(WRONG)
    for folder in ("passes", "backends", "tools"):
        (tmp_path / "vitgraph" / folder).symlink_to(f"../{folder}")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_checker_reads_every_folder_once(checker: str, skeleton: Path) -> None:
    done = subprocess.run([sys.executable, "-m", checker], cwd=skeleton, check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    blamed = re.findall(r"^.*?((?:tests/)?\w+/planted\.py):\d+.*error", done.stdout, re.MULTILINE)
    assert sorted(blamed) == sorted(PLANTED.values())

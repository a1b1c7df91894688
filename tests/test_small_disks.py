"""Commands on disks that are full, small or read-only: answered, the old output whole, and nothing half-written left.

A full disk says nothing against input or usage: the machine gave out, with exit status 1. A disk that can't be written to was the wrong place: 2.
"""

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.tools.conftest import Cli, cli
from vitgraph.ir.program_file import load
from vitgraph.outputs.manifest import differences

__all__ = ["cli"]

pytestmark = pytest.mark.slow

STEPS = "canonicalize,assign-precision{to=f16},materialize"
COMPILE = ("compile", "digits-vit", "--target", "orin-agx", "--recipe", "fp16", "--pipeline", STEPS, "--force", "-o")
OPT = ("opt", "digits-vit", "--pipeline", STEPS, "--force", "-o")
TRAIN = (
    "train",
    "digits-vit",
    "--recipe",
    "sparse-finetune",
    "--train-data",
    "digits:train",
    "--epochs",
    "3",
    "--force",
    "-o",
)
SHARES = (0.0, 0.02, 0.1, 0.3, 0.49, 0.5, 0.51, 0.7, 0.9, 0.98)
"""Of the bytes that an output takes: so many are left on the disk."""


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Path]:
    """A file system of 3 MB, unless a test says otherwise, and 40 inodes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '3m')},nr_inodes=40", "tmpfs", str(folder)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system can't be mounted here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, room: int) -> None:
    """Leave this much."""
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(max(0, free - room)))


def content(out: Path) -> dict[str, bytes]:
    files = [out] if out.is_file() else [each for each in out.rglob("*") if each.is_file()]
    return {each.name: each.read_bytes() for each in files}


@pytest.mark.parametrize("words", [COMPILE, OPT], ids=["compile", "opt"])
def test_a_disk_that_is_full_at_any_point(words: tuple[str, ...], disk: Path, cli: Cli) -> None:
    assert cli(*words, disk / "out").status == 0
    before = content(disk / "out")
    for share in SHARES:
        fill(disk, int(share * sum(map(len, before.values()))))
        ran = cli(*words, disk / "out")
        assert ran.status == 1, ran.err
        assert f"output {disk}" in ran.err
        assert "No space left on device; make room on that disk" in ran.err
        assert content(disk / "out") == before
        assert sorted(each.name for each in disk.iterdir()) == ["filler", "out"]
        (disk / "filler").unlink()
    assert cli(*words, disk / "out").status == 0


@pytest.mark.parametrize("disk", ["20m"], indirect=True)
def test_a_disk_that_fills_while_training(disk: Path, cli: Cli) -> None:
    """The checkpoint that was whole before stays, and training goes on from it to the bytes of a run without a stop."""
    assert cli(*TRAIN, "whole").status == 0
    size = sum(map(len, content(Path("whole")).values()))
    for share, kept in ((1, 0), (4, 1)):  # no room for the first checkpoint, then none for another beside the last
        fill(disk, share * size)
        ran = cli(*TRAIN, disk / "out")
        assert ran.status == 1, ran.err
        assert "No space left on device; make room on that disk" in ran.err
        assert len(list(disk.rglob("*.part"))) == kept
        assert not (disk / "out").exists()
        (disk / "filler").unlink()
    assert cli(*TRAIN, disk / "out").status == 0
    shutil.copytree(disk / "out", "resumed")  # a program that is loaded from there would keep the disk busy
    programs = [load(Path(each) / "program") for each in ("whole", "resumed")]
    assert str(programs[0]) == str(programs[1])
    for name, tensor in programs[0].tensors().items():
        assert tensor.equal(programs[1].tensor(name))


def test_a_disk_without_inodes(disk: Path, cli: Cli) -> None:
    assert cli(*COMPILE, disk / "out").status == 0
    before = content(disk / "out")
    for left in (0, 1, 2, 4, 7):
        number = 0
        while os.statvfs(disk).f_favail > left:
            number += 1
            (disk / f"filler {number}").touch()
        ran = cli(*COMPILE, disk / "out")
        assert ran.status == 1, ran.err
        assert "No space left on device; make room on that disk (bytes, or inodes)" in ran.err
        assert content(disk / "out") == before
        for each in disk.glob("filler *"):
            each.unlink()
        assert [each.name for each in disk.iterdir()] == ["out"]


def test_a_disk_that_is_read_only(disk: Path, cli: Cli) -> None:
    assert cli(*COMPILE, disk / "out").status == 0
    assert cli(*OPT, disk / "program").status == 0
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for words, name in ((COMPILE, "out"), (OPT, "program"), (COMPILE, "new/out")):
        ran = cli(*words, disk / name)
        assert ran.status == 2, ran.err
        assert f"{name}: can't be written" in ran.err
        assert "Read-only file system; name a place on a disk that can be written to" in ran.err
    assert differences(disk / "out") == []


def test_a_temporary_folder_without_room(disk: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is only needed meanwhile goes to TMPDIR."""
    assert cli(*COMPILE, "out").status == 0
    monkeypatch.setattr("tempfile.tempdir", str(disk))
    fill(disk, 0)
    ran = cli("evaluate", "out/program/program.safetensors", "--data", "digits:test", "--images", "8")
    assert ran.status == 1, ran.err
    assert "No space left on device" in ran.err
    assert [each.name for each in disk.iterdir()] == ["filler"]

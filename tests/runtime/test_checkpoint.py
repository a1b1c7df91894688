"""Parts of long work: written once, read back, forgotten."""

import logging
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import save

from vitgraph.runtime.checkpoint import Checkpoint


def test_a_part_is_kept_until_it_is_dropped(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "parts", "key")
    assert kept.read(3) is None
    kept.drop(3)
    kept.write(3, {"x": torch.ones(2)})
    kept.write(3, {"x": torch.zeros(2)})  # it is there already
    found = kept.read(3)
    assert found is not None
    assert torch.equal(found["x"], torch.ones(2))
    assert Checkpoint(tmp_path / "parts", "other").read(3) is None
    kept.drop(3)
    assert kept.read(3) is None
    assert list((tmp_path / "parts").iterdir()) == []


def test_without_a_folder_nothing_is_kept() -> None:
    kept = Checkpoint(None, "key")
    kept.write(0, {"x": torch.ones(1)})
    kept.drop(0)
    assert kept.read(0) is None


TENSORS = {"weight": torch.arange(12.0).reshape(3, 4), "keep": torch.ones(3, 4, dtype=torch.bool)}
Damage = Callable[[bytes], bytes]


def flipped(at: float) -> Damage:
    """One bit, at this share of the file."""

    def damage(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[min(int(at * len(data)), len(data) - 1)] ^= 1 << Random(at).randrange(8)
        return bytes(changed)

    return damage


def cut(at: float) -> Damage:
    return lambda data: data[: int(at * len(data))]


def written_as(key: str, part: int, tensors: dict[str, torch.Tensor], folder: Path) -> bytes:
    """What stands in the file of another part, or of other tensors."""
    (folder / "elsewhere").mkdir(exist_ok=True)
    other = Checkpoint(folder / "elsewhere", key)
    other.drop(part)
    other.write(part, tensors)
    return next((folder / "elsewhere").glob(f"{key}-{part}.*")).read_bytes()


SHARES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.999)
DAMAGES: dict[str, Damage] = {
    **{f"flipped at {share}": flipped(share) for share in SHARES},
    **{f"cut at {share}": cut(share) for share in SHARES},
    "longer": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "foreign": lambda data: save({"weight": torch.zeros(3, 4), "keep": torch.ones(3, 4, dtype=torch.bool)}),
    "foreign under the seal": lambda data: data[:32] + save({"weight": torch.zeros(3, 4)}),
    "another shape": lambda data: data[:32] + save({**TENSORS, "weight": torch.arange(12.0)}),
    "text": lambda data: b"what is this?",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_part_is_told_and_done_anew(damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Checkpoint(tmp_path, "key")
    kept.write(1, TENSORS)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with caplog.at_level(logging.WARNING, "vitgraph"):
        assert kept.read(1) is None
        assert kept.read(1) is None
    (record,) = caplog.records
    assert f"{file}: a finished part is not used, and done anew: it is damaged" in record.message
    kept.write(1, TENSORS)
    found = kept.read(1)
    assert found is not None
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize(("key", "part"), [("other", 1), ("key", 2)])
def test_a_part_of_other_work_is_not_used(key: str, part: int, tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "parts", "key")
    kept.write(1, TENSORS)
    (file,) = (tmp_path / "parts").iterdir()
    file.write_bytes(written_as("key", 1, TENSORS, tmp_path))
    assert kept.read(1) is not None, "the same part is"
    file.write_bytes(written_as(key, part, TENSORS, tmp_path))
    assert kept.read(1) is None


def test_a_part_of_another_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Checkpoint(tmp_path, "key")
    kept.write(1, TENSORS)
    monkeypatch.setattr("vitgraph.runtime.checkpoint.version", str.upper)  # of the name: no version of ours
    assert kept.read(1) is None

"""Parts of long work: written once, read back, forgotten."""

from pathlib import Path

import torch

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

"""Values of many images: the same from memory and from a file."""

import errno
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.errors import MachineError
from vitgraph.runtime.activation_store import ActivationStore


@given(st.integers(1, 9), st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 5), st.data())
def test_a_file_gives_what_memory_gives(count: int, shape: list[int], chunk: int, data: st.DataObject) -> None:
    values = torch.randn(count, *shape)
    kept, filed = ActivationStore.of(values), ActivationStore.of(values, room=0)
    positions = data.draw(st.lists(st.integers(0, count - 1), min_size=1))
    some = torch.randn(min(2, count), *shape)
    for units in (kept, filed):
        assert torch.equal(units.read(positions), values[positions])
        assert torch.equal(torch.cat(list(units.chunks(chunk))), values)
        units.write(count - len(some), some)
        assert torch.equal(units.read(range(count)), torch.cat([values[: count - len(some)], some]))


def test_what_is_read_can_be_written_to_without_harm() -> None:
    units = ActivationStore.of(torch.zeros(3, 2), room=0)
    units.read([0, 1]).fill_(7.0)
    assert torch.equal(units.read(range(3)), torch.zeros(3, 2))


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    units = ActivationStore(4, (2,), room=0)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(MachineError, match=r"No space left on device.*TMPDIR"):
        units.write(0, torch.zeros(1, 2))

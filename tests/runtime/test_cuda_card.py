"""The card on a machine without one, and what is read of a driver."""

from pathlib import Path

import pytest
import torch

from vitgraph.errors import InputError
from vitgraph.runtime.cuda_card import CudaCard, driver_version, missing_card

NVRM = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:18:05 UTC 2025\nGCC version:  gcc 12\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"


@pytest.mark.parametrize(("text", "version"), [(NVRM, "580.65.06"), (OPEN, "570.86.15")])
def test_the_drivers_version_is_read(tmp_path: Path, text: str, version: str) -> None:
    file = tmp_path / "version"
    file.write_text(text)
    assert driver_version(file) == version


@pytest.mark.parametrize("text", [None, "", "nothing of the kind"])
def test_without_one_the_newest_cuda_is_told(tmp_path: Path, text: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._C._cuda_getDriverVersion", lambda: 13010, raising=False)
    file = tmp_path / "version"
    if text is not None:
        file.write_text(text)
    assert driver_version(file) == "for CUDA 13.1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so() -> None:
    assert missing_card()
    with pytest.raises(InputError, match=r"no CUDA device is here|built without CUDA"):
        CudaCard()


def test_a_torch_without_cuda_is_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "built without CUDA" in str(missing_card())

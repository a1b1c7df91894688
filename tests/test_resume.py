"""Long work that is killed goes on where it was, and ends in the same bytes as work that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vitgraph.outputs import unfinished

pytestmark = pytest.mark.slow

STEPS = (
    "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants,softmax-check,"
    "balance-attention,smooth-quant,quantize,reconstruct{iterations=60},absorb-shifts,assign-precision,materialize,legalize"
)


def words(out: Path) -> list[str]:
    given = ["--calibration-data", "digits:train", "--calibration-images", "16", "--pipeline", STEPS, "-o", str(out)]
    return [sys.executable, "-m", "vitgraph.tools.cli", "compile", "digits-vit", "--target", "a100", "--recipe", "int8-best", *given]  # fmt: skip


def test_killed_and_started_again_it_writes_the_same_bytes(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(words(whole), env=environment, check=True, capture_output=True)
    assert not unfinished(whole).exists()

    work = subprocess.Popen(words(killed), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kept = _wait_for_parts(unfinished(killed), work, 2)
    work.send_signal(signal.SIGKILL)
    work.wait()
    assert not killed.exists()
    assert kept

    subprocess.run(words(killed), env=environment, check=True, capture_output=True)
    assert not unfinished(killed).exists()
    for name in ("model.onnx", "engine.plan", "recipe.yaml"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


def _wait_for_parts(folder: Path, work: "subprocess.Popen[bytes]", count: int) -> list[Path]:
    """The finished parts in the folder, once there are some and while the work still runs."""
    for _ in range(2400):
        found = sorted(folder.glob("*.safetensors")) if folder.exists() else []
        if len(found) >= count:
            return found
        assert work.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError("no part was finished in two minutes")

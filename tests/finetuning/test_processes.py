"""Training in processes of their own: two that train as one does, and kills at any moment."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

WORDS = (
    "-m", "vitgraph", "train", "digits-vit", "--recipe", "sparse-finetune", "--train-data", "digits:train", "--epochs", "2",
    "--crop-scale", "0.8", "1", "--mixup", "0.2", "--drop-path", "0.1", "--model-ema",
)  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *words], env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def stage(out: Path) -> Any:
    return json.loads((out / "train.json").read_text())["stages"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch",
    [
        ("-m", "torch.distributed.run", "--nproc_per_node", "2"),
        ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
    ],
    ids=["torchrun", "accelerate"],
)  # fmt: skip
def test_two_processes_train_as_one_does(launch: tuple[str, ...], tmp_path: Path) -> None:
    words = [
        each for each in WORDS if each not in ("--drop-path", "0.1")
    ]  # which branches are skipped is each process's own
    run(*words, "--batch-size", "64", "-o", str(tmp_path / "one"))
    done = run(*launch, *words, "--batch-size", "32", "-o", str(tmp_path / "two"))
    one, two = stage(tmp_path / "one"), stage(tmp_path / "two")
    assert json.loads((tmp_path / "two" / "train.json").read_text())["processes"]["count"] == 2
    losses = [[point["loss"] for point in each["points"]] for each in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert [look["accuracy"] for look in two["looks"]] == [look["accuracy"] for look in one["looks"]]
    assert done.stdout.count("sparse, trained") == 1  # one of them tells


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(*WORDS, "-o", str(whole))
    moments = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, *WORDS, "-o", str(parts)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        wait_for_training(process, parts)
        time.sleep(moments.uniform(0, 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if parts.exists():
            break
    run(*WORDS, "-o", str(parts))
    assert (whole / "program" / "program.safetensors").read_bytes() == (
        parts / "program" / "program.safetensors"
    ).read_bytes()
    assert stage(whole) == stage(parts)
    assert not list(tmp_path.glob(".*.unfinished"))


def wait_for_training(process: subprocess.Popen[str], out: Path) -> None:
    """Until the first checkpoint is there, or the process has ended."""
    folder = out.with_name(f".{out.name}.unfinished") / "parts"
    while process.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
        time.sleep(0.1)

"""Compile ViT-Tiny to INT8 on an idle machine and on one whose cores other processes keep busy.

    python benchmarks/busy_machine.py                # real weights and images where they are, else random ones
    python benchmarks/busy_machine.py --rounds 5 --busy 6

One JSON object on standard output. Every round compiles once in each setting, one after the other: idle, busy, and busy with threads
that spin while they wait, which is what OpenMP does where nobody says otherwise. A ratio is the median of the rounds' own ratios.
`--busy` processes count in a loop, one a core unless told otherwise; a fair scheduler would make the compile take twice as long then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("VITGRAPH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
MODEL = "vit_tiny_patch16_224"
WEIGHTS = DATA / "weights" / f"{MODEL}_in1k.safetensors"
SPINNING = {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}
"""As many turns as GNU's OpenMP spins where nothing is said."""


@contextmanager
def load(processes: int) -> Generator[None]:
    """So many processes that do nothing but keep a core busy."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for each in started:
            each.kill()
            each.wait()


def compile_seconds(variables: dict[str, str]) -> float:
    """Seconds of the wall clock of one compile command."""
    real = WEIGHTS.is_file()
    given = ["--weights", str(WEIGHTS)] if real else ["--weights", "random"]
    given += ["--calibration-data", str(DATA / "imagenet" / "calibration500.zip") if real else "random"]
    given += ["--evaluate-data", str(DATA / "imagenet" / "validation500.zip")] if real else []
    command = [sys.executable, "-m", "vitgraph", "compile", MODEL, "--target", "a100", "--recipe", "int8", *given]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [*command, "-o", f"{folder}/out"], env={**os.environ, **variables}, check=True, capture_output=True
        )
        return time.perf_counter() - start


def main() -> None:
    """The rounds, and their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="processes that keep a core busy")
    given = parser.parse_args()
    rounds = list[dict[str, float]]()
    for number in range(given.rounds):
        found = {"idle": compile_seconds({})}
        with load(given.busy):
            found["busy"] = compile_seconds({})
            found["busy_spinning"] = compile_seconds(SPINNING)
        rounds.append({name: round(seconds, 1) for name, seconds in found.items()})
        print(f"round {number + 1} of {given.rounds}: {rounds[-1]}", file=sys.stderr)
    print(json.dumps(answer(rounds, given.busy), indent=2))


def answer(rounds: list[dict[str, float]], busy: int) -> dict[str, Any]:
    """What was measured, and where."""
    return {
        "model": MODEL,
        "real_data": WEIGHTS.is_file(),
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()},
        "busy_processes": busy,
        "rounds_seconds": rounds,
        "times_idle": {
            name: round(statistics.median(each[name] / each["idle"] for each in rounds), 2) for name in rounds[0]
        },
    }


if __name__ == "__main__":
    main()

"""Measure models of the coverage table and print their lines: `python -m tests.coverage NAME …`, all that begin with a name."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tests.coverage.measuring import Captured, Measured, measure
from tests.coverage.models import Model
from tests.coverage.sources import MODELS
from tests.coverage.table import REFUSED, Row
from vitgraph.errors import VitgraphError


def main(names: tuple[str, ...]) -> None:
    """A line for each model, and what is wrong with it beneath."""
    torch.set_num_threads(1)
    for name, model in MODELS.items():
        if name in names or any(each.endswith("/") and name.startswith(each) for each in names):
            start = time.process_time()
            print(f"{name:44}{_line(model)}  # {time.process_time() - start:.1f} s", flush=True)


def _line(model: Model) -> str:
    with TemporaryDirectory() as folder:
        try:
            found = measure(Captured.of(model), Path(folder))
        except VitgraphError as error:
            return f"{REFUSED} {error}".replace("\n", " ")
    return "\n".join([str(Row.of(found)), *_faults(found)])


def _faults(found: Measured) -> list[str]:
    counted = (found.eager.linears, found.eager.convolutions, found.eager.softmaxes)
    here = (found.linears, found.convolutions, found.softmaxes)
    lines = [f"counted in eager: {counted}, found: {here}"] if counted != here else []
    return [f"  {each}" for each in (*lines, *found.gaps, *found.violations)]


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or ("",))

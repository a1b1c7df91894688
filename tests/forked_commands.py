"""Commands of vitgraph in processes forked from one that has imported everything, so that no run spends seconds on that.

Started as `python -m tests.forked_commands`: a job a line in, its process's number and then its status a line each out.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

HEAVY = (
    "vitgraph.api",
    "vitgraph.backends.onnx.lowering",
    "vitgraph.compile.compiler",
    "vitgraph.compile.evaluation",
    "vitgraph.compile.report_builder",
    "vitgraph.frontend.capture",
    "vitgraph.frontend.models",
    "vitgraph.images.data_sources",
    "vitgraph.searching.elsa_method",
    "onnxruntime",
    "torch._dynamo",
    "torchvision",
    "timm",
)


def serve() -> None:
    """Fork a process for each job, one at a time."""
    for name in (*HEAVY, *(f"vitgraph.passes.{place.partition(':')[0]}" for place in _passes())):
        import_module(name)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _passes() -> list[str]:
    order: Any = import_module("vitgraph.passes").ORDER
    return list(order.values())


def _run(job: dict[str, Any]) -> NoReturn:
    status = 99
    try:
        os.chdir(job["folder"])
        told = os.open(Path(job["told"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(told, number)
        sys.argv = ["vitgraph", *job["words"]]
        status = import_module("vitgraph.__main__").run()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    serve()

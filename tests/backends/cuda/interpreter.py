"""Kernels interpreted on the CPU, in a process of their own: Triton has to see `TRITON_INTERPRET` when it is first imported, and
another test of this process may have imported it without.

What a kernel reads or writes beside its tensors is noticed (`guards`). Tensors travel as NumPy arrays.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.backends.cuda.guards import FILL, Guarded, outside

MODULES = {"linear": "linear", "normalize": "normalize", "activate": "activation", "attention": "attention"}
"""The function of each kernel and its module."""
SPARE_ROWS = 3
"""Rows of the output past those that are to be written."""


class Mutation(NamedTuple):
    """A fault planted in a kernel's module: this text replaced by that."""

    old: str
    new: str


class OutOfBounds(AssertionError):
    """A kernel read or wrote memory that is not its own."""


class Interpreter:
    """Runs kernels; each call is answered by the results, tensors all."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=interpret)

    def run(self, name: str, mutation: Mutation | None = None, **arguments: Any) -> tuple[Tensor, ...]:
        """The results of the kernel `name`; `OutOfBounds` where it read or wrote what it may not.

        `qkv` `[B, T, 3, H, D]` stands for views of it; `out` is made here, of `rows` by `columns`.
        """
        sent = {key: value.numpy() if isinstance(value, Tensor) else value for key, value in arguments.items()}
        found, faults = self._pool.submit(answer, name, mutation, sent).result()
        if faults:
            raise OutOfBounds(f"{name}: {', '.join(faults)}")
        return tuple(torch.from_numpy(each) for each in found)  # pyright: ignore[reportUnknownMemberType]

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()


def interpret() -> None:
    """In the process, before anything else."""
    assert "triton" not in sys.modules
    os.environ["TRITON_INTERPRET"] = "1"
    torch.set_num_threads(1)


def answer(name: str, mutation: Mutation | None, sent: Mapping[str, Any]) -> tuple[list[Any], list[str]]:
    """In the process: the results of a kernel, and what it read or wrote that it may not."""
    guarded = {key: Guarded(torch.from_numpy(value)) for key, value in sent.items() if hasattr(value, "dtype")}
    tensors = {key: each.view for key, each in guarded.items()}
    arguments = {key: value for key, value in sent.items() if key not in (*guarded, "rows", "columns") and value is not None} | tensors
    if arguments.get("blocks"):
        arguments["blocks"] = import_module("vitgraph.backends.cuda.kernels.linear").Blocks(*arguments["blocks"])
    if "qkv" in arguments:
        qkv: Tensor = arguments.pop("qkv")
        arguments.update(zip("qkv", qkv.unbind(2), strict=True))
    scale = arguments.get("out_scale", arguments.get("scale") if name != "linear" else None)
    shape = (sent["rows"] + SPARE_ROWS, sent["columns"])
    outputs = {"out": Guarded(torch.full(shape, FILL, dtype=torch.float16 if scale is None else torch.int8))}
    if "residual" in tensors and name == "normalize":
        outputs["total"] = Guarded(torch.full(shape, FILL, dtype=torch.float16))
    with _function(name, mutation) as function, outside({**guarded, **outputs}) as faults:
        found = function(**arguments, **{key: each.view for key, each in outputs.items()})
    faults += [f"writes to {key}" for key, each in guarded.items() if each.is_damaged(0)]
    faults += [f"writes past the rows of {key}" for key, each in outputs.items() if each.is_damaged(sent["rows"])]
    return [each[: sent["rows"]].numpy() for each in (found if isinstance(found, tuple) else (found,))], faults


@contextmanager
def _function(name: str, mutation: Mutation | None) -> Iterator[Any]:
    """The function that launches a kernel; of a changed copy of its module where there is a mutation."""
    module = import_module(f"vitgraph.backends.cuda.kernels.{MODULES[name]}")
    if mutation is None:
        yield getattr(module, name)
        return
    text = Path(str(module.__file__)).read_text()
    assert mutation.old in text, f"{name}: no {mutation.old!r} to replace"
    with TemporaryDirectory() as folder:
        file = Path(folder, f"mutated_{MODULES[name]}.py")
        file.write_text(text.replace(mutation.old, mutation.new))
        spec = spec_from_file_location(file.stem, file)
        assert spec is not None
        assert spec.loader is not None
        mutated = module_from_spec(spec)
        sys.modules[spec.name] = mutated  # dataclasses look their module up
        spec.loader.exec_module(mutated)
        yield getattr(mutated, name)  # Triton reads the file when the kernel first runs

"""Kernels interpreted on the CPU, in a process of their own: Triton has to see `TRITON_INTERPRET` when it is first imported, and
another test of this process may have imported it without.

What a kernel reads or writes beside its tensors is noticed (`guards`). Tensors travel as NumPy arrays.
"""

import os
import sys
from collections.abc import Generator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

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

        `qkv` `[B, T, 3, H, D]` stands for views of it; `out` is made here, of `rows` by `columns`; `in_place` names the operand
        whose place the sum takes.
        """
        sent = {key: _array(value) if isinstance(value, Tensor) else value for key, value in arguments.items()}
        found, faults = self._pool.submit(answer, name, mutation, sent).result()
        if faults:
            raise OutOfBounds(f"{name}: {', '.join(faults)}")
        return tuple(map(_tensor, found))

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
    given = {key: value for key, value in sent.items() if key not in ("rows", "columns") and value is not None}
    operands = {key: Guarded(_tensor(value)) for key, value in given.items() if hasattr(value, "dtype")}
    outputs = _outputs(name, given, sent["rows"], sent["columns"])
    arguments = _arguments(given | {key: each.view for key, each in (operands | outputs).items()})
    if "in_place" in given:
        outputs["total"] = operands.pop(arguments.pop("in_place"))
        arguments["total"] = outputs["total"].view
    with _function(name, mutation) as function, outside(operands | outputs) as faults:
        found: Tensor | tuple[Tensor, ...] = function(**arguments)
    faults += [f"writes to {key}" for key, each in operands.items() if each.is_damaged(0)]
    faults += [f"writes past the rows of {key}" for key, each in outputs.items() if each.is_damaged(sent["rows"])]
    results = found if isinstance(found, tuple) else (found,)
    return [_array(each[: sent["rows"]]) for each in results], faults


def _outputs(name: str, given: Mapping[str, Any], rows: int, columns: int) -> dict[str, Guarded]:
    """What a kernel is to write, with rows to spare."""
    codes = given.keys() & ({"out_scale"} if name in ("linear", "attention") else {"scale"})
    kinds = {"out": torch.int8 if codes else torch.float16}
    if name == "normalize" and "residual" in given:
        kinds["total"] = torch.float16
    return {key: Guarded(torch.full((rows + SPARE_ROWS, columns), FILL, dtype=kind)) for key, kind in kinds.items()}


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """A kernel's own arguments, of what travels: views of `qkv`, `Blocks`."""
    if "blocks" in given:
        given["blocks"] = import_module("vitgraph.backends.cuda.kernels.linear").Blocks(*given["blocks"])
    if "qkv" in given:
        given |= dict(zip("qkv", given.pop("qkv").unbind(2), strict=True))
    return given


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]


def _array(tensor: Tensor) -> Any:
    return cast(Any, tensor).numpy()


@contextmanager
def _function(name: str, mutation: Mutation | None) -> Generator[Any]:
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

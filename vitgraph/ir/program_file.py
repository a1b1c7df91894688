"""A Program in one safetensors file: its tensors, and the graph's text in the file's metadata. Nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from vitgraph.errors import InputError
from vitgraph.ir.names import check_tensor_name
from vitgraph.ir.parser import TextError, parse
from vitgraph.ir.program import Program
from vitgraph.ir.program_header import Header
from vitgraph.ir.verify import check_read
from vitgraph.outputs.whole_file import write_whole
from vitgraph.reading import PROGRAM, check_file


def save(program: Program, path: str | Path, *, replace: bool = True) -> None:
    """Write the program to one safetensors file, whole or not at all; the same program gives the same bytes.

    Raises `InputError` where the file can't be written or a tensor's name not be read back, `OutputError` where there is one that is not to be replaced.
    """
    write_whole(Path(path), _packed(program), replace)


def _packed(program: Program) -> bytes:
    from safetensors.torch import save as to_bytes

    header = {"text": str(program), "provenance": program.provenance, "ledger": program.ledger}
    # one entry only: safetensors writes several in an order of its own, another one each time
    metadata = {"vitgraph": json.dumps(header, sort_keys=True)}
    tensors = dict[str, Tensor]()
    taken = set[int]()  # safetensors wants every tensor to have memory of its own
    for name, tensor in program.tensors().items():
        whole = tensor.detach().contiguous()
        shared = whole.untyped_storage().data_ptr() in taken or whole.untyped_storage().nbytes() > whole.nbytes
        tensors[_readable(name)] = whole.clone() if shared else whole
        taken.add(tensors[name].untyped_storage().data_ptr())
    return to_bytes(tensors, metadata=metadata)


def load(path: str | Path) -> Program:
    """Read what `save` wrote, or the folder that holds it, and verify it; `InputError` for anything else."""
    file = Path(path)
    file = file / "program.safetensors" if file.is_dir() else file
    check_file(file, PROGRAM)
    metadata, tensors = _read(file)
    if "vitgraph" not in metadata:
        raise InputError(f"{file}: is a safetensors file but holds no vitgraph program; weights go to --weights")
    header = Header.read(metadata["vitgraph"], str(file))
    try:
        program = parse(header.text, tensors)
    except TextError as error:
        raise InputError(f"{file}: its graph can't be read (was it written by another version?): {error}") from error
    program.provenance, program.ledger = header.plain()["provenance"], header.plain()["ledger"]
    return check_read(program, str(file))


def read_provenance(path: Path) -> dict[str, Any]:
    """Where the program that `save` wrote came from, and nothing else of it; `InputError` for anything else."""
    check_file(path, PROGRAM)
    metadata, _ = _read(path, tensors=False)
    found: dict[str, Any] = Header.read(metadata.get("vitgraph", "{}"), str(path)).plain()["provenance"]
    return found


def _read(file: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, or its metadata alone."""
    from safetensors import SafetensorError, safe_open

    untyped: Any = safe_open
    try:
        with untyped(file, framework="pt") as reader:
            names = reader.keys() if tensors else ()
            return reader.metadata() or {}, {name: reader.get_tensor(name) for name in names}
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        # the last three: types of elements that this torch has not
        raise InputError(
            f"{file}: can't be read as a program: {error}; programs are written by `vitgraph opt -o`"
        ) from error


def _readable(name: str) -> str:
    try:
        return check_tensor_name(name)
    except ValueError as error:
        raise InputError(f"the program can't be saved: {error}; rename the module that holds it") from error

"""Files that stand where a saved program should, and programs whose files were edited."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.tools.conftest import Cli

TEXT = """# program: good
# form: canonical
x: f32[N, 3, 4, 4] = input()
reshape: f32[N, 48] = aten.reshape.default(x, [-1, 48])
w: f32[10, 48] = weight("head.weight")
linear: f32[N, 10] = aten.linear.default(reshape, w, None)  # head
return_(linear)
"""
ENTRY: dict[str, Any] = {"name": "canonicalize", "options": {}, "refused": []}
NAME = "p.safetensors"


def _header(**changed: Any) -> dict[str, Any]:
    return {"text": TEXT, "provenance": {"source": "test"}, "ledger": [ENTRY]} | changed


def _packed(header: object, tensors: dict[str, Tensor] | None = None) -> bytes:
    metadata = {"vitgraph": header if isinstance(header, str) else json.dumps(header)}
    return to_bytes({"head.weight": torch.ones(10, 48)} if tensors is None else tensors, metadata)


def _file(name: str, content: str | bytes | Make, *says: str, command: tuple[str, ...] = ("inspect", NAME)) -> Mistake:
    return Mistake(name, command, says, {NAME: content})


def _edited(name: str, *says: str, **changed: Any) -> Mistake:
    return _file(name, _packed(_header(**changed)), NAME, *says)


def _told(name: str, provenance: dict[str, Any], *says: str) -> Mistake:
    return _edited(name, "metadata", *says, provenance=provenance)


def _tensors(name: str, tensors: dict[str, Tensor], *says: str) -> Mistake:
    return _file(name, _packed(_header(), tensors), NAME, *says)


def _compiled(name: str, text: str, *says: str) -> Mistake:
    content = _packed(_header(text=text), {"head.weight": torch.ones(10, 48)})
    command = ("compile", NAME, "--target", "a100", "--recipe", "fp16", "-o", "out")
    return _file(name, content, *says, command=command)


def _raw(header: object, rest: bytes = b"") -> bytes:
    """A safetensors file by hand."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def _cut(path: Path) -> None:
    path.write_bytes(_packed(_header())[:-100])


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"head.weight": [1.0]}))


def _zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program", TEXT)


def _saved_by_torch(path: Path) -> None:
    torch.save({"head.weight": torch.ones(10, 48)}, path)


ENTRY_OF = {"head.weight": {"dtype": "F32", "shape": [10, 48], "data_offsets": [0, 1920]}}
FILES = [
    _file("empty", b"", NAME, "can't be read as a program"),
    _file("words", "words", NAME, "can't be read as a program", "vitgraph opt -o"),
    _file("cut short", _cut, NAME, "can't be read as a program"),
    _file("a pickle", _pickled, NAME, "can't be read as a program"),
    _file("a zip", _zipped, NAME, "can't be read as a program"),
    _file("what torch.save wrote", _saved_by_torch, NAME, "can't be read as a program"),
    _file("a header of 2^60 bytes", struct.pack("<Q", 2**60) + b"{}", NAME, "can't be read as a program"),
    _file("a header that is no JSON", _raw(b"{{{{"), NAME, "can't be read as a program"),
    _file("a header of brackets", _raw(b"[" * 10_000), NAME, "can't be read as a program"),
    _file("tensors beyond the end", _raw(ENTRY_OF), NAME, "can't be read as a program"),
    _file(
        "tensors that overlap",
        _raw({**ENTRY_OF, "b": {"dtype": "F32", "shape": [480], "data_offsets": [0, 1920]}}, bytes(1920)),
        NAME,
        "can't be read as a program",
    ),
    _file(
        "a shape that lies",
        _raw({"w": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}, bytes(4)),
        NAME,
        "can't be read as a program",
    ),
    _file("weights alone", to_bytes({"w": torch.ones(2)}), NAME, "holds no vitgraph program", "--weights"),
    Mistake("a folder without a program", ("inspect", "d"), ("d",), {"d/x": ""}),
    _file("a FIFO", _fifo, NAME),
    Mistake("an absent file", ("inspect", "none.safetensors"), ("none.safetensors",)),
]
HEADERS = [
    _file("metadata that is no JSON", _packed("{"), NAME, "metadata is not JSON"),
    _file("metadata that is a list", _packed([]), NAME, "metadata is none of vitgraph's"),
    _file("metadata that nests", _packed("[" * 90_000), NAME, "is not JSON"),
    _file("metadata without text", _packed({"provenance": {}, "ledger": []}), NAME, "text"),
    _file("metadata without provenance", _packed({"text": TEXT, "ledger": []}), NAME, "provenance"),
    _file("metadata without ledger", _packed({"text": TEXT, "provenance": {}}), NAME, "ledger"),
    _file("half a surrogate pair", _packed(_header(provenance={"source": "\ud800"})), NAME, "surrogates"),
    _edited("a text that is a number", "text", text=3),
    _edited("a text that is empty", "no return_", text=""),
    _edited("a text with an unknown operator", "linnear", text=TEXT.replace("linear.def", "linnear.def")),
    _edited("a text that calls", "no operator of a graph", text=TEXT.replace("aten.linear.default", "operator.call")),
    _edited("a text that writes a file", "from_file", text=TEXT.replace("aten.linear", "aten.from_file")),
    _edited("a text with a name of code", "no name of a tensor", text=TEXT.replace("head.weight", "x + y")),
    _edited("a text of other sizes", "carries", text=TEXT.replace("f32[N, 10] = aten", "f32[N, 11] = aten")),
    _edited("a text of another weight", "the tensor is", text=TEXT.replace("w: f32[10, 48]", "w: f32[10, 47]")),
    _edited("a text with a tensor too many", "there is no tensor", text=TEXT.replace('"head.w', '"tail.w')),
    _edited("a ledger that is no list", "ledger", ledger={"name": "x"}),
    _edited("a ledger of numbers", "ledger.0", ledger=[3]),
    _edited("an entry without name", "ledger.0.name", ledger=[{"options": {}, "refused": []}]),
    _edited("an entry without options", "ledger.0.options", ledger=[{"name": "x", "refused": []}]),
    _edited("options that are a list", "ledger.0.options", ledger=[ENTRY | {"options": []}]),
    _edited("refusals that are words", "ledger.0.refused", ledger=[ENTRY | {"refused": "no"}]),
    _edited("a refusal without a reason", "ledger.0.refused.0.why", ledger=[ENTRY | {"refused": [{"site": "x"}]}]),
    _edited("findings that are numbers", "ledger.0.found.0", ledger=[ENTRY | {"found": [1]}]),
    _edited("provenance that is a list", "provenance", provenance=[]),
    _told("a source that is a number", {"source": 3}, "provenance.source"),
    _told("class names that are a number", {"class_names": 10}, "provenance.class_names"),
    _told("class names that are numbers", {"class_names": [1, 2]}, "provenance.class_names.0"),
    _told("notes that are words", {"notes": "a note"}, "provenance.notes"),
    _told("a digest that is a list", {"weights_sha256": []}, "provenance.weights_sha256"),
    _told("pre-processing that is a list", {"preprocessing": []}, "provenance.preprocessing"),
    _told("a recipe without pipeline", {"recipe": {"name": "int8"}}, "provenance.recipe.pipeline"),
    _told("a reproducer that is words", {"reproduce": "x"}, "provenance.reproduce"),
]
TENSORS = [
    _tensors("no tensors", {}, "there is no tensor 'head.weight'"),
    _tensors("a tensor of another shape", {"head.weight": torch.ones(10, 47)}, "the tensor is"),
    _tensors("a tensor of another type", {"head.weight": torch.ones(10, 48, dtype=torch.float16)}, "the tensor is"),
    _tensors("a tensor of whole numbers", {"head.weight": torch.ones(10, 48, dtype=torch.int8)}, "floating-point"),
    _tensors(
        "a tensor of complex numbers", {"head.weight": torch.ones(10, 48, dtype=torch.complex64)}, "floating-point"
    ),
    _tensors("a tensor of bool", {"head.weight": torch.ones(10, 48, dtype=torch.bool)}, "floating-point"),
    _tensors("NaN", {"head.weight": torch.full((10, 48), float("nan"))}, "holds NaN"),
]
COMPILED = [
    _compiled("two inputs", TEXT.replace("return_", "y: f32[N, 3] = input()\nreturn_"), "takes one input"),
    _compiled("an input of two sizes", TEXT.replace("N, 3, 4, 4", "N, 48"), "takes one input"),
    _compiled("an input of five channels", TEXT.replace("N, 3, 4, 4", "N, 4, 3, 4"), "takes one input"),
    _compiled(
        "an input of no size", TEXT.replace("x: f32[N, 3, 4, 4]", "s: f32[] = input()\nx: f32[N, 3, 4, 4]"), "one input"
    ),
    _file(
        "compiled with bad pre-processing",
        _packed(_header(provenance={"preprocessing": {"mean": "grey"}})),
        "good: its stored",
        "pre-processing",
        command=("compile", NAME, "--target", "a100", "--recipe", "fp16", "-o", "out"),
    ),
    _file("not a reproducer", _packed(_header()), NAME, "no reproducer", command=("opt", NAME)),
    _file(
        "a reproducer of no pass",
        _packed(_header(provenance={"reproduce": {"pipeline": "no-such"}})),
        "no-such",
        command=("opt", NAME),
    ),
    _file(
        "a batch that it was not captured for",
        _packed(_header(text=TEXT.replace("N, ", "2, ").replace("[-1, 48]", "[2, 48]"))),
        "batch",
        command=("compile", NAME, "--target", "a100", "--recipe", "fp16", "--batch", "3", "-o", "out"),
    ),
    _file("evaluated where it is broken", _cut, NAME, command=("evaluate", NAME, "--data", "digits:test")),
    _file("measured where it is broken", _cut, NAME, command=("bench", NAME)),
    _file("searched where it is broken", _cut, NAME, command=("opt", NAME, "--pipeline", "canonicalize")),
]
MISTAKES = FILES + HEADERS + TENSORS + COMPILED


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize("make", [lambda: _packed(_header())])
def test_a_program_without_a_mistake_is_read(make: Callable[[], bytes], cli: Cli) -> None:
    Path(NAME).write_bytes(make())
    assert cli("inspect", NAME).status == 0

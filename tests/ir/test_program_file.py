"""A program's file: read back as it was, the same bytes each time, and refused where it is none."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.ir.test_program import TEXT
from vitgraph.errors import InputError
from vitgraph.ir.parser import parse
from vitgraph.ir.program_file import load, save


def test_a_saved_program_loads_to_the_same(tmp_path: Path) -> None:
    program = parse(TEXT)
    program.provenance = {"source": "test", "mean": [0.5]}
    program.ledger.append({"name": "canonicalize", "options": {}, "refused": [], "drift": float("inf")})
    save(program, tmp_path / "program.safetensors")
    twin = load(tmp_path)
    assert str(twin) == str(program) == TEXT
    assert (twin.provenance, twin.ledger) == (program.provenance, program.ledger)
    x = torch.randn(3, 8)
    assert torch.equal(twin.run(x), program.run(x))
    assert isinstance(twin.tensor("fc.weight"), torch.nn.Parameter)


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b", "d", "e", "f"):
        save(parse(TEXT), tmp_path / name)
    assert len({(tmp_path / name).read_bytes() for name in "abdef"}) == 1
    save(parse(TEXT, seed=1), tmp_path / "c")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == list("abcdef")


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    save_file = import_module("safetensors.torch").save_file
    (tmp_path / "words").write_text("words")
    save_file({"w": torch.zeros(1)}, tmp_path / "weights")
    for name, why in (
        ("words", "can't be read"),
        ("weights", "holds no vitgraph program"),
        ("absent", "can't be read"),
    ):
        with pytest.raises(InputError, match=why):
            load(tmp_path / name)


def test_a_program_with_a_broken_text_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save as to_bytes

    text = TEXT.replace("aten.linear", "aten.linnear")
    header = {"vitgraph": json.dumps({"text": text, "provenance": {}, "ledger": []})}
    tensors = parse(TEXT).tensors()
    (tmp_path / "program.safetensors").write_bytes(to_bytes({k: v.detach() for k, v in tensors.items()}, header))
    with pytest.raises(InputError, match="linnear"):
        load(tmp_path)

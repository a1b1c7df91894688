"""Weights and ONNX files that would run code, lie about their sizes, or lead out of their folder."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from tests.hostile.case import CANARY, Case, Commands, Exploit, pickled


def weights(name: str) -> Commands:
    """Load this file into the embedded model."""
    return (("inspect", "digits-vit", "--weights", name),)


def _torch(content: object, legacy: bool = False) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def _itself() -> dict[str, Any]:
    box: dict[str, Any] = {}
    box["model"] = box
    return box


def _doubled(levels: int) -> tuple[Any, ...]:
    """Nested tuples that are small in a pickle and 2^levels long as text."""
    value: tuple[Any, ...] = ("x",)
    for _ in range(levels):
        value = (value, value)
    return value


def _bomb() -> bytes:
    """What torch.save writes, with 256 MiB of zeros packed into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        with zipfile.ZipFile(io.BytesIO(_torch({"w": 1}))) as plain:
            for name in plain.namelist():
                archive.writestr(name, plain.read(name))
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(bytes(1 << 20))
    return buffer.getvalue()


def _zip_with(pickle: bytes) -> bytes:
    """A file as torch.save writes it, with this pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def _odd(kind: str) -> object:
    import torch

    kinds: dict[str, object] = {
        "meta": torch.empty(9, device="meta"),
        "sparse": torch.eye(9).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.ones(9), 0.1, 0, torch.qint8),
    }
    return kinds[kind]


def _header(header: object) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text


F32 = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
HEADERS = {
    "a length of 2^63": struct.pack("<Q", 2**63) + b"{}",
    "a header of brackets": _header(b"[" * 1_000_000),
    "a shape of 2^80": _header({"w": F32 | {"shape": [2**40, 2**40]}}),
    "bytes beyond the end": _header({"w": F32 | {"data_offsets": [0, 2**50]}}),
    "bytes that overlap": _header({"a": F32, "b": F32}) + bytes(16),
    "a name of dots": _header({"." * 3_000_000: F32}) + bytes(16),
    "a pickle in disguise": pickled(Exploit()),
}


def _onnx(location: str, **more: str) -> bytes:
    """One product whose weight lies in another file."""
    import onnx
    from onnx import TensorProto, helper

    untyped: Any = helper
    weight = onnx.TensorProto(name="w", dims=[4, 2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        weight.external_data.add(key=key, value=value)
    graph = untyped.make_graph(
        [untyped.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [untyped.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [untyped.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [weight],
    )
    content: bytes = untyped.make_model(graph).SerializeToString()
    return content


ONNX: Commands = (("inspect", "d/m.onnx"), ("bench", "d/m.onnx", "--rounds", "1"))
OUTSIDE = {
    "an absolute path": _onnx("/etc/hostname"),
    "the folder above": _onnx("../secret.bin", length="32"),
    "the folder above, by way of another": _onnx("x/../../secret.bin", length="32"),
    "a device": _onnx("/dev/zero", length="32"),
    "an offset beyond": _onnx("m.onnx", offset=str(2**62), length="32"),
}


def _linked(path: Path) -> None:
    path.symlink_to("../secret.bin")


def cases() -> list[Case]:
    """All of them."""
    exploit = pickled(Exploit())
    pickles = {
        "plain .pth": ("w.pth", exploit),
        "plain .pt": ("w.pt", exploit),
        "plain .bin": ("w.bin", exploit),
        "in torch's archive": ("w.pth", _zip_with(exploit)),
        "beside weights": ("w.pth", _torch({"model": {"w": 1}, "args": Exploit()})),
        "of torch before 1.6": ("w.pth", _torch({"args": Exploit()}, legacy=True)),
        "in an ordered dictionary": ("w.pt", _torch(OrderedDict[str, object](x=Exploit()))),
    }
    growing = {
        "a dictionary in itself": _torch(_itself()),
        "a value that doubles": _torch({"w": _doubled(40)}),
        "zeros that unpack": _bomb(),
    }
    odd = {kind: _torch({"w": _odd(kind)}) for kind in ("meta", "sparse", "quantized")}
    return (
        [Case(f"pickle: {name}", {file: content}, weights(file)) for name, (file, content) in pickles.items()]
        + [Case(f"weights: {name}", {"w.pth": content}, weights("w.pth")) for name, content in (growing | odd).items()]
        + [
            Case(
                f"safetensors: {name}",
                {"w.safetensors": content},
                (*weights("w.safetensors"), ("inspect", "w.safetensors")),
            )
            for name, content in HEADERS.items()
        ]
        + [
            Case(f"ONNX: data at {name}", {"d/m.onnx": content, "secret.bin": bytes(64), f"d/x/{CANARY}.txt": ""}, ONNX)
            for name, content in OUTSIDE.items()
        ]
        + [
            Case(
                "ONNX: data by a link out",
                {"d/m.onnx": _onnx("l.bin", length="32"), "secret.bin": bytes(64), "d/l.bin": _linked},
                ONNX,
            )
        ]
    )

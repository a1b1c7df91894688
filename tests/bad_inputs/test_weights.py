"""Weight files: damaged ones, ones of another model, and tensors that are not what a model's own would be."""

import pickle
import struct
import zipfile
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.tools.conftest import Cli
from vitgraph.digits import build_digits_vit
from vitgraph.frontend.models import load_model

SIZES = {"depth": 1, "embed_dim": 32, "num_heads": 1, "num_classes": 5, "img_size": 32}
MODEL = ("vit_tiny_patch16_224", *(text for key, value in SIZES.items() for text in ("--model-args", f"{key}={value}")))
State = dict[str, Any]
Change = Callable[[State], object]


@cache
def whole() -> dict[str, Tensor]:
    return load_model(MODEL[0], weights="random", model_args=SIZES).module.state_dict()


def saved(change: Change) -> Make:
    """What `change` makes of a good state dict, or the dict itself where it returns None, by torch.save."""

    def write(path: Path) -> None:
        state = dict(whole())
        made = change(state)
        torch.save(state if made is None else made, path)

    return write


def as_safetensors(change: Callable[[bytes], bytes]) -> Make:
    def write(path: Path) -> None:
        path.write_bytes(change(import_module("safetensors.torch").save(dict(whole()))))

    return write


def header(text: bytes, length: int | None = None) -> Make:
    """A safetensors file of this header, which claims this length, and no data."""
    return as_safetensors(lambda _: struct.pack("<Q", len(text) if length is None else length) + text)


def replaced(key: str, make: Callable[[Tensor], object]) -> Make:
    def change(state: State) -> None:
        state[key] = make(state[key])

    return saved(change)


def added(name: str, tensor: Tensor) -> Make:
    return saved(lambda state: state.update({name: tensor}))


def without(*keys: str) -> Make:
    return saved(lambda state: {key: value for key, value in state.items() if key not in keys})


class Code:
    """Its pickle makes a file named `ran`."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("ran"),)


def cut(share: float) -> Make:
    def write(path: Path) -> None:
        torch.save(dict(whole()), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return write


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"x")


def scripted(path: Path) -> None:
    """What tells a TorchScript program from tensors is its `constants.pkl`."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/net.py"):
            archive.writestr(f"net/{name}", b"\x80\x02}.")
        archive.writestr("net/version", b"3\n")


def looped(path: Path) -> None:
    box: State = {}
    box["model"] = box
    torch.save(box, path)


def nested(state: State) -> object:
    box: object = state
    for _ in range(20):
        box = {"model": box}
    return box


def two_sets(state: State) -> object:
    return {f"{whose}.{key}": value for whose in ("one", "other") for key, value in state.items()}


def of_digits(_: State) -> object:
    return build_digits_vit().state_dict()


def of_sizes(**sizes: int) -> Make:
    return saved(lambda _: load_model(MODEL[0], weights="random", model_args=SIZES | sizes).module.state_dict())


def _bad(name: str, content: str | bytes | Make, *says: str, file: str = "w.pth") -> Mistake:
    line = ("opt", *MODEL, "--pipeline", "canonicalize", "--weights", file, "-o", "x.safetensors")
    return Mistake(name, line, (f"weights {file}", *says), {file: content})


UNREAD = "fetch or write it again"
HEAD, QKV, PATCH = "head.weight", "blocks.0.attn.qkv.weight", "patch_embed.proj.weight"
ENTRY = b'{"head.weight":{"dtype":"F32","shape":[5,32],"data_offsets":[0,640]}}'
DAMAGED = [
    _bad("an empty file", b"", "is empty"),
    _bad("text", "these are no weights\n" * 9, UNREAD),
    _bad("two bytes", b"\x80\x02", UNREAD),
    _bad("a pickle's start and text", b"\x80\x02hello", UNREAD),
    _bad("a pickle of today", pickle.dumps({"head.weight": [1.0]}), UNREAD),
    _bad("cut to a tenth", cut(0.1), UNREAD),
    _bad("cut to nine tenths", cut(0.9), UNREAD),
    _bad("a zip of images", zipped, UNREAD),
    _bad("a TorchScript program", scripted, "TorchScript", "state_dict()"),
    _bad("an ONNX file", b"\x08\x08\x12\x07pytorch", UNREAD, file="w.onnx"),
    _bad("text named ckpt", "hello", UNREAD, file="w.ckpt"),
    _bad("text named safetensors", "hello world\n" * 9, "not a whole safetensors file", file="w.safetensors"),
    _bad("safetensors cut short", as_safetensors(lambda content: content[:-20]), UNREAD, file="w.safetensors"),
    _bad("safetensors of its length", as_safetensors(lambda content: content[:8]), UNREAD, file="w.safetensors"),
    _bad("a header of 2^60 bytes", header(b"{}", 2**60), UNREAD, file="w.safetensors"),
    _bad("a header that is no JSON", header(b"{head}"), UNREAD, file="w.safetensors"),
    _bad("a header without its data", header(ENTRY), UNREAD, file="w.safetensors"),
    _bad("an unknown type in a header", header(ENTRY.replace(b"F32", b"X99")), UNREAD, file="w.safetensors"),
    _bad("a negative shape in a header", header(ENTRY.replace(b"[5", b"[-5")), UNREAD, file="w.safetensors"),
    _bad("a header of no tensors", header(b"{}"), "missing", file="w.safetensors"),
    Mistake("no such file", ("opt", *MODEL, "--pipeline", "canonicalize", "--weights", "none.pth"), ("none.pth", "No such file", "check the path")),
    Mistake("a folder", ("opt", *MODEL, "--pipeline", "canonicalize", "--weights", "d"), ("weights d", "is a folder"), {"d/a": ""}),
]  # fmt: skip
OBJECTS = [
    _bad("code among the tensors", saved(lambda state: {"model": state, "extra": Code()}), "besides tensors", "runs none"),
    _bad("code alone", saved(lambda _: Code()), "besides tensors", "state_dict()"),
    _bad("code in the options", saved(lambda state: {"model": state, "args": Namespace(a=Code())}), "besides tensors"),
    _bad("a whole module", saved(lambda _: torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear", "state_dict()"),
    _bad("a list", saved(lambda _: [1, 2]), "no state dict in it, but a list"),
    _bad("a tensor", saved(lambda _: torch.zeros(3)), "no state dict in it, but a Tensor"),
    _bad("nothing", saved(lambda _: {}), "no state dict in it"),
    _bad("None", saved(lambda _: {"model": None}), "no state dict in it"),
    _bad("counters alone", saved(lambda _: {"epoch": 3, "step": 4}), "dict of epoch, step"),
    _bad("numbers for names", saved(lambda _: {0: torch.zeros(3)}), "no state dict in it"),
    _bad("options alone", saved(lambda _: {"args": Namespace(lr=1.0)}), "no state dict in it"),
    _bad("a box in itself", looped, "no state dict in it"),
    _bad("twenty boxes in each other", saved(nested), "no state dict in it"),
]  # fmt: skip
TENSORS = [
    _bad("NaN", replaced(HEAD, lambda old: old * float("nan")), "1 tensors hold NaN", HEAD),
    _bad("infinity", replaced(QKV, lambda old: old + float("inf")), "NaN or infinity", QKV),
    _bad("1e300 in float64", replaced(HEAD, lambda old: old.double() + 1e300), "NaN or infinity", HEAD),
    _bad("complex numbers", replaced(HEAD, lambda old: old + 1j), HEAD, "imaginary part", "convert"),
    _bad("whole numbers", replaced(HEAD, lambda old: old.to(torch.int8)), HEAD, "torch.int8", "scale"),
    _bad("truth values", replaced(HEAD, lambda old: old > 0), HEAD, "torch.bool"),
    _bad("a sparse tensor", replaced(HEAD, lambda old: old.to_sparse()), HEAD, "sparse", "convert"),
    _bad("a tensor of the meta device", replaced(HEAD, lambda old: old.to("meta")), HEAD, "no values"),
    _bad("a quantized tensor", replaced(HEAD, lambda old: torch.quantize_per_tensor(old, 0.1, 0, torch.qint8)), HEAD),
    _bad("a list for a tensor", replaced(HEAD, lambda _: [0.5, 0.5]), "1 missing (head.weight)"),
]  # fmt: skip
MISFITS = [
    _bad("no head", without(HEAD, "head.bias"), "2 missing (head.weight, head.bias)", "20 keys"),
    _bad("no class token", without("cls_token"), "1 missing (cls_token)", "variant"),
    _bad("a prefix and no head", saved(lambda state: {f"net.{key}": value for key, value in state.items() if "head" not in key}), "2 missing (head.weight, head.bias)"),
    _bad("two whole sets", saved(two_sets), "2 whole sets", "one., other.", "save the one"),
    _bad("a layer more", added("blocks.1.norm1.weight", torch.ones(32)), "1 unexpected (blocks.1.norm1.weight)"),
    _bad("a scale more", added("blocks.0.ls1.gamma", torch.ones(32)), "1 unexpected (blocks.0.ls1.gamma)"),
    _bad("a norm more", added("norm_pre.weight", torch.ones(32)), "1 unexpected (norm_pre.weight)"),
    _bad("a token more", added("dist_token", torch.ones(1, 1, 32)), "1 unexpected (dist_token)"),
    _bad("another model", saved(of_digits), "another architecture", "check the model's name"),
    _bad("another width", of_sizes(embed_dim=48), "of another shape", "19 of another shape", "pos_embed [1, 5, 48], the model's is [1, 5, 32]"),
    _bad("another depth", of_sizes(depth=2), "unexpected (blocks.1."),
    _bad("other classes than asked for", of_sizes(num_classes=7), "head.weight [7, 32], the model's is [5, 32]", "num_classes=N"),
    _bad("another MLP", of_sizes(mlp_ratio=2), "mlp.fc1.weight [64, 32], the model's is [128, 32]"),
    _bad("other channels", of_sizes(in_chans=1), PATCH),
    _bad("half of a kernel", replaced(PATCH, lambda old: old[:16]), PATCH),
    _bad("positions of another rank", replaced("pos_embed", lambda old: old[0]), "pos_embed [5, 32], the model's is [1, 5, 32]"),
    _bad("a head of another rank", replaced(HEAD, lambda old: old[0]), "head.weight [32]"),
    _bad("a scalar for a norm", replaced("norm.weight", lambda old: old[0]), "norm.weight []"),
]  # fmt: skip
MISTAKES = [*DAMAGED, *OBJECTS, *TENSORS, *MISFITS]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)
    assert not Path("ran").exists()


def test_good_weights_are_none(cli: Cli) -> None:
    """The control: what the rows change one thing of is taken."""
    saved(lambda state: {"model": state, "args": Namespace(lr=1.0, out=Path("here")), "epoch": 3})(Path("w.ckpt"))
    ran = cli("opt", *MODEL, "--pipeline", "canonicalize", "--weights", "w.ckpt", "-o", "x.safetensors")
    assert ran.status == 0, ran.err

"""Outputs that can't be written, or that would cost the user something: what is there stays as it is."""

import os
import socket
from pathlib import Path

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.planted import MLP
from tests.tools.conftest import Cli
from vitgraph.outputs.manifest import write_manifest

COMPILE = ("compile", "digits-vit", "--weights", "random", "--target", "orin-agx", "--recipe", "fp16")
SEARCH = ("search", "digits-vit", "--target", "vegeta", "--budget", "1.7x", "--train-data", "digits:train")
OPT = ("opt", "mlp.txt", "--pipeline", "canonicalize")
RECIPE = "description: mine\npipeline: [canonicalize]\n"
MINE = "thesis"


def _output(path: Path) -> None:
    """A folder as vitgraph leaves it."""
    for name, text in {
        "recipe.yaml": RECIPE,
        "report.json": "{}",
        "engine.json": "{}",
        "program/program.safetensors": "x",
    }.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    write_manifest(path, ["report.json"])


def _changed(path: Path) -> None:
    _output(path)
    (path / "recipe.yaml").write_text(RECIPE + "# mine\n")


def _foreign(path: Path) -> None:
    _output(path)
    (path / "photos").mkdir()
    (path / "photos/cat.png").write_text(MINE)


def _link_in(path: Path) -> None:
    _output(path)
    (path / "data").symlink_to("..")


def _link(to: str) -> Make:
    return lambda path: path.symlink_to(to)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path.relative_to(Path.cwd()) if path.is_absolute() else path))


LONG = "x" * 245
EVERYWHERE: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, str | Make]]] = [
    # what stands in the way, what is said besides "output", and what is there
    ("dangling link", ("-o", "out"), ("a link that leads nowhere (gone)", "remove it"), {"out": _link("gone")}),
    ("dangling link, forced", ("-o", "out", "--force"), ("a link that leads nowhere (gone)",), {"out": _link("gone")}),
    ("looping link", ("-o", "out", "--force"), ("a link that leads nowhere (out)",), {"out": _link("out")}),
    ("through a looping link", ("-o", "loop/out"), ("lead in a circle", "another place"), {"loop": _link("loop")}),
    ("through a file", ("-o", "file/out"), ("Not a directory", "another place"), {"file": MINE}),
    ("name of 245 characters", ("-o", LONG), ("File name too long", "a shorter one"), {}),
    ("name of 256 characters", ("-o", LONG + "x" * 11), ("File name too long", "a shorter one"), {}),
    ("folder of 300 characters", ("-o", "y" * 300 + "/out"), ("File name too long", "a shorter one"), {}),
    ("null byte", ("-o", "o\0ut"), ("null byte",), {}),
    ("bytes that are no text", ("-o", "o\udcffut"), (r"'o\udcffut'", "name another"), {}),
    ("a place of the kernel's", ("-o", "/proc/out"), ("/proc/out: can't be written", "another place"), {}),
    ("device", ("-o", "/dev/null", "--force"), ("output /dev/null", "a device"), {}),
    ("full device", ("-o", "/dev/full", "--force"), ("output /dev/full", "a device"), {}),
    ("link to a device", ("-o", "out", "--force"), ("output out", "a device"), {"out": _link("/dev/null")}),
    ("FIFO", ("-o", "out", "--force"), ("output out", "a FIFO"), {"out": os.mkfifo}),
    ("link to a FIFO", ("-o", "out", "--force"), ("output out", "a FIFO"), {"out": _link("pipe"), "pipe": os.mkfifo}),
    ("socket", ("-o", "out", "--force"), ("output out", "a socket"), {"out": _socket}),
]  # fmt: skip
FOLDERS: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, str | Make]]] = [
    ("the current folder", ("-o", "."), ("the current folder", "lies in it", "name another"), {"file": MINE}),
    ("the current folder, forced", ("-o", ".", "--force"), ("the current folder", "lies in it"), {"file": MINE}),
    ("empty name", ("-o", "", "--force"), ("the current folder", "lies in it"), {"file": MINE}),
    ("folder above", ("-o", "..", "--force"), ("the current folder", "lies in it"), {}),
    ("everything", ("-o", "/", "--force"), ("the current folder", "lies in it"), {}),
    ("the current folder by a link", ("-o", "out", "--force"), ("the current folder",), {"out": _link(".")}),
    ("exists", ("-o", "out"), ("output out exists", "replace it with --force"), {"out": _output}),
    ("file", ("-o", "out"), ("output out exists and is a file", "name a folder"), {"out": MINE}),
    ("file, forced", ("-o", "out", "--force"), ("output out exists and is a file", "name a folder"), {"out": MINE}),
    ("link to a folder", ("-o", "out"), ("output out exists", "--force"), {"out": _link("there"), "there/x": MINE}),
    ("link to a folder, forced", ("-o", "out", "--force"), ("x", "not written by vitgraph"), {"out": _link("there"), "there/x": MINE}),
    ("folder of another program", ("-o", "out", "--force"), ("thesis.tex", "not written by vitgraph"), {"out/thesis.tex": MINE}),
    ("report without a manifest", ("-o", "out", "--force"), ("report.json, thesis.tex",), {"out/report.json": "x", "out/thesis.tex": MINE}),
    ("search without a manifest", ("-o", "out", "--force"), ("search.json",), {"out/search.json": "{}"}),
    ("photos in it", ("-o", "out", "--force"), ("photos/, photos/cat.png", "move that away"), {"out": _foreign}),
    ("a link in it", ("-o", "out", "--force"), ("holds what was not written by vitgraph: data;",), {"out": _link_in}),
    ("changed by hand", ("-o", "out", "--force"), ("recipe.yaml (changed)", "move that away"), {"out": _changed}),
    ("manifest of another kind", ("-o", "out", "--force"), ("manifest.json",), {"out/manifest.json": '{"files": {}}', "out/a": MINE}),
]  # fmt: skip
FILES: list[tuple[str, tuple[str, ...], tuple[str, ...], dict[str, str | Make]]] = [
    ("exists", ("-o", "out"), ("output out exists", "replace it with --force"), {"out": MINE}),
    ("folder", ("-o", "out"), ("output out is a folder", "name a file"), {"out/x": MINE}),
    ("folder, forced", ("-o", "out", "--force"), ("output out is a folder", "name a file"), {"out/x": MINE}),
    ("the current folder", ("-o", ".", "--force"), ("output . is a folder",), {}),
    ("empty name", ("-o", "", "--force"), ("is a folder",), {}),
    ("no folder", ("-o", "a/out"), ("there is no folder", "make it"), {}),
    ("reproducer that exists", ("--reproducer", "file"), ("output file exists", "--force"), {"file": MINE}),
    ("reproducer in a device", ("--reproducer", "/dev/null", "--force"), ("a device",), {}),
    ("reproducer in a FIFO", ("--reproducer", "out", "--force"), ("a FIFO",), {"out": os.mkfifo}),
    ("reproducer in a folder", ("--reproducer", ".", "--force"), ("is a folder",), {}),
]  # fmt: skip
INSIDE = [
    ("model", ("compile", "out/program/program.safetensors", *COMPILE[4:]), "out/program/program.safetensors"),
    ("model's folder", ("compile", "out", *COMPILE[4:]), "out"),
    (
        "weights",
        (*COMPILE[:2], *COMPILE[4:], "--weights", "out/program/program.safetensors"),
        "out/program/program.safetensors",
    ),
    ("recipe", (*COMPILE[:-1], "out/recipe.yaml"), "out/recipe.yaml"),
    ("pipeline", (*COMPILE, "--pipeline", "out/recipe.yaml"), "out/recipe.yaml"),
    ("calibration data", (*COMPILE, "--calibration-data", "out/program"), "out/program"),
    ("evaluation data by a link", (*COMPILE, "--evaluate-data", "data"), "data"),
    ("measured layers", (*COMPILE, "--measured", "out/engine.json"), "out/engine.json"),
    ("training data", (*SEARCH[:-1], "out"), "out"),
    (
        "weights of a search",
        (*SEARCH, "--weights", "out/program/program.safetensors"),
        "out/program/program.safetensors",
    ),
    ("recipe of a search", (*SEARCH, "--recipe", "out/recipe.yaml"), "out/recipe.yaml"),
]

MISTAKES = [
    *(
        Mistake(f"{words[0]}: {name}", (*words, *given), says, {"mlp.txt": MLP, **files})
        for words in (COMPILE, SEARCH, OPT)
        for name, given, says, files in (EVERYWHERE + (FILES if words is OPT else FOLDERS))
    ),
    *(
        Mistake(f"inside: {name}", (*words, "-o", "out", "--force"), (f"output out: the input {inside} lies in it", "name another"),
                {"out": _output, "data": _link("out")})
        for name, words, inside in INSIDE
    ),
]  # fmt: skip


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)
    for name, content in mistake.files.items():
        assert os.path.lexists(name)
        assert not isinstance(content, str) or Path(name).read_text() == content

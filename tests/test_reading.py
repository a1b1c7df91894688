"""The door for files: what it lets in, what it refuses and how; and that there is no other door."""

import ast
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.test_imports import ROOT, source_files
from vitgraph import reading
from vitgraph.errors import InputError
from vitgraph.reading import RECIPE, WEIGHTS, check_file, parse_json, parse_yaml, read_bytes, read_json, read_text

SMALL = replace(RECIPE, most=8)


def test_reads_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b"\xef\xbb\xbf[1]\n")
    assert read_bytes(file, RECIPE)[3:] == b"[1]\n"
    assert read_text(file, RECIPE) == "[1]\n"
    assert read_json(file, RECIPE) == [1]


def test_a_file_may_be_as_large_as_its_kind_and_no_larger(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"x" * 8)
    assert len(read_bytes(file, SMALL)) == 8
    file.write_bytes(b"x" * 9)
    with pytest.raises(InputError, match=r"recipe .*a\.yaml is 9 bytes long, over the 0 MiB that are read; give a"):
        read_bytes(file, SMALL)


def test_a_file_that_states_no_size_is_bounded_too() -> None:
    with pytest.raises(InputError, match="9 bytes long"):
        read_bytes(Path("/proc/self/status"), SMALL)


def _nothing(path: Path) -> Path:
    return path


def _folder(path: Path) -> Path:
    return path.parent


def _device(path: Path) -> Path:
    return Path("/dev/zero")


def _long(path: Path) -> Path:
    return path.with_name("x" * 300)


def _nul(path: Path) -> Path:
    return path.with_name("a\0b")


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_nothing, "No such file"),
        (_folder, "it is a folder, not a file"),
        (_fifo, "it is a FIFO, not a file"),
        (_loop, "symbolic links"),
        (_device, "it is a device, not a file"),
        (_long, "(No such file|too long)"),
        (_nul, "null byte"),
    ],
)
def test_only_regular_files_are_read(make: Callable[[Path], Path], says: str, tmp_path: Path) -> None:
    for read in (lambda: check_file(make(tmp_path / "a"), WEIGHTS), lambda: read_bytes(make(tmp_path / "b"), WEIGHTS)):
        with pytest.raises(InputError, match=rf"^weights .* can't be read: .*{says}.*; "):
            read()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=r"is not text in UTF-8 \(byte 2\)"):
        read_text(tmp_path / "a", RECIPE)


@pytest.mark.parametrize(
    "text",
    ["[", "[" * 100_000, "[" * 70 + "]" * 70, '["\\ud800"]', "[NaN]", "[-Infinity]", "[" + "9" * 5_000 + "]", ""],
)
def test_json_that_is_none_or_too_deep_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^report r is not JSON.*; write it again$"):
        parse_json(text, "report r")


def test_json_may_hold_large_numbers_pairs_of_surrogates_and_where_allowed_nan() -> None:
    assert parse_json('[1e400, 123456789012345678901234567890, "\\ud83d\\ude00"]', "r")[1:] == [
        123456789012345678901234567890,
        "\N{GRINNING FACE}",
    ]
    assert str(parse_json("[NaN]", "r", nan=True)) == "[nan]"
    assert parse_json("[" * 60 + "]" * 60, "r")


def _bomb() -> str:
    levels = (f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    return "a0: &a0 [x, x]\n" + "".join(levels)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_bomb(), "over 50,000 values"),
        ("a: &a [*a]", "stands for nothing, or for itself"),
        ("a: *b", "stands for nothing"),
        ("[" * 3_000, "over 64 deep"),
        ("- " * 100 + "x", "over 64 deep"),
        ("[" + "x," * 50_001 + "]", "over 50,000 values"),
        ("a: !!int abc", "the tag 'tag:yaml.org,2002:int' in line 1"),
        ("a: !!timestamp foo", "the tag"),
        ("a: !!python/object/apply:os.system [ls]", "the tag"),
        ("a: 2001-99-99", "month"),
        ("a: " + "9" * 5_000, "4300 digits"),
        ("a: 0b_", "invalid literal"),
        ("a: 1" + ":1" * 100_000, "'1:1:1:1:1:1:' begins over 8 numbers joined by colons"),
        ("b: [\n -1_0" + ":59" * 100_000 + ".5]", "numbers joined by colons"),
        ("1" + ":1" * 100_000 + ": b", "numbers joined by colons"),
        ('a: "\\ud800"', "surrogates"),
        ("a: =", "tag"),
        ("{<<: 3}", "expected a mapping"),
        ("? [a]\n: 1", "unhashable"),
        ("\0", "unacceptable character"),
        ("a: [", "expected"),
        ("a: 1\n---\nb: 2", "single document"),
    ],
)
def test_yaml_that_is_none_or_grows_is_refused_on_one_line(text: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"^recipe r is not YAML: .*{says}.*; mend the file$") as caught:
        parse_yaml(text, "recipe r")
    assert "\n" not in str(caught.value)


def test_yaml_may_hold_times_and_addresses() -> None:
    assert parse_yaml("a: 1:30\nb: '" + "1:" * 50 + "1'\nc: 2001:db8:0:0:0:0:0:1", "r") == {
        "a": 90,
        "b": "1:" * 50 + "1",
        "c": "2001:db8:0:0:0:0:0:1",
    }


def test_yaml_may_hold_aliases_in_measure() -> None:
    assert parse_yaml("a: &a [1]\nb: *a\nc: {<<: {d: 2}}", "r") == {"a": [1], "b": [1], "c": {"d": 2}}


READERS = {
    "open", "read_text", "read_bytes", "load", "loads", "load_file", "safe_open", "safe_load", "compose", "parse",
    "ZipFile", "fromfile", "genfromtxt", "loadtxt", "model_validate_json", "load_model", "InferenceSession",
}  # fmt: skip
"""What opens a file or reads a document, by the last part of its name."""
LIBRARIES = {"json", "yaml", "torch", "onnx", "np", "numpy", "zipfile", "safetensors", "pickle", "toml", "csv", "Image"}
OUTPUTS = "vitgraph/outputs/"
"""Opens files to write them, and to compare what it wrote with its manifest, in bounds of its own."""
ALLOWED = {
    "vitgraph/reading.py": "the door itself",
    "vitgraph/images/image_files.py": "members of a zip and images, their sizes checked",
    "vitgraph/images/preprocess.py": "a text, by pydantic, which bounds its depth",
    "vitgraph/frontend/weight_files.py": "libraries open the file, after check_file",
    "vitgraph/ir/program_file.py": "a library opens the file, after check_file",
    "vitgraph/runtime/checkpoint.py": "its own files, by a digest",
    "backends/ort/session.py": "a library opens the file, after check_file",
    "backends/onnx/stored_weights.py": "a library opens the file, after check_file",
    "backends/onnx/cut.py": "a library opens the file that was written just now",
    "backends/onnx/file_writer.py": "writes",
    "tools/graph_view.py": "a library opens the file, after check_file",
    "tools/streams.py": "the null device, in place of a stream",
    "tools/completion.py": "vitgraph's own source",
}
"""Files that may, and why."""
OWN_TEXT = {"dumps", "to_json"}
"""`json.loads(x.to_json())` reads no file."""


def readers(tree: ast.AST) -> Iterator[int]:
    """The lines on which something is read past the door."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, holder = _name(call.func)
        own = bool(call.args) and isinstance(call.args[0], ast.Call) and _name(call.args[0].func)[0] in OWN_TEXT
        if name in READERS and not own and (holder in LIBRARIES or _reads(name, holder)):
            yield call.lineno


def _reads(name: str, holder: str) -> bool:
    """A method of a path, or a reader under its bare name; not `backend.load` and not this project's own `load(path)`."""
    if name in ("read_text", "read_bytes"):
        return holder != ""
    return name in ("open", "safe_open", "load_file", "InferenceSession", "ZipFile", "model_validate_json")


def _name(func: ast.expr) -> tuple[str, str]:
    if isinstance(func, ast.Attribute):
        return func.attr, func.value.id if isinstance(func.value, ast.Name) else "…"
    return (func.id, "") if isinstance(func, ast.Name) else ("", "")


def test_nothing_else_reads_files() -> None:
    found = {
        f"{place}:{line}"
        for file in source_files(ROOT)
        if (place := file.relative_to(ROOT).as_posix()) not in ALLOWED and not place.startswith(OUTPUTS)
        for line in readers(ast.parse(file.read_text(encoding="utf-8")))
    }
    assert found == set()


@pytest.mark.parametrize(
    "code",
    ["open(p)", "Path(p).read_text()", "p.read_bytes()", "json.loads(text)", "json.load(f)", "yaml.safe_load(t)",
     "torch.load(p)", "safe_open(p)", "np.load(p)", "zipfile.ZipFile(p)", "Report.model_validate_json(t)", "p.open()"],
)  # fmt: skip
def test_a_reader_past_the_door_is_seen(code: str) -> None:
    assert list(readers(ast.parse(code)))


@pytest.mark.parametrize("code", ["json.loads(report.to_json())", "json.loads(json.dumps(x))", "read_text(p, RECIPE)"])
def test_what_reads_no_file_is_let_be(code: str) -> None:
    assert not list(readers(ast.parse(code)))


def test_every_kind_is_listed_once() -> None:
    made = [each for each in vars(reading).values() if isinstance(each, reading.Kind)]
    assert sorted(each.what for each in made) == sorted(each.what for each in reading.KINDS)


def test_the_page_has_the_limits() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d+ [MG]iB) \|$", page, re.MULTILINE))
    told = {
        kind: limit
        for kinds, limit in rows.items()
        for kind in kinds.removesuffix(", in a folder or in a zip").split(", ")
    }
    assert told == {kind.what: _limit(kind.most) for kind in reading.KINDS}


def _limit(size: int) -> str:
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"

"""The one door for what comes in from files: bytes, text, JSON and YAML, each bounded, none trusted.

Only regular files are read, so that no device or FIFO holds a command up; none is larger than its kind may be; text is
UTF-8; JSON and YAML nest at most `MAX_DEPTH` deep, and YAML has at most `MAX_NODES` values once its aliases are
followed, so that no chain of aliases grows beyond memory. Every fault is an `InputError` that names file, fault and
remedy. Libraries that open a file themselves (safetensors, torch, ONNX) read it after `check_file`.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from vitgraph.errors import OF_THE_MACHINE, InputError, VitgraphError, blamed

MAX_DEPTH = 64
"""How deep lists and mappings may nest; what vitgraph writes stays under 10."""
MAX_NODES = 50_000
"""How many values a YAML file may have; the largest recipe that a search writes has some 2,000."""
_MAX_PARTS = 8
"""Numbers joined by colons in a plain value; YAML reads `1:30` as 90, in a time that grows with the square of their count."""
_PARTS = frozenset("+-.:_0123456789")
_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True)
class Kind:
    """A kind of file: what messages call it, the most bytes it may have, and what to do about one that is none."""

    what: str
    most: int
    remedy: str


RECIPE = Kind("recipe", _MIB, "give a recipe's YAML file, or one of `vitgraph recipes`")
TARGET = Kind("target", _MIB, "give the YAML file that describes a device")
REPORT = Kind("report", 32 * _MIB, "name a folder that `vitgraph compile` wrote")
ENGINE_REPORT = Kind("engine report", 32 * _MIB, "`vitgraph compile` writes engine.json, trtexec layers.json")
SETTINGS = Kind("model settings", _MIB, "fetch the model's folder again")
GRAPH_TEXT = Kind("graph text", 16 * _MIB, "`vitgraph opt MODEL` prints one")
PUBLISHED = Kind("published figures", _MIB, "install vitgraph again")
DIGITS = Kind("digits", 16 * _MIB, "install vitgraph again")
PROGRAM = Kind("program", 16 * _GIB, "programs are written by `vitgraph opt -o`")
WEIGHTS = Kind("weights", 16 * _GIB, "give a .safetensors, .pth, .pt, .bin or .ckpt file")
PLAN = Kind("plan", 32 * _MIB, "compile the model again with --backend cuda")
PLAN_WEIGHTS = Kind("plan's weights", 16 * _GIB, "compile the model again with --backend cuda")
ENGINE = Kind("engine", 16 * _GIB, "`vitgraph compile` builds one, or build_on_device.sh on the device")
KERNEL_CACHE = Kind("kernel cache", _GIB, "remove it: kernels are compiled again")
DRIVER = Kind("driver's version", _MIB, "install the driver again")
TRACE = Kind("trace", _GIB, "trace fewer models or smaller batches")
MEASURED = Kind("measured times", 32 * _MIB, "`vitgraph tune` writes measured.json on a GPU")
ONNX = Kind("ONNX file", 2 * _GIB, "give a whole .onnx file; larger weights go to files of external data")
ONNX_DATA = Kind("external data of ONNX", 16 * _GIB, "put the file of weights beside the .onnx file that it belongs to")
LABEL_TABLE = Kind("labels", 64 * _MIB, "give one line file,index,label for each image")
IMAGE = Kind("image", 256 * _MIB, "remove or replace it")
IMAGES = Kind("images", 1024 * _GIB, "give a folder, a .zip, digits:train, digits:test or random")
KINDS = (
    RECIPE, TARGET, REPORT, ENGINE_REPORT, SETTINGS, GRAPH_TEXT, PROGRAM, WEIGHTS, ONNX, ONNX_DATA, LABEL_TABLE, IMAGE, IMAGES,
    PUBLISHED, DIGITS, PLAN, PLAN_WEIGHTS, ENGINE, KERNEL_CACHE, DRIVER, TRACE, MEASURED,
)  # fmt: skip
"""Every kind; SECURITY.md has the same limits."""


def check_file(file: Path, kind: Kind) -> None:
    """Raise `InputError` unless `file` is a regular file that is not too large for its kind."""
    try:
        found = file.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise unreadable(file, kind, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{kind.what} {file} can't be read: it is {_sort(found.st_mode)}, not a file; {kind.remedy}")
    check_size(found.st_size, kind, f"{kind.what} {file}")


def check_size(size: int, kind: Kind, origin: str) -> None:
    """Raise `InputError` where `size` bytes are more than the kind may have."""
    if size > kind.most:
        limit = f"{kind.most // _GIB} GiB" if kind.most >= _GIB else f"{kind.most // _MIB} MiB"
        raise InputError(f"{origin} is {size:,} bytes long, over the {limit} that are read; {kind.remedy}")


def read_bytes(file: Traversable, kind: Kind, origin: str = "") -> bytes:
    """A file's content; `origin` is what messages call it, else kind and path."""
    if isinstance(file, Path):
        check_file(file, kind)
    try:
        with file.open("rb") as stream:
            content: bytes = stream.read(kind.most + 1)  # some files, such as those of /proc, state no size
    except OSError as error:
        raise unreadable(file, kind, error) from error
    check_size(len(content), kind, origin or f"{kind.what} {file}")
    return content


def read_text(file: Traversable, kind: Kind, origin: str = "") -> str:
    """A file's text, without a byte order mark."""
    return decode(read_bytes(file, kind, origin), kind, origin or f"{kind.what} {file}")


def decode(content: bytes, kind: Kind, origin: str) -> str:
    """Bytes as text."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{origin} is not text in UTF-8 (byte {error.start}); {kind.remedy}") from error


def read_json(file: Traversable, kind: Kind, *, nan: bool = False) -> Any:
    """A JSON file's value; see `parse_json`."""
    return parse_json(read_text(file, kind), f"{kind.what} {file}", nan=nan)


def parse_json(text: str, origin: str, *, nan: bool = False) -> Any:
    """The value of a JSON text; NaN and infinities, which are Python's and not JSON's, only where `nan` allows them."""
    try:
        value: Any = json.loads(text, parse_constant=None if nan else _no_number)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is a string that nothing can print
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin} is not JSON: {_line(error)}; write it again") from error
    if _deeper(value, MAX_DEPTH):
        raise InputError(f"{origin} is not JSON of ours: it nests over {MAX_DEPTH} deep; write it again")
    return value


def parse_yaml(text: str, origin: str) -> Any:
    """The value of a YAML text without tags, of plain kinds."""
    try:
        _measure(text)
        return yaml.safe_load(text)
    # ValueError: a date or a number that is none; RecursionError: the reader's own way with brackets that do not end
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{origin} is not YAML: {_line(error)}; mend the file") from error


def unreadable(file: object, kind: Kind, error: Exception) -> VitgraphError:
    """The answer where the file system refuses: an `InputError`, or a `MachineError` where the path is not at fault."""
    reason = error.strerror if isinstance(error, OSError) else None
    remedy = OF_THE_MACHINE.get(error.errno or 0) if isinstance(error, OSError) else None
    return blamed(error)(f"{kind.what} {file} can't be read: {reason or error}; {remedy or 'check the path'}")


def _line(error: Exception) -> str:
    """A library's message on one line of bounded length."""
    return " ".join(str(error).split())[:200]


def _sort(mode: int) -> str:
    names = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return names.get(stat.S_IFMT(mode), "a device")


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _deeper(value: object, depth: int) -> bool:
    """Whether lists and mappings nest deeper than this."""
    level = [value]
    for _ in range(depth + 1):
        level = [inner for each in level for inner in _inside(each)]
    return bool(level)


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []  # pyright: ignore


@dataclass
class _Size:
    """How many values a YAML text has so far, aliases counted as what they stand for."""

    open: list[tuple[str | None, int]] = field(default_factory=list[tuple[str | None, int]])
    """The anchor of each list and mapping around this place, and the count where it began."""
    anchors: dict[str, int] = field(default_factory=dict[str, int])
    count: int = 0

    def see(self, event: Any) -> None:
        """Take in one event of the parser; `ValueError` where it is one too many."""
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"the tag {event.tag!r} in line {event.start_mark.line + 1} has no place in it")
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append((event.anchor, self.count))
        if isinstance(event, yaml.AliasEvent):
            self._follow(event.anchor)
        elif isinstance(event, yaml.NodeEvent):
            self.count += 1
        if isinstance(event, yaml.ScalarEvent):
            event.value.encode()  # UnicodeEncodeError, a ValueError, for half a surrogate pair
            if event.implicit[0] and event.value.count(":") > _MAX_PARTS and _PARTS.issuperset(event.value):
                raise ValueError(
                    f"{event.value[:12]!r} begins over {_MAX_PARTS} numbers joined by colons; put it in quotes"
                )
            self._name(event.anchor, 1)
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = self.open.pop()
            self._name(anchor, self.count - before)
        if len(self.open) > MAX_DEPTH or self.count > MAX_NODES:
            raise ValueError(f"it nests over {MAX_DEPTH} deep or has over {MAX_NODES:,} values")

    def _name(self, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self.anchors[anchor] = size

    def _follow(self, anchor: str | None) -> None:
        if anchor is None or anchor not in self.anchors:
            raise ValueError(f"the alias *{anchor} stands for nothing, or for itself")
        self.count += self.anchors[anchor]


def _measure(text: str) -> None:
    size = _Size()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        size.see(event)

"""Image files in a folder or a zip: which there are, what their labels are, and what is in them.

A zip is read in place: nothing is extracted, and a name in it is only ever a key, so a name such as `../../x` leads
nowhere. A `labels.csv` in a folder may not point out of that folder either.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from vitgraph.errors import InputError
from vitgraph.images.pixel_modes import refusal
from vitgraph.reading import IMAGE, LABEL_TABLE, Kind, check_size, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

LABELS = "labels.csv"
ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"})


_DIGITS, _SHOWN = 9, 20
"""An index of more digits is no class."""


class Files(Protocol):
    """Named files, `/` between folders; all names are inside."""

    @property
    def source(self) -> str:
        """Where they are, as the user named it."""
        ...

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """One file's content; raise InputError where it can't be read."""
        ...


class FolderFiles:
    """The files under a folder."""

    def __init__(self, folder: Path) -> None:
        """Take a folder that exists."""
        self.folder, self.source = folder, str(folder)

    def names(self) -> list[str]:
        """All files, sorted; hidden ones left out."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))

    def read(self, name: str) -> bytes:
        """One file's content; raise InputError where it can't be read."""
        return read_bytes(self.folder / name, _kind(name))


class ZipFiles:
    """The members of a zip. Each process opens it for itself: a handle that was open at a fork has one place for both."""

    def __init__(self, path: Path) -> None:
        """Open it; raise InputError where it is no zip."""
        self.source, self._path = str(path), path
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        _ = self.archive

    @property
    def archive(self) -> zipfile.ZipFile:
        """The zip, open in this process; raise InputError where it is none."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), self._open()
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def names(self) -> list[str]:
        """All files, sorted; what macOS adds left out."""
        return sorted(
            entry.filename
            for entry in self.archive.infolist()
            if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
        )

    def read(self, name: str) -> bytes:
        """One member's content; raise InputError where it is damaged or encrypted."""
        kind = _kind(name)
        check_size(self.archive.getinfo(name).file_size, kind, f"{kind.what} {name} in {self.source}")
        try:
            return self.archive.read(name)  # never more than the size that was checked
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise InputError(f"image {name} in {self.source} can't be read: {error}") from error

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"images {self._path}: not a whole zip file ({error}); fetch or write it again") from error


@dataclass(frozen=True)
class MemoryFiles:
    """Files whose content is in memory."""

    source: str
    contents: Mapping[str, bytes] = field(repr=False)

    def names(self) -> list[str]:
        """All files, sorted."""
        return sorted(self.contents)

    def read(self, name: str) -> bytes:
        """One file's content."""
        return self.contents[name]


def _kind(name: str) -> Kind:
    return LABEL_TABLE if PurePosixPath(name).name == LABELS else IMAGE


@dataclass(frozen=True)
class Listing:
    """What a source holds: image names in order, and what is known of their classes."""

    kind: str
    names: list[str]
    labels: list[int] | None = None
    class_names: dict[int, str] = field(default_factory=dict[int, str])
    classes: int | None = None


def open_files(path: Path) -> Files:
    """Open a folder or a zip; raise InputError where it is neither."""
    if path.is_dir():
        return FolderFiles(path)
    if path.is_file():
        return ZipFiles(path)
    raise InputError(
        f"images {path}: no such folder or zip; give a folder, a .zip, digits:train, digits:test or random"
    )


def list_images(files: Files) -> Listing:
    """Find the images and their labels: by labels.csv, by class folders, or without any."""
    names = files.names()
    tables = [name for name in names if PurePosixPath(name).name == LABELS]
    if tables:
        table = min(tables, key=lambda name: (name.count("/"), name))
        return _read_labels(files, table, set(names))
    images = [name for name in names if PurePosixPath(name).suffix.lower() in ENDINGS]
    if not images:
        endings = ", ".join(sorted(ENDINGS))
        raise InputError(f"images {files.source}: no image in it (endings {endings}) and no {LABELS}")
    folders = sorted({name.partition("/")[0] for name in images if "/" in name})
    if any("/" not in name for name in images) or len(folders) < 2:
        return Listing("unlabelled", images)
    numbered = all(folder.isascii() and folder.isdigit() for folder in folders)
    if numbered and (long := next((folder for folder in folders if len(folder) > _DIGITS), None)):
        raise InputError(
            f"images {files.source}: folder {long[:_SHOWN]} is no class index; name folders 0, 1, 2 … or in words"
        )
    index = {folder: int(folder) if numbered else position for position, folder in enumerate(folders)}
    return Listing(
        kind="class folders",
        names=images,
        labels=[index[name.partition("/")[0]] for name in images],
        class_names={number: folder for folder, number in index.items()},
        classes=None if numbered else len(folders),
    )


def decode(content: bytes, name: str, source: str) -> Image:
    """Decode an image whole; raise InputError that names the file where it is none, or damaged."""
    return _open_image(content, name, source, whole=True)


def check_header(content: bytes, name: str, source: str) -> None:
    """Raise InputError unless the content begins as an image does."""
    _open_image(content, name, source, whole=False)


def _open_image(content: bytes, name: str, source: str, whole: bool) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(content))
        if whole:
            image.load()
    except UnidentifiedImageError as error:
        what = "is empty" if not content else "is a text file" if _is_text(content) else "is not an image"
        raise InputError(f"image {name} in {source} {what}, whatever its name says; remove or replace it") from error
    except Exception as error:
        why = str(error) or type(error).__name__
        raise InputError(f"image {name} in {source} is damaged: {why}; remove or replace it") from error
    if why_not := refusal(image):
        raise InputError(f"image {name} in {source} {why_not}")
    return image


def _read_labels(files: Files, table: str, present: set[str]) -> Listing:
    """Read `file,index[,label]` lines; files are named from the table's own folder."""
    where = f"{table} in {files.source}"
    try:
        text = files.read(table).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{where} is not a comma-separated text file: {error}") from error
    if not rows:
        raise InputError(f"{where} lists no image: it needs a line file,index,label and one line for each image")
    if not {"file", "index"} <= rows[0].keys():
        columns = ", ".join(map(str, rows[0]))
        raise InputError(f"{where} has the columns {columns}: its first line must be file,index,label")
    folder = PurePosixPath(table).parent
    names: list[str] = []
    labels: list[int] = []
    class_names: dict[int, str] = {}
    for line, row in enumerate(rows, start=2):
        name, index = row["file"] or "", (row["index"] or "").strip()
        if not (index.isascii() and index.isdigit() and len(index) <= _DIGITS):
            raise InputError(f"{where}, line {line}: index {index[:_SHOWN]!r} is not a class's number, 0 or above")
        names.append((folder / name).as_posix())
        labels.append(int(index))
        if label := row.get("label"):
            class_names.setdefault(int(index), label)
    absent = [name for name in names if name not in present]
    if absent:
        shown = ", ".join(absent[:3])
        raise InputError(
            f"{where} names {len(absent)} of {len(names)} files that are not there: {shown}; mend the table"
        )
    return Listing("labels.csv", names, labels, class_names)


def _is_text(content: bytes) -> bool:
    try:
        return content[:512].decode("ascii").isprintable() or content[:512].decode("ascii").count("\n") > 0
    except UnicodeDecodeError:
        return False

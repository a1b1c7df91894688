"""Images, zips of them and their labels: what is no image, what nothing can be measured on, and options out of their domain."""

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.tools.conftest import Cli

Content = Mapping[str, str | bytes | Make]
RAMP = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1))


def encode(image: Image.Image, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


PNG = encode(Image.fromarray(RAMP))
NOISE = encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16), dtype=np.uint8)))
OTHER = encode(Image.fromarray(RAMP.T.copy()))
WHITE = encode(Image.new("L", (16, 16), 255))
JPEG, GIF, BMP = (encode(Image.fromarray(RAMP), form) for form in ("JPEG", "GIF", "BMP"))
WEBP, TIFF = (encode(Image.fromarray(RAMP).convert("RGB"), form) for form in ("WEBP", "TIFF"))


def packed(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def claiming(size: int) -> bytes:
    """A zip whose member says that it is so large."""
    content = bytearray(packed({"a.png": PNG}))
    entry = content.index(b"PK\1\2")
    content[entry + 24 : entry + 28] = struct.pack("<I", size)
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(packed({"a.png": PNG}))
    content[6] |= 1
    entry = content.index(b"PK\1\2")
    content[entry + 8] |= 1
    return bytes(content)


def huge_png(side: int) -> bytes:
    """A header that claims this side."""
    return PNG[:16] + struct.pack(">II", side, side) + PNG[24:]


def _calibrate(name: str, files: Content, *says: str, data: str = "d", more: tuple[str, ...] = ()) -> Mistake:
    line = ("compile", "digits-vit", "--target", "a100", "--recipe", "int8", "--calibration-data", data, "-o", "out")
    return Mistake(name, (*line, *more), says, files)


def _image(name: str, content: bytes | Make, *says: str, file: str = "bad.png") -> Mistake:
    """One image among good ones, in a folder."""
    return _calibrate(name, {"d/a.png": PNG, f"d/{file}": content, "d/z.png": OTHER}, file, *says)


def _table(name: str, text: str | bytes, *says: str) -> Mistake:
    return _calibrate(name, {"d/a.png": PNG, "d/b.png": OTHER, "d/labels.csv": text}, "labels.csv", *says)


def _option(name: str, option: str, value: str, *says: str) -> Mistake:
    return _calibrate(name, {}, *says, data="digits:train", more=(option, value))


def _save(mode: str, form: str = "TIFF") -> bytes:
    return encode(Image.new(mode, (16, 16), 3), form)


SOURCES = [
    _calibrate("no such folder", {}, "images d", "no such folder or zip", "digits:train"),
    _calibrate("an empty name", {}, "images", data=""),
    _calibrate("an empty folder", {"d/.hidden": ""}, "images d", "no image in it"),
    _calibrate("a folder of texts", {"d/a.txt": "x"}, "no image in it", ".png"),
    _calibrate("a folder of hidden images", {"d/.a.png": PNG}, "no image in it"),
    _calibrate("a file that is no zip", {"d.zip": "text"}, "images d.zip", "not a whole zip", data="d.zip"),
    _calibrate("an image in a folder's place", {"d.png": PNG}, "d.png", "not a whole zip", data="d.png"),
    _calibrate("an empty file", {"d.zip": b""}, "d.zip", "not a whole zip", data="d.zip"),
    _calibrate("an empty zip", {"d.zip": packed({})}, "no image in it", data="d.zip"),
    _calibrate(
        "a zip cut short", {"d.zip": packed({"a.png": PNG, "b.png": OTHER})[:-30]}, "not a whole zip", data="d.zip"
    ),
    _calibrate("a zip without images", {"d.zip": packed({"a.txt": b"x"})}, "no image in it", data="d.zip"),
    _calibrate("an encrypted zip", {"d.zip": encrypted()}, "a.png in d.zip", "encrypted", data="d.zip"),
    _calibrate(
        "a member of 3 GB", {"d.zip": claiming(3 * 10**9)}, "a.png in d.zip", "3,000,000,000 bytes", data="d.zip"
    ),
    _calibrate("a zip whose member is text", {"d.zip": packed({"a.png": b"hello"})}, "a text file", data="d.zip"),
    _calibrate(
        "a damaged member",
        {"d.zip": packed({"a.png": NOISE}).replace(NOISE[60:64], b"\0\0\0\0")},
        "a.png in d.zip",
        "CRC",
        data="d.zip",
    ),
    _calibrate("an unknown split of the digits", {}, "digits:dev", data="digits:dev"),
]
FILES = [
    _image("an empty image", b"", "is empty", "remove or replace"),
    _image("text named png", b"hello\n", "is a text file", "remove or replace"),
    _image("a web page named jpg", b"<!DOCTYPE html>\n<html></html>", "is a text file", file="bad.jpg"),
    _image("random bytes", bytes(range(128, 256)), "is not an image"),
    _image("a zip named png", packed({"a": b"x"}), "is not an image"),
    _image("a PNG of its signature", PNG[:8], "bad.png"),
    _image("a PNG cut in its header", PNG[:20], "bad.png"),
    _image("a PNG cut in its pixels", NOISE[:150], "is damaged", "remove or replace"),
    _image("a PNG with zeros for pixels", NOISE[:45] + bytes(len(NOISE) - 45), "is damaged"),
    _image("a PNG of 60,000 x 60,000", huge_png(60000), "bad.png"),
    _image("a PNG of no pixels", huge_png(0), "bad.png"),
    _image("a JPEG cut short", JPEG[: len(JPEG) // 2], "is damaged", file="bad.jpg"),
    _image("a JPEG of its header", JPEG[:20], file="bad.jpg"),
    _image("a GIF cut short", GIF[:20], file="bad.gif"),
    _image("a BMP cut short", BMP[:80], "is damaged", file="bad.bmp"),
    _image("a WEBP cut short", WEBP[:30], file="bad.webp"),
    _image("a TIFF without its directory", TIFF[:-40], file="bad.tif"),
    _image("a TIFF of nothing", b"II*\0\0\0\0\0", file="bad.tif"),
    _image("a PPM without pixels", b"P6 4 4 255\n", "is damaged", file="bad.ppm"),
    _image("a PPM with a word for a width", b"P6 four 4 255\n", file="bad.ppm"),
    _image("a PGM of a depth that is none", b"P5 4 4 0\n" + bytes(16), file="bad.pgm"),
    _image("32-bit whole numbers", _save("I"), "32-bit whole numbers", "save it with 8 or 16 bits", file="bad.tif"),
    _image("floating-point numbers", _save("F"), "floating-point numbers", "8 or 16 bits", file="bad.tif"),
    _calibrate("one white image", {"d/a.png": WHITE}, "the only one is of one colour", "a.png"),
    _calibrate(
        "white images alone", {f"d/{n}.png": WHITE for n in range(3)}, "all 3 that were looked at are of one colour"
    ),
    _calibrate(
        "a plain colour each",
        {f"d/{n}.png": encode(Image.new("L", (9, 9), n)) for n in (0, 99, 200)},
        "of one colour",
        "check how they were made",
    ),
    _calibrate(
        "a zip of black images",
        {"d.zip": packed({"a.png": encode(Image.new("1", (9, 9)))})},
        "of one colour",
        data="d.zip",
    ),
]
LABELS = [
    _table("an empty table", "", "lists no image", "file,index,label"),
    _table("a table of its first line", "file,index\n", "lists no image"),
    _table("other columns", "name,class\na.png,0\n", "columns name, class", "file,index,label"),
    _table("semicolons", "file;index\na.png;0\n", "file,index,label"),
    _table("UTF-16", "file,index\na.png,0\n".encode("utf-16"), "not a comma-separated text file"),
    _table("an unclosed quote", 'file,index\n"a.png,0\n', "not a comma-separated text file"),
    _table("a word for an index", "file,index\na.png,cat\n", "line 2", "'cat'"),
    _table("a negative index", "file,index\na.png,-1\n", "line 2", "'-1'"),
    _table("an index of a half", "file,index\na.png,0.5\n", "line 2", "'0.5'"),
    _table("no index", "file,index\na.png,\n", "line 2"),
    _table("a short line", "file,index\na.png,0\nb.png\n", "line 3"),
    _table("an index of 30 digits", f"file,index\na.png,{'9' * 30}\n", "line 2", "'9999"),
    _table("an index of 5,000 digits", f"file,index\na.png,{'9' * 5000}\n", "line 2", "'9999"),
    _table("an index in Arabic digits", "file,index\na.png,٣\n", "line 2"),
    _table(
        "a file that is absent", "file,index\nc.png,0\n", "1 of 1 files that are not there: c.png", "mend the table"
    ),
    _table("a file outside", "file,index\n../a.png,0\n", "that are not there: ../a.png"),
    _table("an absolute path", "file,index\n/etc/hostname,0\n", "that are not there: /etc/hostname"),
    _table("an image named nothing", "file,index\n,0\n", "that are not there"),
    _calibrate(
        "a class folder 999…9", {f"d/{'9' * 40}/a.png": PNG, "d/1/b.png": OTHER}, "folder 99999999", "no class index"
    ),
]
OPTIONS = [
    _option("mean of NaN", "--mean", "nan", "--mean 'nan'", "finite"),
    _option("infinite mean", "--mean", "inf", "--mean 'inf'", "finite"),
    _option("infinite deviation", "--std", "inf", "--std 'inf'", "finite"),
    _option("deviation of NaN", "--std", "nan", "--std 'nan'", "finite"),
    _option("deviation of zero", "--std", "0", "must be above zero"),
    _option("negative deviation", "--std", "-1", "must be above zero"),
    _option("deviation of 1e-30", "--std", "1e-30", "must be above zero"),
    _option("mean of 0 to 255", "--mean", "127.5", "divide one of pixels from 0 to 255 by 255"),
    _option("deviation of 0 to 255", "--std", "58.4", "divide one of pixels from 0 to 255 by 255"),
    _option("three means of one channel", "--mean", "0.1,0.2,0.3", "must both have 1 value"),
    _option("two means", "--mean", "0.1,0.2", "--mean '0.1,0.2'", "one finite number or three"),
    _option("a word for a mean", "--mean", "grey", "--mean 'grey'"),
    _option("no mean", "--mean", "", "--mean ''"),
    _option("size of zero", "--image-size", "0", "--image-size '0'", "224x196"),
    _option("negative size", "--image-size", "-24", "--image-size '-24'"),
    _option("three sides", "--image-size", "24x24x24", "--image-size '24x24x24'"),
    _option("a size of 5,000 digits", "--image-size", "9" * 5000, "is not a size"),
    _option("a size of a million", "--image-size", "1000000", "16384"),
    _option("a size that is not divided by patches", "--image-size", "25", "--image-size 25"),
    _option("a resize below the size", "--resize", "16", "resize 16x16 is smaller than the image size 24x24"),
    _option("a resize of words", "--resize", "short", "--resize 'short'"),
    _option("an unknown crop", "--crop", "corner", "--crop 'corner' is unknown", "center"),
    _option("an unknown interpolation", "--interpolation", "cubic", "--interpolation 'cubic'", "bicubic"),
    _option("no images", "--calibration-images", "0", "calibration-images"),
    _option("a word for a count", "--calibration-images", "all", "calibration-images"),
]
MISTAKES = [*SOURCES, *FILES, *LABELS, *OPTIONS]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


def test_good_images_are_none(cli: Cli, tmp_path: Path) -> None:
    """The control: what the rows change one thing of is taken."""
    for name, content in {"d/a.png": PNG, "d/b.png": OTHER, "d/labels.csv": b"file,index\na.png,0\nb.png,1\n"}.items():
        (Path(name).parent).mkdir(exist_ok=True)
        Path(name).write_bytes(content)
    ran = cli("opt", "digits-vit", "--pipeline", "canonicalize", "--calibration-data", "d", "-o", "x.safetensors")
    assert ran.status == 0, ran.err

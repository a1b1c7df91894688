"""Image sets: order, labels, subsets, hashes, and each kind of bad data named."""

import io
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitgraph.errors import InputError
from vitgraph.frontend.models import load_model
from vitgraph.images.image_set import open_images, stride
from vitgraph.images.preprocess import Preprocessing, PreprocessingOptions

PLAN = Preprocessing(image_size=(8, 8), resize=(8, 8), mean=(0.0,), std=(1.0,))


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (9, 10), value).save(stream, "PNG")
    return stream.getvalue()


def fill(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def pack(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


LABELLED = {
    "labels.csv": b'file,index,label\nb.png,3,"three, really"\na.png,0,zero\nc.png,1,one\n',
    "a.png": png(0),
    "b.png": png(255),
    "c.png": png(51),
    "notes.txt": b"not in the table",
}


def test_labels_csv_folder_and_zip_are_the_same_set(tmp_path: Path) -> None:
    folder = open_images(fill(tmp_path / "set", LABELLED), PLAN)
    packed = open_images(pack(tmp_path / "set.zip", LABELLED), PLAN)
    inner = open_images(pack(tmp_path / "in.zip", {f"set/{k}": v for k, v in LABELLED.items()}), PLAN)
    assert folder.names == packed.names == ("b.png", "a.png", "c.png")
    assert folder.labels == inner.labels == (3, 0, 1)
    assert folder.class_names[3] == "three, really"
    assert folder.sha256 == packed.sha256
    images, labels = zip(*folder.batches(2), strict=True)
    assert [len(batch) for batch in images] == [2, 1]
    assert torch.equal(torch.cat(images)[:, 0, 0, 0], torch.tensor([1.0, 0.0, 0.2]))
    assert torch.equal(torch.cat([label for label in labels if label is not None]), torch.tensor([3, 0, 1]))


def test_some_rows_in_another_order_keep_their_labels(tmp_path: Path) -> None:
    images = open_images(fill(tmp_path / "set", LABELLED), PLAN)
    some = images.take([2, 0])
    assert (some.names, some.labels) == (("c.png", "b.png"), (1, 3))
    ((pixels, labels),) = some.batches(2)
    assert torch.equal(pixels[:, 0, 0, 0], torch.tensor([0.2, 1.0]))
    assert labels is not None
    assert torch.equal(labels, torch.tensor([1, 3]))
    assert some.digests() == [images.digests()[2], images.digests()[0]]
    assert len(set(images.digests())) == 3
    assert some.sha256 != images.sha256


def test_hash_sees_content_label_order_and_preprocessing(tmp_path: Path) -> None:
    plan = PLAN.model_copy(update={"mean": (0.5,)})
    changes: list[dict[str, bytes]] = [
        {},
        {"c.png": png(52)},
        {"labels.csv": LABELLED["labels.csv"].replace(b"c.png,1", b"c.png,2")},
        {"labels.csv": b"file,index\na.png,0\nb.png,3\nc.png,1\n"},
    ]
    sets = [open_images(fill(tmp_path / str(n), LABELLED | change), PLAN) for n, change in enumerate(changes)]
    hashes = [one.sha256 for one in sets] + [open_images(tmp_path / "0", plan).sha256]
    assert len(set(hashes)) == len(hashes)


def test_class_folders(tmp_path: Path) -> None:
    words = open_images(fill(tmp_path / "w", {"dog/1.png": png(1), "cat/2.png": png(2), "cat/x/3.png": png(3)}), PLAN)
    assert words.names == ("cat/2.png", "cat/x/3.png", "dog/1.png")
    assert (words.labels, words.class_names) == ((0, 0, 1), {0: "cat", 1: "dog"})
    words.check_labels(2)
    with pytest.raises(InputError, match="2 class folders, but the model tells 1000 classes apart"):
        words.check_labels(1000)
    numbers = open_images(fill(tmp_path / "n", {"10/1.png": png(1), "2/2.png": png(2)}), PLAN)
    assert numbers.labels == (10, 2)
    numbers.check_labels(1000)
    with pytest.raises(InputError, match="is of class 10, but the model has classes 0 to 9"):
        numbers.check_labels(10)


def test_unlabelled_calibrates_but_does_not_measure(tmp_path: Path) -> None:
    plain = open_images(fill(tmp_path / "p", {"1.png": png(1), "2.png": png(2)}), PLAN)
    assert [labels for _, labels in plain.batches(1)] == [None, None]
    with pytest.raises(InputError, match=r"accuracy needs a labels\.csv"):
        plain.check_labels(10)


@given(count=st.integers(1, 500), limit=st.integers(1, 600))
def test_stride_spreads(count: int, limit: int) -> None:
    rows = stride(count, limit)
    assert len(rows) == min(count, limit)
    assert rows == sorted(set(rows))
    assert 0 <= rows[0] <= rows[-1] < count
    gaps = {after - before for before, after in pairwise(rows)}
    assert len(gaps) <= 2
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_limit_keeps_labels_beside_their_images(tmp_path: Path) -> None:
    content = {f"{n:02}.png": png(n) for n in range(20)}
    table = "file,index\n" + "".join(f"{n:02}.png,{n}\n" for n in range(20))
    some = open_images(fill(tmp_path / "s", content | {"labels.csv": table.encode()}), PLAN, limit=5)
    assert some.labels == (0, 4, 8, 12, 16)
    images, labels = next(some.batches(5))
    assert labels is not None
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), labels)


def test_random_is_seeded_noise_in_the_models_range() -> None:
    plan = PLAN.model_copy(update={"mean": (0.5,), "std": (0.25,)})
    noise = open_images("random", plan, limit=7, seed=1)
    assert (noise.kind, len(noise), noise.labels) == ("random noise", 7, None)
    whole = next(noise.batches(7))[0]
    assert torch.equal(whole, torch.cat([images for images, _ in noise.batches(2)]))
    assert -2 <= whole.min() < -1.9
    assert 1.9 < whole.max() <= 2
    other = open_images("random", plan, limit=7, seed=2)
    assert other.sha256 != noise.sha256
    assert not torch.equal(next(other.batches(7))[0], whole)


BAD: dict[str, tuple[dict[str, bytes], str]] = {
    "empty": ({"readme.txt": b"x"}, "no image in it"),
    "text named jpg": ({"a.jpg": b"hello, I am text\n", "b.png": png(1)}, r"a\.jpg .* is a text file"),
    "binary named jpg": ({"a.jpg": b"\x00\xff" * 99}, r"a\.jpg .* is not an image"),
    "empty image": ({"a.jpg": b""}, r"a\.jpg .* is empty"),
    "no header": ({"labels.csv": b"a.png,1\nb.png,2\n", "a.png": png(1)}, "first line must be file,index,label"),
    "only a header": ({"labels.csv": b"file,index,label\n"}, "lists no image"),
    "blank table": ({"labels.csv": b""}, "lists no image"),
    "word as index": ({"labels.csv": b"file,index\na.png,cat\n", "a.png": png(1)}, "line 2: index 'cat'"),
    "negative index": ({"labels.csv": b"file,index\na.png,-1\n", "a.png": png(1)}, "line 2: index '-1'"),
    "short line": ({"labels.csv": b"file,index\na.png\n", "a.png": png(1)}, "line 2: index ''"),
    "absent file": (
        {"labels.csv": b"file,index\nz.png,1\na.png,1\n", "a.png": png(1)},
        r"names 1 of 2 files .* z\.png",
    ),
    "path out of the set": ({"labels.csv": b"file,index\n../secret.png,1\n"}, r"not there: \.\./secret\.png"),
    "absolute path": ({"labels.csv": b"file,index\n/etc/hostname,1\n"}, "not there: /etc/hostname"),
    "binary table": ({"labels.csv": b"\xff\xfe\x00", "a.png": png(1)}, "not a comma-separated text file"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("packed", [False, True])
def test_names_the_fault(tmp_path: Path, case: str, packed: bool) -> None:
    content, message = BAD[case]
    (tmp_path / "secret.png").write_bytes(png(9))
    place = pack(tmp_path / "set.zip", content) if packed else fill(tmp_path / "set", content)
    with pytest.raises(InputError, match=message):
        open_images(place, PLAN)


def test_damage_after_the_header_is_named_when_met(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(stream, "JPEG")
    damaged = open_images(fill(tmp_path / "s", {"a.jpg": stream.getvalue()[:-600]}), PLAN)
    with pytest.raises(InputError, match=r"a\.jpg .* is damaged"):
        list(damaged.batches(1))


def test_bad_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or zip"):
        open_images(tmp_path / "nowhere", PLAN)
    with pytest.raises(InputError, match="no image in it"):
        open_images(tmp_path, PLAN)
    fill(tmp_path, {"x.zip": b"not a zip"})
    with pytest.raises(InputError, match="not a whole zip file"):
        open_images(tmp_path / "x.zip", PLAN)


def test_zip_is_never_extracted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    place = pack(tmp_path / "in" / "set.zip", {"../../evil.png": png(1)})
    assert len(next(open_images(place, PLAN).batches(1))[0]) == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "set.zip"}


@pytest.mark.parametrize(("limit", "size"), [(0, 1), (1, 0)])
def test_refuses_nothing_of_something(limit: int, size: int) -> None:
    with pytest.raises(InputError, match="at least 1"):
        list(open_images("random", PLAN, limit=limit).batches(size))


@pytest.mark.slow
def test_real_images_and_the_models_own_preprocessing(data: Path) -> None:
    """ViT-Tiny on every 4th validation image: its own config (short side 248, crop 224), and straight to 224."""
    weights = data / "weights" / "vit_tiny_patch16_224_in1k.safetensors"
    model = load_model("vit_tiny_patch16_224", weights=weights)
    assert model.preprocessing is not None
    squashed = model.preprocessing.override(PreprocessingOptions.parse(resize="224x224"))
    for plan in (model.preprocessing, squashed):
        images = open_images(data / "imagenet" / "validation500.zip", plan, limit=125)
        images.check_labels(1000)
        hits = 0
        for batch, labels in images.batches(25):
            with torch.no_grad():
                hits += int((model.module(batch).argmax(dim=1) == labels).sum())
        assert hits / len(images) > 0.72  # 82.2 % and 80.4 % on all 500; 3.4 points are one deviation on 125

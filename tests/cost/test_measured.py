"""Measured times as a file: round trip, what is refused, and whose card it was."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitgraph.cost.measured import Measured
from vitgraph.cost.measured_files import check_card, open_measured, parse_measured, read_measured, shipped
from vitgraph.errors import InputError
from vitgraph.targets.target import get_target

CONTENT: dict[str, Any] = {
    "format": "vitgraph measured products 1",
    "device": {"card": "NVIDIA H200", "compute_capability": "9.0", "driver": "580", "cuda": None, "torch": "2", "triton": None},
    "method": {"clock": "events", "cache": "rotated", "rounds": 20},
    "products": [
        {
            "rows": 197, "n": 192, "k": 192, "used": [{"batch": 1, "sites": ["a"]}],
            "times": [
                {"form": "fp16", "us": 4.0, "quartiles": [3.5, 4.5], "kernel": "k", "covers": "site", "output": "fp16", "why": None},
                {"form": "int8", "us": None, "quartiles": None, "kernel": "k", "covers": "site", "output": "fp16", "why": "no memory"},
            ],
        }
    ],
}  # fmt: skip


def changed(edit: Callable[[Any], object]) -> str:
    content = json.loads(json.dumps(CONTENT))
    edit(content)
    return json.dumps(content)


def time(content: Any) -> Any:
    return content["products"][0]["times"][0]


def test_what_is_written_is_read_again() -> None:
    found = parse_measured(json.dumps(CONTENT), "file")
    assert found.products[0].times[0].quartiles == (3.5, 4.5)
    assert parse_measured(found.to_json(), "file") == found
    assert parse_measured(found.to_json(), "file").to_json() == found.to_json()
    assert json.loads(found.to_json()) == CONTENT


FAULTS: list[tuple[Callable[[Any], object], str]] = [
    (lambda c: time(c).update(us=-1.0), r"products\.0\.times\.0\.us: .*greater than 0"),
    (lambda c: time(c).update(us=0), "greater than 0"),
    (lambda c: time(c).update(us=math.nan), "NaN is no number"),
    (lambda c: time(c).update(us=math.inf), "Infinity is no number"),
    (lambda c: time(c).update(us=1e300), "less than or equal to"),
    (lambda c: time(c).update(us="fast"), "number"),
    (lambda c: time(c).update(us=True), "not true or false"),
    (lambda c: time(c).update(us=None), "`why` says why it is null"),
    (lambda c: time(c).update(quartiles=[5.0, 6.0]), "between its quartiles"),
    (lambda c: time(c).update(quartiles=[1.0]), "quartiles"),
    (lambda c: time(c).update(form="int2"), "form"),
    (lambda c: time(c).update(why="slow"), "`why`"),
    (lambda c: time(c).update(kernel="a\nb"), "pattern"),
    (lambda c: time(c).update(gpu="x"), "gpu: Extra inputs are not permitted"),
    (lambda c: c["products"][0]["times"].append(time(c)), "each form is there once"),
    (lambda c: c["products"].append({**c["products"][0], "rows": 200}), "each size is there once"),
    (lambda c: c["products"][0].update(rows=0), "rows"),
    (lambda c: c["products"][0].update(rows=10**30), "rows"),
    (lambda c: c["products"][0].update(n=1.5), "n: "),
    (lambda c: c["products"][0]["used"][0].update(batch=0), "batch"),
    (lambda c: c.update(products=[]), "products"),
    (lambda c: c.update(format="vitgraph measured products 2"), "format: .*vitgraph tune"),
    (lambda c: c["device"].update(compute_capability="sm_90"), "compute_capability"),
    (lambda c: c["device"].update(card="x" * 300), "card"),
    (lambda c: c["method"].update(rounds=0), "rounds"),
    (lambda c: c.pop("device"), "device: Field required"),
]


@pytest.mark.parametrize(("edit", "says"), FAULTS)
def test_other_files_are_refused_by_the_place_of_the_fault(edit: Callable[[Any], object], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        parse_measured(changed(edit), "some.json")
    assert str(error.value).startswith("some.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", '"vitgraph measured products 1"', "{}"])
def test_what_is_no_such_object_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"some\.json"):
        parse_measured(text, "some.json")


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "any.name").write_text(json.dumps(CONTENT))
    (tmp_path / "engine.json").write_text('{"layers": []}')
    folder = tmp_path / "out"
    folder.mkdir()
    assert open_measured(folder) is None
    (folder / "measured.json").write_text(json.dumps(CONTENT))
    assert open_measured(tmp_path / "any.name") == open_measured(folder) == read_measured(folder / "measured.json")
    assert open_measured(tmp_path / "engine.json") is None
    assert open_measured(Path("h200")) == shipped()
    with pytest.raises(InputError, match=r"gone\.json"):
        open_measured(tmp_path / "gone.json")


def test_a_file_in_the_place_of_a_word_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("h200").write_text(json.dumps(CONTENT))
    assert open_measured(Path("h200")) == Measured.model_validate(parse_measured(json.dumps(CONTENT), "f"))


def test_the_shipped_rows_say_what_they_are() -> None:
    found = shipped()
    assert (found.device.card, found.device.compute_capability, len(found.products)) == ("NVIDIA H200", "9.0", 64)
    assert found.method.cache == "warm"
    assert {(each.n, each.k) for each in found.products} >= {(576, 192), (2304, 768), (1024, 4096)}
    dense = [time for each in found.products for time in each.times if time.form == "int8"]
    assert all((time.covers, time.output) == ("product", "int32") for time in dense), "cuBLAS: nothing but the sums"
    assert all(time.us is not None and time.quartiles is None for each in found.products for time in each.times)


@pytest.mark.parametrize(("target", "card", "fits"), [
    ("h200", "NVIDIA H200", True), ("h100", "NVIDIA H100 80GB HBM3", True), ("h200", "NVIDIA H100 80GB HBM3", False), ("h200", "NVIDIA GH200 480GB", False),
])  # fmt: skip
def test_another_card_of_the_same_capability_is_warned_of(target: str, card: str, fits: bool) -> None:
    device = shipped().device.model_copy(update={"card": card})
    found = check_card(device, get_target(target), "--measured f")
    assert found == (None if fits else f"times were measured on {card}, which may be no {target}")


@pytest.mark.parametrize(("target", "says"), [("a100", "a100 is of 8.0"), ("cpu", "cpu is no NVIDIA GPU")])
def test_another_capability_is_refused(target: str, says: str) -> None:
    with pytest.raises(InputError, match=r"^--measured f: was measured on NVIDIA H200 \(compute capability 9\.0\), and " + says):  # fmt: skip
        check_card(shipped().device, get_target(target), "--measured f")

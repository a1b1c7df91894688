"""A device's own YAML file: its layers, and what is said of a bad one."""

import re
from pathlib import Path

import pytest

from tests.tools.conftest import Cli, cli
from vitgraph.errors import InputError
from vitgraph.reading import TARGET
from vitgraph.targets.target import get_target, parse_target
from vitgraph.targets.target_file import merge, packaged

assert cli  # the fixture

BOARD = """
name: board
title: a board of our own
device: board
capability: sm_86
rates: {fp32: {dense: 10, sparse: null}, fp16: {dense: 40, sparse: 80}, int8: {dense: 80, sparse: 160}}
bandwidth_gb_s: 200
power_w: 30
chip: {multiprocessors: 14, l2_gb_s: null, memory_pj_per_bit: null, source: 14 multiprocessors by its data sheet}
sources: {rates: its data sheet}
"""
INLINE = """
capability:
  extends: sm_89
  compute_capability: "12.1"
  sparse: null
  quantized: {lacks: {fp4: no kernel was found}}
  attention_kernels: {fp8: null, int8: {max_tokens: 256}}
"""


def write(text: str, name: str = "board.yaml") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def inline(text: str) -> str:
    return BOARD.replace("capability: sm_86\n", text)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_file_is_a_target() -> None:
    board = get_target(write(BOARD))
    assert (board.name, board.sm, board.power_w) == ("board", "SM86", 30)
    assert board.sparse == get_target("rtx-ampere").sparse
    assert get_target(write(BOARD, "board.yml")) == board
    assert get_target(write(BOARD.replace("power_w: 30", "power_w: 31"))).power_w == 31, "read anew each time"


def test_a_capability_may_stand_in_the_device() -> None:
    board, ada = parse_target(inline(INLINE), "board"), get_target("rtx-ada")
    assert (board.compute_capability, board.sparse) == ("12.1", None)
    assert board.quantized.lacks == {**ada.quantized.lacks, "fp4": "no kernel was found"}
    assert board.attention("fp8") is None
    assert (board.attention_refusal("int8", 64, 300), ada.attention_refusal("int8", 64, 300)) == (
        "300 tokens, more than 256",
        None,
    )
    assert board.builders == ada.builders


def test_a_device_may_differ_from_its_capability() -> None:
    board = parse_target(BOARD + "builders: {tensorrt_rtx: null}\n", "board")
    assert list(board.builders) == ["tensorrt"]
    assert "sm_86 is not among the capabilities" in (board.no_builder_here or "")
    own = parse_target(BOARD + "builders: {tensorrt_rtx: null}\nno_builder_here: none yet\n", "board")
    assert own.no_builder_here == "none yet"


def test_merging_leaves_what_is_below_as_it_was() -> None:
    below = {"a": {"x": 1, "y": 2}, "b": [1]}
    assert merge(below, {"a": {"y": None}, "b": [2]}) == {"a": {"x": 1}, "b": [2]}
    assert below == {"a": {"x": 1, "y": 2}, "b": [1]}


CAPABILITIES = ", ".join(packaged("capabilities"))
BAD = [
    ("a: [", "is not YAML"),
    ("[" * 1500, "is not YAML"),
    ("when: 2020-99-99", "is not YAML"),
    ("- name", "it is no mapping with keys such as `name`"),
    ("", "it is no mapping"),
    (BOARD.replace("capability: sm_86\n", ""), f"names no capability; write `capability: NAME` with one of {CAPABILITIES}"),
    (inline("capability: sm_88\n"), "unknown capability 'sm_88'; did you mean "),
    (inline("capability: ../devices/a100\n"), "unknown capability '../devices/a100'"),
    (inline("capability: 8.6\n"), "`capability` is neither a name nor a mapping"),
    (inline("capability: {extends: [sm_86]}\n"), "unknown capability ['sm_86']"),
    (inline("capability: {}\n"), "does not describe a target: compute_capability: Field required; matmul: Field required"),
    (BOARD.replace("power_w: 30\n", ""), "does not describe a target: power_w: Field required"),
    (BOARD + "speed: 3\n", "speed: Extra inputs"),
    (BOARD.replace("bandwidth_gb_s: 200", "bandwidth_gb_s: 0"), "bandwidth_gb_s: Input should be greater than 0"),
    (BOARD.replace("dense: 40", "dense: .inf"), "rates.fp16.dense: Input should be a finite number"),
    (BOARD.replace("name: board", "name: ../board"), "name: String should match pattern"),
    (BOARD.replace("title: a board of our own", r'title: "a\nrm -rf b"'), "title: String should match pattern"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "fault"), BAD)
def test_a_bad_file_is_refused_by_name(text: str, fault: str) -> None:
    with pytest.raises(InputError, match=r"^board\.yaml.*" + re.escape(fault)):
        get_target(write(text))


def test_what_is_no_text_file_of_that_size_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"^target missing\.yaml can't be read: No such file or directory; check the path"
    ):
        get_target("missing.yaml")
    Path("folder.yaml").mkdir()
    with pytest.raises(InputError, match=r"^target folder\.yaml can't be read: it is a folder"):
        get_target("folder.yaml")
    Path("binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"^target binary\.yaml is not text in UTF-8"):
        get_target("binary.yaml")
    room = TARGET.most - len(BOARD) - 1
    assert get_target(write(BOARD + "#" + "x" * room)).name == "board"
    with pytest.raises(InputError, match=r"^target board\.yaml is 1,048,577 bytes long, over the 1 MiB"):
        get_target(write(BOARD + "#" + "x" * (room + 1)))


def test_aliases_do_not_grow() -> None:
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, 60)]
    with pytest.raises(InputError, match=r"over 50,000 values"):
        get_target(write("\n".join(lines) + inline("capability: {extends: sm_86, quantized: *a59}\nrates: *a59\n")))


def test_the_command_line_takes_a_file(cli: Cli) -> None:
    file = write(BOARD)
    ran = cli("inspect", "digits-vit", "--cost", "--target", file, "--json")
    assert list(ran.json["estimated_ms"]) == ["board"]
    assert ran.json["estimated_ms"]["board"] > 0
    assert cli("compile", "digits-vit", "--target", "none.yaml", "--recipe", "fp16", "-o", "out").status == 2


def test_a_compilation_for_a_file_estimates_it_and_says_so(cli: Cli) -> None:
    file = write(BOARD + "builders: {tensorrt_rtx: null}\n")
    ran = cli(
        "compile", "digits-vit", "--weights", "random", "--target", file, "--recipe", "fp16", "-o", "out", "--json"
    )
    assert ran.status == 0
    assert ran.json["target"] == "board"
    assert ran.json["cost"]["estimated_ms"]["board"] > 0
    assert list(cli("inspect", "out", "--cost", "--json", "--target", file).json["estimated_ms"]) == ["board"]
    assert "a board of our own" in Path("out/build_on_device.sh").read_text(encoding="utf-8")

"""Everything a user can get wrong: exit 2, a message that helps, no traceback, nothing written."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from tests.tools.conftest import Cli

save_file: Callable[..., None] = import_module("safetensors.torch").save_file
COMPILE = ("compile", "digits-vit", "--target", "a100", "--recipe", "int8", "--calibration-data", "random", "-o", "out")
OPT = ("opt", "digits-vit", "--weights", "random", "--pipeline")


def changed(command: tuple[str, ...], option: str, value: str) -> tuple[str, ...]:
    """The command with another value for one option, given if it was not."""
    if option not in command:
        return (*command, option, value)
    place = command.index(option) + 1
    return (*command[:place], value, *command[place + 1 :])


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """A folder of files that are not what they say."""
    folder = tmp_path / "spoiled"
    (folder / "empty").mkdir(parents=True)
    (folder / "text").mkdir()
    (folder / "text" / "cat.jpg").write_text("this is no picture")
    (folder / "corrupt.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0 no header here")
    save_file({"stranger.weight": torch.zeros(3, 3)}, folder / "other.safetensors")
    (folder / "model.onnx").write_bytes(b"anything")
    (folder / "file").write_text("in the way")
    (folder / "broken.yaml").write_text("pipeline: [canonicalize")
    return folder


CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # what is wrong: the command line, and words its message must hold
    "unknown model": (("compile", "vit_tiny_patch16_225", *COMPILE[2:]), ("vit_tiny_patch16_225", "vit_tiny_patch16_224")),
    "unknown torchvision model": (("opt", "torchvision:vit_b_17", *OPT[2:], "canonicalize"), ("vit_b_17", "vit_b_16")),
    "unknown factory": (("opt", "no_such_module:make", *OPT[2:], "canonicalize"), ("no_such_module",)),
    "unknown pass": ((*OPT, "canonicalise"), ("canonicalise", "did you mean", "canonicalize")),
    "unknown option of a pass": ((*OPT, "nm-mask{o=2}"), ("nm-mask", "'o'", "n, m")),
    "wrong type of an option": ((*OPT, "nm-mask{n=two}"), ("nm-mask", "'n'", "two")),
    "malformed pipeline": ((*OPT, "nm-mask{n=2"), ("can't be read", "^")),
    "empty pipeline": ((*OPT, ""), ("can't be read",)),
    "missing weights": (changed(COMPILE, "--weights", "{spoiled}/none.safetensors"), ("none.safetensors",)),
    "corrupt weights": (changed(COMPILE, "--weights", "{spoiled}/corrupt.safetensors"), ("corrupt.safetensors",)),
    "weights of another model": (changed(COMPILE, "--weights", "{spoiled}/other.safetensors"), ("other.safetensors",)),
    "empty calibration data": (changed(COMPILE, "--calibration-data", "{spoiled}/empty"), ("empty", "no image in it")),
    "absent calibration data": (changed(COMPILE, "--calibration-data", "{spoiled}/gone"), ("gone",)),
    "text named .jpg": (changed(COMPILE, "--calibration-data", "{spoiled}/text"), ("cat.jpg",)),
    "no calibration data": (COMPILE[:6] + COMPILE[8:], ("--calibration-data",)),
    "undividable image size": (changed(COMPILE, "--image-size", "25"), ("25",)),
    "image size that is none": (changed(COMPILE, "--image-size", "big"), ("--image-size", "big")),
    "mean that is none": (changed(COMPILE, "--mean", "dark"), ("--mean", "dark")),
    "batch that is none": (changed(COMPILE, "--batch", "8:1"), ("--batch", "8:1")),
    "model argument without =": (changed(COMPILE, "--model-args", "depth"), ("--model-args", "depth")),
    "N over M": ((*OPT, "canonicalize,nm-mask{n=4 m=2}"), ("n=4", "m=2")),
    "N:M no site can take": ((*OPT, "canonicalize,nm-mask{n=2 m=7}"), ("2:7",)),
    "N:M the target lacks": ((*OPT, "canonicalize,nm-mask{n=1 m=4}", "--target", "a100"), ("1:4", "a100")),
    "selector of no site": ((*OPT, "canonicalize,nm-mask{only=[fc9]}"), ("fc9", "near", "fc1")),
    "unknown target": (changed(COMPILE, "--target", "a1000"), ("a1000", "a100")),
    "unknown recipe": (changed(COMPILE, "--recipe", "int-8"), ("int-8", "int8")),
    "broken recipe": (changed(COMPILE, "--recipe", "{spoiled}/broken.yaml"), ("broken", "YAML", "line 1")),
    "output in a file's place": (changed(COMPILE, "-o", "{spoiled}/file/out"), ("file/out",)),
    "output that exists": (changed(COMPILE, "-o", "{spoiled}"), ("exists", "--force")),
    "foreign output, forced": ((*changed(COMPILE, "-o", "{spoiled}"), "--force"), ("exists", "not written by vitgraph")),
    "program's output exists": ((*OPT, "canonicalize", "-o", "{spoiled}/file"), ("exists", "--force")),
    "program's output in no folder": ((*OPT, "canonicalize", "-o", "{spoiled}/no/where"), ("no folder",)),
    "ONNX for a program": (("opt", "{spoiled}/model.onnx", "--pipeline", "canonicalize"), ("model.onnx", "ONNX")),
    "corrupt ONNX": (("inspect", "{spoiled}/model.onnx"), ("model.onnx", "ONNX")),
    "weights for a program": (("opt", "{spoiled}/other.safetensors", "--pipeline", "canonicalize"), ("no vitgraph program", "--weights")),
    "file for a program": (("opt", "{spoiled}/file", "--pipeline", "canonicalize"), ("file", "program")),
    "evaluate what is no compilation": (("evaluate", "{spoiled}", "--data", "digits:test"), ("report.json",)),
    "bench what is no model": (("bench", "{spoiled}/empty"), ("empty", "model.onnx")),
    "bench corrupt ONNX": (("bench", "{spoiled}/model.onnx"), ("model.onnx",)),
    "check that is none": (("bisect", "digits-vit", "--pipeline", "canonicalize", "--check", "snr"), ("snr", "snr_db")),
    "print at a pass that is not there": ((*OPT, "canonicalize", "--print-ir-after", "quantize"), ("quantize", "canonicalize")),
    "node that is not there": (("inspect", "digits-vit", "--node", "blocks.9.*"), ("blocks.9.*", "blocks.")),
    "no pipeline and no reproducer": (("opt", "digits-vit"), ("--pipeline",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_is_told_and_leaves_nothing(case: str, spoiled: Path, cli: Cli) -> None:
    command, words = CASES[case]
    before = {file: file.read_bytes() for file in spoiled.rglob("*") if file.is_file()}
    ran = cli(*(argument.replace("{spoiled}", str(spoiled)) for argument in command))
    assert ran.status == 2, ran.err
    assert ran.err.startswith("vitgraph: ")
    assert [word for word in words if word not in ran.err] == [], ran.err
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err
    assert ran.out == ""
    assert list(Path.cwd().rglob("*")) == []
    assert {file: file.read_bytes() for file in spoiled.rglob("*") if file.is_file()} == before


LAST = {
    "an option out of its domain": ("reconstruct{iterations=0}", "option 'iterations'"),
    "options that contradict each other": ("nm-mask{n=4 m=4}", "0 < n < m"),
    "images that are not there": ("nm-mask{score=wanda}", "no calibration images"),
    "a type that the target lacks": ("assign-precision{to=bf16}", "rtx-turing has no bf16"),
}
"""What the last pass of a pipeline asks for, and what is said of it."""


@pytest.mark.parametrize("command", ["opt", "bisect", "compile"])
@pytest.mark.parametrize("fault", LAST)
def test_a_fault_of_the_last_pass_is_told_before_the_first_has_run(fault: str, command: str, cli: Cli) -> None:
    step, said = LAST[fault]
    model = ("digits-vit", "--weights", "random", "--target", "rtx-turing")
    more = {
        "opt": ("--print-ir-before-all", "--time-passes"),
        "bisect": ("--check", "verify"),
        "compile": ("--recipe", "fp16", "-o", "out"),
    }
    ran = cli(command, *model, "--pipeline", f"canonicalize,fuse-attention,{step}", *more[command])
    assert ran.status == 2
    assert said in ran.err
    assert "# program:" not in ran.err
    assert "canonicalize" not in ran.err
    assert list(Path.cwd().rglob("*")) == []


def test_the_log_of_a_pipeline_without_a_fault_shows_its_passes(cli: Cli) -> None:
    ran = cli(*OPT, "canonicalize,nm-mask{only=[fc1]}", "--print-ir-before-all")
    assert ran.status == 0
    assert ran.err.count("# program:") == 2


def test_the_same_commands_work_when_nothing_is_wrong(cli: Cli) -> None:
    """The table's commands fail for the reason they are there for."""
    assert cli(*OPT, "canonicalize,nm-mask{n=2 m=4 only=[fc1]}").status == 0

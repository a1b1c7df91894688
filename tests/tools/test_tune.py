"""`vitgraph tune`: refused in one line without a GPU; with a pretended one, a file that `inspect` and `compile` take."""

import json
from pathlib import Path

import pytest
import torch

from tests.backends.cuda.lowered_models import digits_program, lowered_digits
from tests.backends.cuda.pretended_tuner import OutOfMemory, PretendedTuner
from tests.tools.conftest import Cli, Ran
from vitgraph.backends.cuda import cuda_tuner
from vitgraph.backends.cuda.plan_folder import plan_files
from vitgraph.cost.measured_files import read_measured
from vitgraph.ir.program_file import save


def leave_plan(folder: Path) -> None:
    for name, content in plan_files(lowered_digits("sparse-int8")).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> PretendedTuner:
    found = PretendedTuner()
    monkeypatch.setattr(cuda_tuner, "open_tuner", lambda: found)
    return found


def refused(ran: Ran, *says: str) -> None:
    told = " ".join(ran.err.split())
    assert ran.status == 2, told
    assert "Traceback" not in told
    for each in says:
        assert each in told


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_is_one_line(cli: Cli) -> None:
    leave_plan(Path("o"))
    ran = cli("tune", "o", "--batch", "1")
    refused(ran, "vitgraph: tune: no CUDA device is here")
    assert len(ran.err.strip().splitlines()) == 1
    assert not Path("o/measured.json").exists()


def test_a_plan_is_timed_and_the_file_lies_in_its_folder(cli: Cli, tuner: PretendedTuner) -> None:
    leave_plan(Path("o"))
    ran = cli("tune", "o", "--batch", "1,8", "--rounds", "3")
    assert ran.status == 0, ran.err
    found = read_measured(Path("o/measured.json"))
    assert {used.batch for product in found.products for used in product.used} == {1, 8}
    assert "blocks.0.mlp.fc1" in str(found.products)
    assert "Pretended H200" in ran.out
    assert "Medians of 3 rounds" in ran.out
    assert "fp8" in ran.out
    refused(cli("tune", "o", "--batch", "1"), "measured.json exists")
    again = cli("tune", "o", "--batch", "1", "--force", "--json")
    assert again.json["written_to"] == "o/measured.json"
    assert {used["batch"] for each in again.json["products"] for used in each["used"]} == {1}


def test_a_saved_program_is_lowered_and_timed(cli: Cli, tuner: PretendedTuner) -> None:
    save(digits_program("sparse-int8"), Path("p.safetensors"))
    ran = cli("tune", "p.safetensors", "--batch", "4", "-o", "times.json")
    assert ran.status == 0, ran.err
    assert read_measured(Path("times.json")).of_site("blocks.0.mlp.fc1", 4)


def test_out_of_memory_for_one_size_is_told_and_the_file_is_there(cli: Cli, tuner: PretendedTuner) -> None:
    leave_plan(Path("o"))
    rows = 8 * 37
    tuner.fails = dict.fromkeys([("fp16", rows), ("int8", rows), ("int8 2:4", rows), ("fp8", rows)], OutOfMemory)
    ran = cli("tune", "o", "--batch", "1,8", "--json")
    assert ran.status == 0, ran.err
    whys = {time["why"] for each in ran.json["products"] if each["rows"] == rows for time in each["times"]}
    assert whys == {"the GPU's memory does not hold it"}
    assert any(time["us"] for each in ran.json["products"] for time in each["times"])


def test_an_interrupt_leaves_no_file(cli: Cli, tuner: PretendedTuner) -> None:
    leave_plan(Path("o"))
    tuner.fails = {("fp16", 37): KeyboardInterrupt}
    assert cli("tune", "o", "--batch", "1").status == 130
    assert sorted(each.name for each in Path("o").iterdir()) == ["cuda"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gone",), "gone: is no folder of `vitgraph compile --backend cuda`, and no saved program"),
        (("o", "--batch", "0"), "--batch '0': write sizes with commas"),
        (("o", "--batch", "1,,2"), "write sizes with commas between, such as 1,32,128"),
        (("o", "--batch", "70000"), "--batch: Input should be less than or equal to 65536"),
        (("o", "--rounds", "0"), "--rounds"),
        (("o", "-o", "no/where.json"), "there is no folder"),
        (("o", "-o", "o"), "is a folder; name a file"),
    ],
)
def test_mistakes(cli: Cli, tuner: PretendedTuner, words: tuple[str, ...], says: str) -> None:
    leave_plan(Path("o"))
    refused(cli("tune", *words), says)


@pytest.mark.slow
def test_the_file_goes_into_inspect_and_into_a_compilation(cli: Cli, tuner: PretendedTuner) -> None:
    """Products that INT8 wins by far are kept; what wins nothing goes to FP16, masks and all."""
    words = (
        *(
            "compile",
            "digits-vit",
            "--recipe",
            "sparse-int8",
            "--target",
            "h200",
            "--batch",
            "1:8:16",
            "--backend",
            "cuda",
        ),
        *("--calibration-data", "digits:train", "--calibration-images", "8"),
        *("--evaluate-data", "digits:test", "--evaluate-images", "50"),
    )
    assert cli(*words, "-o", "first").status == 0
    before = cli("inspect", "first").out
    assert cli("tune", "first", "--batch", "8").status == 0
    shown = cli("inspect", "first")
    (row,) = (line for line in shown.out.splitlines() if line.startswith("blocks.0.mlp.fc1 "))
    assert " 20" in row
    assert "Pretended H200" in shown.out
    assert before != shown.out
    kept = cli(*words, "--measured", "first", "-o", "kept", "--json").json
    assert (kept["mask_profit"]["dropped"], kept["int8_profit"]["fallen_back"]) == (0, 0)
    tuner.us = {"fp16": 1.0, "int8": 30.0, "int8 2:4": 20.0, "fp8": 10.0}
    assert cli("tune", "first", "--batch", "8", "--force").status == 0
    ran = cli(*words, "--measured", "first/measured.json", "-o", "taken")
    assert ran.status == 0, ran.err
    assert "fallen back that buy no time" in ran.out
    report = json.loads(Path("taken/report.json").read_text())
    assert report["mask_profit"]["kept"] == 0
    assert report["int8_profit"]["kept"] == 0
    assert report["int8_profit"]["us_gained"] > 0
    assert report["int8_profit"]["top1_regained"] is not None
    assert "mixed-precision{unprofitable=[" in report["pipeline"]
    again = cli(*words, "--pipeline", Path("taken/pipeline.txt").read_text().strip(), "-o", "again")
    assert again.status == 0, again.err
    assert Path("again/model.onnx").read_bytes() == Path("taken/model.onnx").read_bytes()

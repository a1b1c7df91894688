"""`vitgraph opt`."""

from pathlib import Path

import pytest

from tests.planted import installed
from tests.tools.conftest import Cli
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program_file import load


def test_prints_a_text_that_reads_back(cli: Cli, mlp: Path) -> None:
    ran = cli("opt", mlp, "--pipeline", "canonicalize,nm-mask{only=[fc1]}")
    assert ran.status == 0
    assert "vitgraph.mask.default" in ran.out
    assert show(parse(ran.out)) == ran.out


def test_json_holds_text_and_ledger(cli: Cli, mlp: Path) -> None:
    found = cli("opt", mlp, "--pipeline", "canonicalize", "--json").json
    assert found["text"].startswith("# program: mlp")
    assert [entry["name"] for entry in found["passes"]] == ["canonicalize"]


def test_written_program_goes_on_where_it_stopped(cli: Cli, mlp: Path) -> None:
    assert cli("opt", mlp, "--pipeline", "canonicalize,nm-mask", "-o", "masked.safetensors").status == 0
    assert cli("opt", "masked.safetensors", "--pipeline", "materialize", "-o", "done.safetensors").status == 0
    together = cli("opt", mlp, "--pipeline", "canonicalize,nm-mask,materialize")
    program = load(Path("done.safetensors"))
    assert show(program) == together.out
    assert [entry["name"] for entry in program.ledger] == ["canonicalize", "nm-mask", "materialize"]


def test_force_replaces(cli: Cli, mlp: Path) -> None:
    Path("there").write_text("old")
    assert cli("opt", mlp, "--pipeline", "canonicalize", "-o", "there").status == 2
    assert Path("there").read_text() == "old"
    assert cli("opt", mlp, "--pipeline", "canonicalize", "-o", "there", "--force").status == 0
    assert load(Path("there")).name == "mlp"


def test_settings_of_a_model_are_refused_for_a_program(cli: Cli, mlp: Path) -> None:
    ran = cli("opt", mlp, "--pipeline", "canonicalize", "--image-size", "32", "--weights", "random")
    assert ran.status == 2
    assert "--weights, --image-size" in ran.err


def test_a_recipe_is_a_pipeline(cli: Cli) -> None:
    ran = cli("opt", "digits-vit", "--weights", "random", "--pipeline", "fp16", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["pipeline"].endswith("legalize")


def test_fuel_stops_early(cli: Cli, mlp: Path) -> None:
    masks = [
        cli("opt", mlp, "--pipeline", "canonicalize,nm-mask{only=[fc1,fc2]}", "--fuel", str(fuel)).out.count(
            "mask.default"
        )
        for fuel in range(5)
    ]
    assert masks == sorted(masks)
    assert masks[0] == 0
    assert masks[-1] > masks[2] == 0


@pytest.mark.parametrize(
    ("option", "count"),
    [
        (("--print-ir-before-all",), 2),
        (("--print-ir-after-all",), 2),
        (("--print-ir-after-change",), 1),
        (("--print-ir-before", "nm-mask"), 1),
        (("--print-ir-after", "nm-mask", "--print-ir-before", "canonicalize"), 2),
    ],
)
def test_prints_the_graph_on_the_way(option: tuple[str, ...], count: int, cli: Cli, mlp: Path) -> None:
    ran = cli("opt", mlp, "--pipeline", "canonicalize,nm-mask{only=[fc1]}", *option)
    assert ran.err.count("# program: mlp") == count
    assert ran.out.count("# program: mlp") == 1


def test_times_go_to_standard_error(cli: Cli, mlp: Path) -> None:
    ran = cli("opt", mlp, "--pipeline", "canonicalize,nm-mask", "--time-passes")
    assert [line.split()[0] for line in ran.err.splitlines()[-3:]] == ["canonicalize", "nm-mask", "total"]


def test_what_passes_found_and_left_alone_is_said(cli: Cli, mlp: Path) -> None:
    ran = cli("opt", mlp, "--pipeline", "canonicalize,nm-mask,nm-mask")
    assert "nm-mask: masked fc1, n 2, m 4" in ran.err
    assert "nm-mask: left fc1 alone: it has a mask already" in ran.err


@pytest.mark.parametrize(
    ("planted", "named"),
    [
        ("planted-invalid", "aten.clone.default is not of the dialect"),
        ("planted-off", "declared reorders, but the relative L2 drift is 0.01"),
        ("planted-loud", "fc2 keeps 0.0 dB"),
    ],
)
def test_verify_each_names_a_planted_fault(planted: str, named: str, cli: Cli, mlp: Path) -> None:
    with installed():
        unwatched = cli("opt", mlp, "--pipeline", planted)
        watched = cli("opt", mlp, "--pipeline", f"canonicalize,{planted}", "--verify-each")
        harmless = cli("opt", mlp, "--pipeline", f"{planted}{{at=nowhere}}", "--verify-each")
    assert unwatched.status == 0, "nothing but the instruments notices"
    assert watched.status == 1
    assert planted in watched.err
    assert named in watched.err
    assert harmless.status == 0, harmless.err


def test_reproducer_fails_in_the_same_way(cli: Cli, mlp: Path) -> None:
    with installed():
        first = cli("opt", mlp, "--pipeline", "canonicalize,planted-loud", "--verify-each", "--reproducer", "again.st")
        again = cli("opt", "again.st")
        mended = cli("opt", "again.st", "--pipeline", "planted-loud{at=nowhere}", "--verify-each")
    assert first.status == again.status == 1
    assert again.err == first.err
    assert mended.status == 0


def test_no_reproducer_without_a_failure(cli: Cli, mlp: Path) -> None:
    assert cli("opt", mlp, "--pipeline", "canonicalize", "--reproducer", "again.st").status == 0
    assert not Path("again.st").exists()

"""Command lines that can't be read, or that name what is not there: every command."""

from pathlib import Path

import pytest

from tests.bad_inputs.mistake import Mistake, each, hold
from tests.planted import MLP
from tests.tools.conftest import Cli

MLP_FILE = {"mlp.txt": MLP}
HUGE = "1" + "0" * 30
COMPILE = ("compile", "digits-vit", "--target", "a100", "--recipe", "fp16", "-o", "out")
SEARCH = ("search", "digits-vit", "--target", "a100", "--budget", "2x", "-o", "out")
OPT = ("opt", "mlp.txt", "--pipeline", "canonicalize")
BISECT = ("bisect", "mlp.txt", "--pipeline", "canonicalize")


def _line(name: str, line: str, *says: str) -> Mistake:
    return Mistake(name, tuple(line.split()), says, MLP_FILE, leaves=("mlp.txt",))


def _with(command: tuple[str, ...], option: str, value: str, *says: str) -> Mistake:
    """A command that works, with one more option."""
    name = f"{command[0]} {option} {value[:20]!r}"
    return Mistake(name, (*command, option, value), says, MLP_FILE)


PROGRAM = [
    _line("unknown command", "compil", "No such command 'compil'", "compile"),
    _line("unknown option of the program", "--versoin", "No such option", "--version"),
    _line("a model for a command", "digits-vit", "No such command 'digits-vit'"),
    _line("an option of a command for the program", "--json passes", "No such option", "--json"),
    _line("verbose and quiet", "passes -v -q", "--verbose and --quiet contradict each other"),
]
COMPILES = [
    _line("compile nothing", "compile", "Missing argument 'MODEL|PROGRAM'", "vitgraph compile --help"),
    _line("compile without a target", "compile digits-vit --recipe fp16 -o out", "Missing option '--target'"),
    _line("compile without a recipe", "compile digits-vit --target a100 -o out", "recipe: give one, such as int8"),
    _line("compile without an output", "compile digits-vit --target a100 --recipe fp16", "'--output'"),
    _line("compile two models", "compile digits-vit mlp.txt --target a100 --recipe fp16 -o out", "unexpected extra argument", "mlp.txt"),
    _line("compile with an option misspelt", "compile digits-vit --taget a100", "No such option", "--target"),
    _line("compile with an option without its value", "compile digits-vit --target", "--target", "requires an argument"),
    _line("compile with another former name", "compile digits-vit --target a100 --recipe fp16 -o out --measured-layers x", "--measured-layers is called --measured now"),
    _with(COMPILE, "--measured", "h200", "--measured h200: was measured on NVIDIA H200", "a100 is of 8.0", "vitgraph tune"),
    _line("times with nothing to judge", "compile digits-vit --target h200 --recipe fp16 -o out --measured h200", "masks and quantizes nothing", "sparse-int8"),
    _line("compile with a former name", "compile digits-vit --target a100 --recipe fp16 -o out --evidence x", "--evidence is called --measured now"),
    _with(COMPILE, "--target", "", "unknown target ''"),
    _with(COMPILE, "--target", "a1000", "unknown target 'a1000'", "a100"),
    _with(COMPILE, "--target", "gone.yaml", "gone.yaml", "No such file"),
    _with(COMPILE, "--target", "mlp.txt", "unknown target 'mlp.txt'"),
    _with(COMPILE, "--recipe", "", "unknown recipe ''"),
    _with(COMPILE, "--recipe", "int-8", "unknown recipe 'int-8'", "int8"),
    _with(COMPILE, "--backend", "tensorflow", "there is no backend 'tensorflow'", "tensorrt"),
    _with(COMPILE, "--batch", "", "--batch", "1:8:64"),
    _with(COMPILE, "--batch", "0", "--batch '0'", "1:8:64"),
    _with(COMPILE, "--batch", "8:1", "--batch '8:1'"),
    _with(COMPILE, "--batch", "nan", "--batch 'nan'"),
    _with(COMPILE, "--batch", HUGE, "--batch", "at most 65,536"),
    _with(COMPILE, "--batch", "9" * 5000, "--batch", "at most 65,536"),
    _with(COMPILE, "--batch", "1:2:70000", "--batch '1:2:70000'", "at most 65,536"),
    _with(COMPILE, "--image-size", "big", "--image-size 'big'"),
    _with(COMPILE, "--image-size", "0", "--image-size '0'"),
    _with(COMPILE, "--image-size", "-24", "--image-size"),
    _with(COMPILE, "--image-size", "24x24x24", "--image-size"),
    _with(COMPILE, "--image-size", HUGE, "image"),
    _with(COMPILE, "--mean", "dark", "--mean 'dark'"),
    _with(COMPILE, "--mean", "0.5,0.5", "--mean '0.5,0.5'"),
    _with(COMPILE, "--std", "0", "std"),
    _with(COMPILE, "--std", "", "--std"),
    _with(COMPILE, "--resize", "half", "--resize 'half'"),
    _with(COMPILE, "--crop", "left", "--crop 'left'", "center, none"),
    _with(COMPILE, "--interpolation", "magic", "--interpolation 'magic'", "bicubic"),
    _with(COMPILE, "--model-args", "depth", "--model-args 'depth'", "num_classes=10"),
    _with(COMPILE, "--model-args", "=3", "--model-args '=3'"),
    _with(COMPILE, "--model-args", "colour=red", "colour"),
    _with(COMPILE, "--weights", "gone.pth", "gone.pth"),
    _with(COMPILE, "--weights", "mlp.txt", "mlp.txt"),
    _with(COMPILE, "--seed", "-1", "'--seed'", "greater than or equal to 0"),
    _with(COMPILE, "--seed", HUGE, "'--seed'", "less than 9223372036854775808"),
    _with(COMPILE, "--seed", "9" * 5000, "'--seed'", "exceeded maximum size"),
    _with(COMPILE, "--seed", "1e5", "'--seed'", "integer"),
    _with(COMPILE, "--seed", "true", "'--seed'", "integer"),
    _with(COMPILE, "--calibration-images", "0", "'--calibration-images'", "greater than or equal to 1"),
    _with(COMPILE, "--calibration-images", HUGE, "'--calibration-images'", "less than or equal to 20000000"),
    _with(COMPILE, "--calibration-data", "gone", "gone"),
    _with(COMPILE, "--calibration-data", "", "no image in it"),
    _with(COMPILE, "--evaluate-data", "gone.zip", "gone.zip"),
    _with(COMPILE, "--evaluate-images", "-1", "'--evaluate-images'", "greater than or equal to 1"),
    _with(COMPILE, "--max-drop", "nan", "'--max-drop'", "finite"),
    _with(COMPILE, "--max-drop", "inf", "'--max-drop'", "finite"),
    _with(COMPILE, "--max-drop", "-1", "'--max-drop'", "greater than or equal to 0"),
    _with(COMPILE, "--max-drop", "1", "recipe fp16 quantizes nothing"),
    _with(COMPILE, "--min-int8", "many", "'--min-int8'"),
    _with(COMPILE, "--max-float-layers", "-1", "'--max-float-layers'"),
    _with(COMPILE, "--pipeline", "", "can't be read"),
    _with(COMPILE, "--measured", "gone", "gone"),
    _with(COMPILE, "--output", "mlp.txt", "mlp.txt"),
    _with(COMPILE, "--output", "mlp.txt/out", "mlp.txt/out"),
    _with(COMPILE, "--output", "x" * 300, "too long"),
    _line("masks judged without masks", " ".join((*COMPILE, "--drop-unprofitable-masks")), "the pipeline has no nm-mask"),
]  # fmt: skip
MODELS = [
    _line("a model that is not there", "inspect vit_tiny_patch16_225", "vit_tiny_patch16_225", "vit_tiny_patch16_224"),
    _line("a model without a name", "inspect ''", "''"),
    _line("a model of another library", "inspect keras:vit", "keras:vit"),
    _line("torchvision without a name", "inspect torchvision:", "torchvision:"),
    _line("transformers without a folder", "inspect transformers:gone", "gone"),
    _line("a factory of no module", "inspect no_such_module:make", "no_such_module"),
    _line("a factory that is not there", "inspect math:make", "math", "make"),
    _line("a factory that makes no module", "inspect math:sqrt", "math:sqrt"),
    _line("a factory that ends the program", "inspect sys:exit", "ended the program"),
    _line("a path of a model", "inspect models/vit.pth", "models/vit.pth"),
    _line("a path to nowhere", "inspect /no/where.safetensors", "/no/where.safetensors"),
    Mistake("a name of 5,000 letters", ("inspect", "x" * 5000), ("xxx",)),
    Mistake("a name with a NUL", ("inspect", "a\0b"), ("a",)),
    Mistake("a name of half a surrogate pair", ("inspect", "a\udcff"), ("a\\udcff",)),
    Mistake("a folder for a model", ("inspect", "d"), ("d",), {"d/x": ""}),
    _line("inspect nothing", "inspect", "inspect wants a MODEL"),
    _line("inspect in a format that is none", "inspect mlp.txt --format yaml", "'--format'", "json"),
    _line("inspect a node that is not there", "inspect mlp.txt --node fc9", "--node 'fc9'"),
    _line("cost of nothing", "inspect --cost", "--cost wants a MODEL"),
    _line("cost's options without it", "inspect mlp.txt --target a100", "--target: belongs to --cost"),
    _line("cost for a target that is not there", "inspect mlp.txt --cost --target a1000", "a1000", "a100"),
    _line(
        "cost by times of another card",
        "inspect mlp.txt --cost --target a100 --measured h200",
        "was measured on NVIDIA H200",
        "a100",
    ),
    _line(
        "cost by times that are not there", "inspect mlp.txt --cost --measured gone.json", "gone.json", "No such file"
    ),
    _line(
        "cost by a file without times",
        "inspect mlp.txt --cost --measured mlp.txt",
        "holds no times of products",
        "vitgraph tune",
    ),
    _line("times without cost", "inspect mlp.txt --measured h200", "--measured: belongs to --cost"),
    _line("published figures by times", "inspect --cost --published --measured h200", "leave out --measured"),
    _line("cost of a node", "inspect mlp.txt --cost --node fc1", "leave out --node"),
]
OTHERS = [
    _line("opt nothing", "opt", "Missing argument"),
    _line("opt without a pipeline", "opt mlp.txt", "mlp.txt is no reproducer", "--pipeline"),
    _with(OPT, "--fuel", "-1", "'--fuel'", "greater than or equal to 0"),
    _with(OPT, "--fuel", "nan", "'--fuel'", "integer"),
    _with(OPT, "--fuel", HUGE, "'--fuel'", "less than"),
    _with(OPT, "--print-ir-after", "quantize", "there is no pass 'quantize' in the pipeline"),
    _with(OPT, "--output", "mlp.txt", "mlp.txt exists", "--force"),
    _with(OPT, "--output", "no/where/x.txt", "no folder"),
    _with(OPT, "--output", "", "output"),
    _with(OPT, "--reproducer", "no/where/x.txt", "no folder"),
    _with(BISECT, "--check", "", "--check ''"),
    _with(BISECT, "--check", "snr", "did you mean snr_db"),
    _with(BISECT, "--check", "snr_db", "needs a bound"),
    _with(BISECT, "--check", "snr_db>=many", "'many' is no bound"),
    _with(BISECT, "--check", "snr_db>=nan", "'nan' is no bound"),
    _with(BISECT, "--check", "relative_l2<=inf", "'inf' is no bound"),
    _with(BISECT, "--check", "no-such-program {}", "can't be run"),
    _with(BISECT, "--check", "kill -9 $$ # {}", "killed by signal 9"),
    _line("bisect without a check", "bisect mlp.txt --pipeline canonicalize", "Missing option '--check'"),
    _line("evaluate nothing", "evaluate", "Missing argument"),
    _line("evaluate without images", "evaluate out", "Missing option '--data'"),
    _line("evaluate what is not there", "evaluate out --data digits:test", "out: there is no such folder or file", "vitgraph compile"),
    _line("evaluate no image", "evaluate mlp.txt --data digits:test --images 0", "'--images'"),
    _line("evaluate by no backend", "evaluate out --data digits:test --backend ort2", "ort2", "ort"),
    _line("bench nothing", "bench", "Missing argument"),
    _line("bench what is not there", "bench gone.onnx", "gone.onnx"),
    _line("bench by no backend", "bench mlp.txt --backend ort2", "ort2"),
    _line("bench by an empty backend", "bench mlp.txt --backend ort,,", "''"),
    _with(("bench", "mlp.txt"), "--rounds", "0", "'--rounds'"),
    _with(("bench", "mlp.txt"), "--rounds", HUGE, "'--rounds'"),
    _with(("bench", "mlp.txt"), "--warm-up", "-1", "'--warm-up'"),
    _with(("bench", "mlp.txt"), "--threads", "100000", "'--threads'", "less than or equal to 1024"),
    _with(("bench", "mlp.txt"), "--threads", "-1", "'--threads'"),
    _with(("bench", "mlp.txt"), "--batch", "1,,8", "--batch '1,,8'"),
    _with(("bench", "mlp.txt"), "--batch", "0", "--batch '0'"),
    _with(("bench", "mlp.txt"), "--batch", "9" * 5000, "--batch"),
    _with(("bench", "mlp.txt"), "--batch", "70000", "--batch", "65536"),
    _line("bench --record of a program", "bench mlp.txt --record", "--record", "mlp.txt is no folder"),
    _line("bench --record of nothing", "bench gone --record", "--record", "gone is no folder"),
    _with(("bench", "mlp.txt"), "--trace", ".", "output . is a folder", "name a file"),
    _with(("bench", "mlp.txt"), "--trace", "gone/t.json", "output gone/t.json", "there is no folder"),
    _with(("bench", "mlp.txt"), "--trace", "mlp.txt", "output mlp.txt exists"),
    _line("tune nothing", "tune", "Missing argument"),
    _line("tune what is not there", "tune gone", "gone: is no folder of `vitgraph compile --backend cuda`"),
    _line("tune a program as captured", "tune mlp.txt", "mlp.txt"),
    _with(("tune", "mlp.txt"), "--batch", "0", "--batch '0'"),
    _with(("tune", "mlp.txt"), "--batch", "1,,8", "--batch '1,,8'"),
    _with(("tune", "mlp.txt"), "--batch", "70000", "--batch", "65536"),
    _with(("tune", "mlp.txt"), "--rounds", "0", "'--rounds'"),
    _with(("tune", "mlp.txt"), "--rounds", HUGE, "'--rounds'"),
    _with(SEARCH, "--method", "luck", "'--method'", "elsa"),
    _with(SEARCH, "--budget", "0x", "--budget '0x'", "2.9x"),
    _with(SEARCH, "--budget", "2", "--budget '2'"),
    _with(SEARCH, "--budget", "nanx", "--budget 'nanx'"),
    _with(SEARCH, "--budget", "9" * 5000 + "x", "--budget"),
    _with(SEARCH, "--budget", "3x", "one budget at a time", "--budget 2x 3x"),
    _with(SEARCH, "--epochs", "0", "'--epochs'"),
    _with(SEARCH, "--learning-rate", "nan", "'--learning-rate'", "finite"),
    _with(SEARCH, "--learning-rate", "-1", "'--learning-rate'"),
    _with(SEARCH, "--population", "1", "'--population'"),
    _with(SEARCH, "--aim", "luck", "'--aim'"),
    _with(SEARCH, "--calibration-data", "random", "--method elsa takes no --calibration-data"),
    _line("search without images", " ".join(SEARCH), "--train-data"),
    _line("a pass that is not there", "passes quantise", "quantise", "quantize"),
    _line("two passes", "passes quantize nm-mask", "unexpected extra argument"),
    _line("targets of a name", "targets a100", "unexpected extra argument"),
    _line("recipes of a name", "recipes int8", "unexpected extra argument"),
    _line("doctor of a name", "doctor who", "unexpected extra argument"),
    _line("demo into a file", "demo -o mlp.txt", "mlp.txt"),
]  # fmt: skip
MISTAKES = [*PROGRAM, *COMPILES, *MODELS, *OTHERS]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize("command", [OPT, ("inspect", "mlp.txt"), ("passes", "quantize")])
def test_the_commands_work_when_nothing_is_wrong(command: tuple[str, ...], cli: Cli) -> None:
    """The table's commands fail for the reason they are there for."""
    Path("mlp.txt").write_text(MLP, encoding="utf-8")
    assert cli(*command).status == 0

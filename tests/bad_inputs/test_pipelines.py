"""Pipelines that can't be read, and passes with options out of their domain."""

from pathlib import Path

from tests.bad_inputs.mistake import Mistake, each, hold
from tests.planted import MLP
from tests.tools.conftest import Cli

FILES = {"mlp.txt": MLP}


def _opt(name: str, pipeline: str, *says: str, more: tuple[str, ...] = ()) -> Mistake:
    return Mistake(name, ("opt", "mlp.txt", "--pipeline", pipeline, *more), says, FILES)


def _domain(step: str, option: str, value: str, says: str) -> Mistake:
    """A value out of an option's domain."""
    told = (f"pass '{step}'", f"option '{option}'", says)
    return _opt(f"{step}: {option}={value[:20]}", f"canonicalize,{step}{{{option}={value}}}", *told)


SYNTAX = [
    _opt("nothing", "", "can't be read", "the name of a pass"),
    _opt("blanks", "   ", "can't be read"),
    _opt("a comma", ",", "can't be read", "^"),
    _opt("a comma at the end", "canonicalize,", "can't be read", "the name of a pass"),
    _opt("two commas", "canonicalize,,legalize", "can't be read"),
    _opt("no comma", "canonicalize legalize", "',' or the end"),
    _opt("unclosed brace", "canonicalize,nm-mask{n=2", "can't be read"),
    _opt("brace without a pass", "{n=2}", "can't be read"),
    _opt("brace too many", "nm-mask{n=2}}", "can't be read"),
    _opt("option without a value", "nm-mask{n=}", "can't be read", "a value"),
    _opt("option without =", "nm-mask{n}", "'=' is expected"),
    _opt("value without an option", "nm-mask{=2}", "can't be read"),
    _opt("option given twice", "nm-mask{n=2 n=3}", "option 'n' is given twice"),
    _opt("unclosed list", "nm-mask{only=[fc1", "can't be read"),
    _opt("list without commas", "nm-mask{only=[fc1 fc2]}", "',' or ']'"),
    _opt("unclosed quote", 'nm-mask{only=["fc1]}', "can't be read"),
    _opt("options in round brackets", "nm-mask(n=2)", "nm-mask(n"),
    _opt("lists nested 3,000 deep", "nm-mask{only=" + "[" * 3000 + "]" * 3000 + "}", "nests"),
    _opt("a control character", "canonicalize\x07", "canonicalize\\x07"),
    _opt("a newline in a name", "canoni\ncalize", "expected here"),
]
NAMES = [
    _opt("unknown pass", "no-such-pass", "no-such-pass"),
    _opt("misspelt pass", "canonicalise", "did you mean", "canonicalize"),
    _opt("pass in capitals", "CANONICALIZE", "there is no pass 'CANONICALIZE'"),
    _opt("pass that is a number", "3", "there is no pass '3'"),
    _opt("pass that is quoted", '"canonicalize"', "the name of a pass"),
    _opt("pass with a path", "../canonicalize", "there is no pass"),
    _opt("file for a pass", "passes.txt", "there is no pass 'passes.txt'"),
    _opt("recipe that is not there", "mine.yaml", "mine.yaml", "No such file"),
    _opt("unknown option", "nm-mask{o=2}", "pass 'nm-mask' has no option 'o'", "it takes n, m"),
    _opt("misspelt option", "nm-mask{scor=cap}", "did you mean score?"),
    _opt("option of a pass without any", "canonicalize{n=2}", "pass 'canonicalize' has no option 'n'", "it takes none"),
    _opt("option of another pass", "quantize{n=2}", "pass 'quantize' has no option 'n'"),
    _opt("name of 5,000 letters", "a" * 5000, "there is no pass 'aaa", "(5,002 characters)"),
]
DOMAINS = [
    _domain("quantize", "percentile", "nan", "finite number"),
    _domain("quantize", "percentile", "0", "greater than 0"),
    _domain("quantize", "percentile", "-1", "greater than 0"),
    _domain("quantize", "percentile", "1000", "less than or equal to 100"),
    _domain("quantize", "percentile", "true", "not true or false"),
    _domain("quantize", "percentile", "[1]", "number"),
    _domain("quantize", "percentile", "9" * 5000, "finite number"),
    _domain("quantize", "method", "best", "'minmax', 'percentile', 'entropy', 'mse' or 'hessian'"),
    _domain("quantize", "method", "3", "'minmax'"),
    _domain("quantize", "group", "0", "greater than or equal to 1"),
    _domain("quantize", "group", "1.5", "integer"),
    _domain("quantize", "group", "many", "integer"),
    _domain("quantize", "per_tensor", "perhaps", "boolean"),
    _domain("quantize", "weight_format", "int3", "'int8', 'int4' or 'fp8'"),
    _domain("reconstruct", "rate", "inf", "finite number"),
    _domain("reconstruct", "rate", "1e300", "less than or equal to 1000000"),
    _domain("reconstruct", "rate", "0", "greater than 0"),
    _domain("reconstruct", "iterations", "0", "greater than or equal to 1"),
    _domain("reconstruct", "iterations", "1000000000", "less than or equal to 1000000"),
    _domain("reconstruct", "batch", "-1", "greater than or equal to 1"),
    _domain("reconstruct", "seed", "-1", "greater than or equal to 0"),
    _domain("reconstruct", "seed", "1" + "0" * 23, "less than 9223372036854775808"),
    _domain("nm-mask", "n", "two", "integer"),
    _domain("nm-mask", "n", "none", "integer"),
    _domain("nm-mask", "m", "1" + "0" * 30, "less than 2147483648"),
    _domain("nm-mask", "only", "fc1", "tuple"),
    _domain("nm-mask", "only", '[""]', "at least 1 character"),
    _domain("nm-mask", "only", "[[fc1]]", "string"),
    _domain("nm-mask", "percdamp", "-inf", "finite number"),
    _domain("nm-mask", "score", "luck", "'magnitude'"),
    _domain("smooth-quant", "alpha", "1.5", "less than or equal to 1"),
    _domain("smooth-quant", "alpha", "nan", "finite number"),
    _domain("block-prune", "power", "-1", "greater than or equal to 0"),
    _domain("block-prune", "rows", "0", "greater than or equal to 1"),
    _domain("mixed-precision", "max_drop", "101", "less than or equal to 100"),
    _domain("mixed-precision", "images", "0", "greater than or equal to 1"),
    _domain("split-outliers", "ratio", "1", "greater than 1"),
    _domain("channel-migrate", "most", "0.5", "greater than or equal to 1"),
    _domain("fold-constants", "max_growth", "-1", "greater than or equal to 0"),
    _domain("assign-precision", "to", "fp64", "'"),
]
TOGETHER = [
    _opt("n over m", "canonicalize,nm-mask{n=5}", "n=5 m=4", "pass 'nm-mask' (2 of 2)"),
    _opt("a selector of no site", "canonicalize,nm-mask{only=[fc9]}", "fc9"),
    _opt("a selector that is no glob", 'canonicalize,nm-mask{only=["["]}', "["),
    _opt("pattern that no site takes", "canonicalize,nm-mask{n=2 m=7}", "2:7"),
    _opt("pattern that the target lacks", "canonicalize,nm-mask{n=1 m=4}", "a100 runs no 1:4", more=("--target", "a100")),
    _opt("pass that needs images", "canonicalize,quantize", "no calibration images", "--calibration-data"),
    _opt("pass twice, the second wrong", "canonicalize,nm-mask,nm-mask{n=9}", "pass 'nm-mask' (3 of 3)"),
    _opt("unknown target", "canonicalize", "a1000", "did you mean", more=("--target", "a1000")),
    _opt("print at a pass that is not there", "canonicalize", "'quantize'", "canonicalize", more=("--print-ir-after", "quantize")),
]  # fmt: skip
MISTAKES = [*SYNTAX, *NAMES, *DOMAINS, *TOGETHER]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


def test_a_pipeline_without_a_mistake_runs(cli: Cli) -> None:
    """The table's commands fail for the reason they are there for."""
    Path("mlp.txt").write_text(MLP, encoding="utf-8")
    assert cli("opt", "mlp.txt", "--pipeline", "canonicalize,nm-mask{n=2 m=4}").status == 0

"""Recipes in YAML: what is no YAML, what is no recipe, and what is a recipe of passes that can't be had."""

from pathlib import Path

from tests.bad_inputs.mistake import Mistake, each, hold
from tests.planted import MLP
from tests.tools.conftest import Cli

BILLION = "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10))])
"""Nine aliases of nine aliases, nine deep: 800 million values in 400 bytes."""


def _recipe(name: str, text: str | bytes, *says: str) -> Mistake:
    command = ("compile", "digits-vit", "--target", "a100", "--recipe", "mine.yaml", "-o", "out")
    return Mistake(name, command, ("mine", *says), {"mine.yaml": text})


def _steps(name: str, steps: str, *says: str) -> Mistake:
    """A recipe with this list of passes, in the place of a pipeline."""
    files = {"mine.yaml": f"name: mine\npipeline:\n{steps}\n", "mlp.txt": MLP}
    return Mistake(name, ("opt", "mlp.txt", "--pipeline", "mine.yaml"), says, files)


def _option(name: str, value: str, *says: str) -> Mistake:
    """A value of nm-mask's `n`."""
    return _steps(f"n: {name}", f"- nm-mask: {{n: {value}}}", "pass 'nm-mask'", "option 'n'", *says)


NO_YAML = [
    _recipe("empty", "", "a mapping with the key `pipeline`"),
    _recipe("blank lines", "\n\n", "a mapping with the key `pipeline`"),
    _recipe("bytes", b"\xff\xfe\x00", "not text in UTF-8"),
    _recipe("a zip", b"PK\x03\x04\x14\x00", "not YAML"),
    _recipe("unclosed bracket", "pipeline: [canonicalize", "not YAML", "line 1"),
    _recipe("a tab", "pipeline:\n\t- canonicalize", "not YAML", "line 2"),
    _recipe("two documents", "pipeline: []\n---\npipeline: []", "not YAML"),
    _recipe("a tag of Python", "pipeline: !!python/object/apply:os.system [ls]", "the tag"),
    _recipe("a tag of ours", "pipeline: !vitgraph [canonicalize]", "the tag"),
    _recipe("!!int of a word", "pipeline: !!int abc", "the tag"),
    _recipe("!!timestamp of a word", "pipeline: !!timestamp foo", "the tag"),
    _recipe("!!binary of a word", "pipeline: !!binary '*'", "the tag"),
    _recipe("a day that is none", "pipeline: 2026-13-45", "not YAML"),
    _recipe("a number of 5,000 digits", f"pipeline: {'9' * 5000}", "not YAML"),
    _recipe("nested 3,000 deep", "pipeline: " + "[" * 3000 + "]" * 3000, "not YAML", "deep"),
    _recipe("nested 3,000 deep, unclosed", "pipeline: " + "[" * 3000, "not YAML"),
    _recipe("mappings nested 3,000 deep", "pipeline: " + "{a: " * 3000 + "}" * 3000, "not YAML"),
    _recipe("an alias of itself", "pipeline: &a [*a]", "not YAML", "*a"),
    _recipe("an alias of nothing", "pipeline: *a", "not YAML", "*a"),
    _recipe("a billion laughs", f"{BILLION}\npipeline: *a9", "not YAML", "values"),
    _recipe("a billion laughs for a name", f"{BILLION}\nname: *a9\npipeline: [canonicalize]", "not YAML"),
    _recipe("a control character", "pipeline: [\x07]", "not YAML"),
    _recipe("two megabytes", "# " + "x" * (2 << 20), "over the 1 MiB"),
    _recipe("key that is a list", "? [a]\n: b", "not YAML"),
    _recipe("merged with a word", "<<: a\npipeline: []", "not YAML"),
]  # fmt: skip
NO_RECIPE = [
    _recipe("a list", "- canonicalize", "a mapping with the key `pipeline`"),
    _recipe("a word", "canonicalize", "a mapping with the key `pipeline`"),
    _recipe("a number", "3", "a mapping with the key `pipeline`"),
    _recipe("null", "null", "a mapping with the key `pipeline`"),
    _recipe("no pipeline", "name: mine", "a mapping with the key `pipeline`"),
    _recipe("a target", "name: board\ncapability: sm_80", "a mapping with the key `pipeline`"),
    _recipe("a key too many", "pipeline: [canonicalize]\ntarget: a100", "'target'", "name, description and pipeline"),
    _recipe("a key that is a number", "pipeline: [canonicalize]\n3: a", "3", "name, description and pipeline"),
    _recipe("a name that is a list", "name: [a]\npipeline: [canonicalize]", "name", "text"),
    _recipe("a description that is a mapping", "description: {a: b}\npipeline: [canonicalize]", "description", "text"),
    _recipe("pipeline that is a text", "pipeline: canonicalize,legalize", "a pipeline in YAML is a list", "str"),
    _recipe("pipeline that is a mapping", "pipeline: {canonicalize: null}", "a pipeline in YAML is a list", "dict"),
    _recipe("pipeline that is a number", "pipeline: 3", "a pipeline in YAML is a list", "int"),
    _recipe("pipeline that is null", "pipeline:", "a pipeline in YAML is a list", "NoneType"),
    _recipe("pipeline that is empty", "pipeline: []", "no pass"),
    Mistake("a folder", ("compile", "digits-vit", "--target", "a100", "--recipe", "d.yaml", "-o", "out"), ("d.yaml", "a folder"), {"d.yaml/x": ""}),
    Mistake("not there", ("compile", "digits-vit", "--target", "a100", "--recipe", "gone.yaml", "-o", "out"), ("gone.yaml", "No such file")),
    Mistake("of another ending", ("compile", "digits-vit", "--target", "a100", "--recipe", "mine.yxml", "-o", "out"), ("unknown recipe 'mine.yxml'",), {"mine.yxml": ""}),
    Mistake("misspelt", ("compile", "digits-vit", "--target", "a100", "--recipe", "sparse-int-8", "-o", "out"), ("did you mean sparse-int8",)),
]  # fmt: skip
STEPS = [
    _steps("a number for a pass", "- 3", "a step of a pipeline is a name", "3"),
    _steps("null for a pass", "-", "a step of a pipeline is a name", "None"),
    _steps("a list for a pass", "- [canonicalize]", "a step of a pipeline is a name"),
    _steps("two passes in one step", "- {canonicalize: null, legalize: null}", "a step of a pipeline is a name"),
    _steps("an empty step", "- {}", "a step of a pipeline is a name"),
    _steps("a pass that is true", "- true", "a step of a pipeline is a name"),
    _steps("a pass with a number", "- nm-mask: 3", "a step of a pipeline is a name"),
    _steps("a pass with a list", "- nm-mask: [n, 2]", "a step of a pipeline is a name"),
    _steps("a pass under a number", "- 3: {n: 2}", "a step of a pipeline is a name"),
    _steps("unknown pass", "- canonicalise", "there is no pass 'canonicalise'", "did you mean canonicalize"),
    _steps("braces in a name", "- 'nm-mask{n=2}'", "there is no pass 'nm-mask{n=2}'"),
    _steps("unknown option", "- nm-mask: {o: 2}", "no option 'o'"),
    _steps("option that is a number", "- nm-mask: {2: 4}", "no option 2"),
    _steps("option that is null", "- nm-mask: {null: 4}", "no option None"),
    _steps("option that is true", "- nm-mask: {true: 4}", "no option True"),
    _steps("only that is a word", "- nm-mask: {only: fc1}", "option 'only'", "tuple"),
    _steps("only that is a mapping", "- nm-mask: {only: {fc1: 1}}", "option 'only'"),
    _steps("only of numbers", "- nm-mask: {only: [1]}", "option 'only'", "string"),
    _option("a word", "two", "integer", "got 'two'"),
    _option("null", "", "integer", "got None"),
    _option("true", "true", "not true or false"),
    _option("a list", "[2]", "integer"),
    _option("a mapping", "{a: 2}", "integer"),
    _option("a date", "2026-11-27", "integer"),
    _option("infinity", ".inf", "finite"),
    _option("no number", ".nan", "finite"),
    _option("zero", "0", "greater than or equal to 1"),
    _option("below zero", "-1", "greater than or equal to 1"),
    _option("half", "1.5", "integer"),
    _option("more than a model has", "1" + "0" * 30, "less than 2147483648"),
]
MISTAKES = [*NO_YAML, *NO_RECIPE, *STEPS]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


def test_a_recipe_without_a_mistake_runs(cli: Cli) -> None:
    """The table's commands fail for the reason they are there for."""
    Path("mlp.txt").write_text(MLP, encoding="utf-8")
    Path("mine.yaml").write_text("name: mine\npipeline:\n- canonicalize\n- nm-mask: {n: 2}\n", encoding="utf-8")
    assert cli("opt", "mlp.txt", "--pipeline", "mine.yaml").status == 0

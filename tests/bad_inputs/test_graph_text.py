"""Graphs' texts that are none: each is refused with the line, before anything of it runs."""

from pathlib import Path

import pytest

from tests.bad_inputs.mistake import Mistake, each, hold
from tests.planted import MLP
from tests.tools.conftest import Cli

GOOD = """# program: good
# form: canonical
x: f32[1, 4] = input()
w: f32[4, 4] = weight("fc.weight")
b: f32[4] = constant("fc.bias")
linear: f32[1, 4] = aten.linear.default(x, w, b)  # fc
split: (f32[1, 2], f32[1, 2]) = aten.split.Tensor(linear, 2, 1)
part: f32[1, 2] = operator.getitem(split, 0)
return_(part)
"""
CAPTURED = GOOD.replace("canonical", "captured")


def _text(name: str, text: str, *says: str) -> Mistake:
    return Mistake(name, ("inspect", "g.txt"), ("g.txt", *says), {"g.txt": text})


def _swap(name: str, old: str, new: str, *says: str) -> Mistake:
    """The good text with one thing changed."""
    assert old in CAPTURED, old
    return _text(name, CAPTURED.replace(old, new), *says)


def _call(name: str, call: str, *says: str, kind: str = "f32[1, 4]") -> Mistake:
    """The good text with one more line."""
    return _text(name, CAPTURED.replace("split: (", f"extra: {kind} = {call}\nsplit: ("), "line 7", *says)


LINEAR = "aten.linear.default(x, w, b)"
FILES = [
    _text("empty", "", "no return_"),
    _text("words", "these are words\n", "line 1", "a line is"),
    _text("only comments", "# program: a\n# form: canonical\n", "no return_"),
    _text("Python", "import os\nos.system('ls')\n", "line 1", "a line is"),
    _text("a pickle", "\x80\x02cposix\nsystem\n", "line 1"),
    _text("NUL", CAPTURED.replace("fc.weight", "fc\0weight"), "line 4"),
    Mistake("no UTF-8", ("inspect", "g.txt"), ("g.txt", "not text in UTF-8"), {"g.txt": b"\xff\xfe\x00"}),
    Mistake("UTF-16", ("inspect", "g.txt"), ("g.txt", "UTF-8"), {"g.txt": CAPTURED.encode("utf-16")}),
    _text("another form", GOOD.replace("canonical", "raw"), "line 2", "captured or canonical"),
    _text("a long name", "# program: " + "a" * 9_000 + "\n" + GOOD, "line 1", "512 characters"),
    _text("escapes in the name", "# program: \x1b[2J\n" + GOOD, "line 1", "printed"),
    _text("a mask of words", "# mask: fc two:four\n" + GOOD, "line 1", "path n:m"),
    _text("a mask 4:4", "# mask: fc 4:4\n" + GOOD, "line 1", "0 < n < m"),
    _text("a mask of groups of 0", "# mask: fc 2:4 group_size=0\n" + GOOD, "line 1", "at least 1"),
    _text("a mask of no linear", "# mask: head 2:4\n" + GOOD, "of no linear"),
    _text("a mask wider than the weight", "# mask: fc 2:999\n" + CAPTURED, "masked 2:999 and is denser"),
    _text("too many lines", GOOD + "\n" * 20_001, "20,000"),
    _text("a line of megabytes", GOOD + "x" * 200_000, "line 10", "100,000"),
]
LINES = [
    _swap("no type", "linear: f32[1, 4] =", "linear =", "line 6", "a line is"),
    _swap("no name", "linear: f32", ": f32", "line 6", "a line is"),
    _swap("an unknown type", "linear: f32", "linear: f33", "line 6", "is not a type"),
    _swap("a negative size", "x: f32[1, 4]", "x: f32[1, -4]", "line 3", "negative"),
    _swap("a negative batch", "x: f32[1, 4]", "x: f32[N-2, 4]", "line 3", "negative"),
    _swap("a size of words", "x: f32[1, 4]", "x: f32[one, 4]", "line 3", "is not a size"),
    _swap("a huge size", "w: f32[4, 4]", "w: f32[99999999999, 4]", "line 4", "elements"),
    _swap("a size of 5,000 digits", "w: f32[4, 4]", f"w: f32[{'9' * 5_000}]", "line 4"),
    _swap("a size over 64 bits", "w: f32[4, 4]", f"w: f32[0, {2**64}]", "line 4", "64 bits"),
    _swap("too many dimensions", "w: f32[4, 4]", f"w: f32[{', '.join('1' * 40)}]", "line 4", "40 dimensions"),
    _swap("nested tuples", "split: (f32[1, 2], f32[1, 2])", f"split: {'(' * 500}f32[1]{')' * 500}", "line 7", "tuples"),
    _swap("a type that is never closed", "w: f32[4, 4]", "w: f32[4, 4", "line 4", "is not a type"),
    _swap("a keyword as name", "linear: f32", "lambda: f32", "line 6", "'lambda' can't be the name"),
    _swap("self as name", "x: f32", "self: f32", "line 3", "'self' can't be the name"),
    _swap("torch as name", "x: f32", "torch: f32", "line 3", "'torch' can't be the name"),
    _swap("an attribute as name", "linear: f32", "a.b: f32", "line 6", "a line is"),
    _swap("a name twice", "linear: f32", "x: f32", "line 6", "given twice"),
    _swap("a value above its making", LINEAR, "aten.linear.default(part, w, b)", "line 6", "not known yet"),
    _swap("a bracket that is never closed", LINEAR, LINEAR[:-1], "line 6", "never closed"),
    _swap("a string that is never closed", '"fc.weight"', '"fc.weight', "line 4"),
    _swap("code after a semicolon", LINEAR, LINEAR + "; print(1)", "line 6", "stands after"),
    _swap("a second call", LINEAR, LINEAR + "(x)", "line 6", "stands after"),
    _swap("an operator between", LINEAR, LINEAR + " + 1", "line 6", "stands after"),
    _swap("deep nesting", "linear, 2, 1", "linear, " + "[" * 5_000 + "]" * 5_000 + ", 1", "line 7", "nest"),
    _swap("many signs", "linear, 2, 1", "linear, " + "-" * 5_000 + "2, 1", "line 7"),
    _swap("a comprehension", "linear, 2, 1", "[v for v in x], 2, 1", "line 7"),
    _swap("a lambda", "linear, 2, 1", "lambda: x, 2, 1", "line 7"),
    _swap("a dictionary", "linear, 2, 1", "{1: 2}, 2, 1", "line 7"),
    _swap("bytes", "linear, 2, 1", "b'x', 2, 1", "line 7"),
    _swap("an f-string", "linear, 2, 1", "f'{x}', 2, 1", "line 7"),
    _swap("a complex number", "linear, 2, 1", "2j, 2, 1", "line 7"),
    _swap("an integer over 64 bits", "linear, 2, 1", f"linear, {10**30}, 1", "line 7", "64 bits"),
    _swap("an integer of 5,000 digits", "linear, 2, 1", f"linear, {'9' * 5_000}, 1", "line 7"),
    _swap("keywords unpacked", "linear, 2, 1", "linear, **x", "line 7"),
    _swap("a keyword twice", "linear, 2, 1", "linear, 2, dim=1, dim=1", "line 7", "twice"),
    _swap("an unknown keyword", "linear, 2, 1", "linear, 2, along=1", "line 7", "no argument along"),
    _swap("an argument by place and by name", "linear, 2, 1", "linear, 2, split_size=2", "line 7", "second time"),
    _swap("too many arguments", "linear, 2, 1", "linear, 2, 1, 1, 1", "line 7", "takes 3 arguments"),
    _swap("a missing argument", "(linear, 2, 1)", "()", "line 7", "lacks its argument"),
    _swap("a place after a name", "linear, 2, 1", "linear, split_size=2, 1", "line 7", "without a name"),
    _swap("pieces of nothing", "linear, 2, 1", "linear, 0, 1", "its arguments don't fit"),
    _text(
        "pieces without number",
        "x: f32[900000000] = input()\ny: (f32[1], f32[1]) = aten.split.Tensor(x, 1, 0)\nreturn_(y)\n",
        "line 2",
        "over 1,024 results",
    ),
    _swap("a result that is not there", "split, 0", "split, 7", "line 8", "result 7 of 2"),
    _swap("getitem by text", "split, 0", "split, 'x'", "line 8", "getitem takes"),
    _swap("getitem of a tensor", "(split, 0)", "(x, 0)", "line 8", "getitem takes"),
]
SPECIAL = [
    _swap("an input with an argument", "input()", "input(1)", "line 3", "input() takes nothing"),
    _swap("a weight without a name", 'weight("fc.weight")', "weight()", "line 4", "takes the name of a tensor"),
    _swap("a weight of two names", 'weight("fc.weight")', 'weight("a", "b")', "line 4", "takes the name of a tensor"),
    _swap("a weight of a number", 'weight("fc.weight")', "weight(3)", "line 4", "no name of a tensor"),
    _swap("a weight of whole numbers", "w: f32", "w: i8", "line 4", "constant()"),
    _swap("a weight of an open batch", "w: f32[4, 4]", "w: f32[N, 4]", "line 4", "batch"),
    _swap("a weight twice", '"fc.bias"', '"fc.weight"', "line 5", "given twice"),
    _swap("a name with quotes", '"fc.weight"', "'fc\\'weight'", "line 4", "no name of a tensor"),
    _swap("a name with a newline", '"fc.weight"', "'fc\\nweight'", "line 4", "printed"),
    _swap("half a surrogate pair", '"fc.weight"', "'fc\\ud800'", "line 4", "printed"),
    _swap("a keyword in a name", '"fc.weight"', '"fc.import"', "line 4", "no name of a tensor"),
    _swap("a name with underscores around", '"fc.weight"', '"fc.__class__"', "line 4", "no name of a tensor"),
    _swap("an empty part in a name", '"fc.weight"', '"fc..weight"', "line 4", "no name of a tensor"),
    _swap("a name of 300 letters", '"fc.weight"', f'"{"a" * 300}"', "line 4", "no name of a tensor"),
    _swap("a name that modules have", '"fc.weight"', '"forward"', "line 4", "modules have"),
    _swap("a part that modules have", '"fc.weight"', '"forward.weight"', "line 4"),
    _call("a device without a name", "aten.to.device(linear, device(), f32)", "device"),
    _call("a device that is none", "aten.to.device(linear, device('moon'), f32)", "device('moon')"),
    _call("a layout that is none", "aten.zeros.default([1, 4], layout=layout('torch.jagged'))", "layout"),
    _call("an attribute of torch", "aten.clone.default(x, memory_format=memory_format('torch.hub'))", "memory_format"),
    _call("another object", "aten.to.device(linear, open('x'), f32)", "open"),
    _swap("return_ of nothing", "return_(part)", "return_()", "line 9", "one value"),
    _swap("return_ of two", "return_(part)", "return_(part, x)", "line 9", "one value"),
    _swap("return_ of a number", "return_(part)", "return_(3)", "line 9", "names of values"),
    _swap("return_ of an empty list", "return_(part)", "return_([])", "line 9", "names of values"),
    _swap("return_ twice", "return_(part)", "return_(part)\nreturn_(x)", "line 10", "last line"),
    _swap("a line after return_", "return_(part)", "return_(part)\ny: f32[1, 4] = input()", "line 10", "last line"),
]
OPERATORS = [
    _call("an operator that is none", "aten.linnear.default(x)", "linnear"),
    _call("an overload that is none", "aten.relu.fast(x)", "no operator of torch"),
    _call("another namespace", "numpy.add.default(x)", "no operator of a graph"),
    _call("a function of Python", "eval('1')", "no operator of a graph"),
    _call("a dotted function of Python", "os.path.join('a')", "no operator of a graph"),
    _call("attrgetter", "operator.attrgetter('__class__')", "no operator of a graph"),
    _call("itemgetter", "operator.itemgetter('x')", "no operator of a graph"),
    _call("call", "operator.call(x)", "no operator of a graph"),
    _call("an attribute of operator", "operator.__class__(x)", "no operator of a graph"),
    _call("from_file", "aten.from_file.default('x', True, 4)", "not among the operators"),
    _call("save", "aten._print.default('x')", "not among the operators"),
    _call("a private operator", "aten._efficientzerotensor.default([1, 4])", "not among the operators"),
    _call("memory that nothing wrote", "aten.empty.memory_format([1, 4])", "not among the operators"),
    _call("one that writes", "aten.add_.Tensor(x, x)", "not among the operators"),
    _call("one that writes to out", "aten.add.out(x, x, out=x)", "writes into its arguments"),
    _call("one on texts", "aten.split.str('a b')", "no tensors"),
    _call("vitgraph's, but none", "vitgraph.load.default(x)", "not among the operators"),
    _call("arithmetic on tensors", "operator.mul(x, 2)", "two whole numbers"),
    _call("a list many times", "operator.mul([0], 1000000000)", "two whole numbers"),
    _swap("a shape that does not fit", LINEAR, "aten.reshape.default(x, [3, 3])", "its arguments don't fit"),
    _swap("a type that is not the operator's", "linear: f32[1, 4]", "linear: f32[1, 5]", "carries type f32[1, 5]"),
    _text("an operator outside the dialect", GOOD.replace("aten.split", "aten.split_copy"), "line 7"),
    _text("a graph without input", 'w: f32[2] = weight("w")\nreturn_(w)\n', "takes no input"),
]
COMMANDS = [
    Mistake(f"{' '.join(arguments)}", arguments, ("g.txt", "line 6", "no operator of a graph"), {"g.txt": EVIL})
    for EVIL in [GOOD.replace(LINEAR, "operator.call(x)")]
    for arguments in [
        ("opt", "g.txt", "--pipeline", "canonicalize"),
        ("inspect", "g.txt", "--cost"),
        ("bisect", "g.txt", "--pipeline", "canonicalize", "--check", "sqnr>20"),
    ]
]
MISTAKES = FILES + LINES + SPECIAL + OPERATORS + COMMANDS


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize("text", [CAPTURED, MLP])
def test_a_text_without_a_mistake_is_read(text: str, cli: Cli) -> None:
    Path("g.txt").write_text(text, encoding="utf-8")
    assert cli("inspect", "g.txt").status == 0

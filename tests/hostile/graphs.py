"""Graphs that would run code or fill memory, each as text, as a saved program and in a compilation's folder."""

from __future__ import annotations

from typing import Any

from tests.hostile.case import CANARY, PAYLOAD, Case, Commands, program

HEAD = "# program: a\n# form: captured\nx: f32[1, 4] = input()\n"
TXT: Commands = (("inspect", "g.txt"), ("opt", "g.txt", "--pipeline", "canonicalize"))
BISECT: Commands = (("bisect", "g.txt", "--pipeline", "canonicalize", "--check", "sqnr>20"),)
SAVED: Commands = (("inspect", "p.safetensors"),)
COMPILE = ("--target", "a100", "--recipe", "fp16", "-o", "new")
OUT: Commands = (
    ("inspect", "OUT", "--node", "x"),
    ("compile", "OUT", *COMPILE),
    ("bench", "OUT"),
    ("evaluate", "OUT/program/program.safetensors", "--data", "digits:test"),
)


def weight(name: str) -> str:
    """A graph that reads a tensor of this name."""
    return HEAD + f"w: f32[4] = constant({name!r})\ny: f32[1, 4] = aten.add.Tensor(x, w)\nreturn_(y)\n"


def line(text: str) -> str:
    """A graph with this line in it."""
    return HEAD + f"{text}\nreturn_(x)\n"


PARSED = f'x")\n\x0c{PAYLOAD}\n\x0cdef forward(self, x):\n\x0c    getattr(self, "x'
"""Breaks out of the function that torch.fx generates; the form feed resets Python's indentation: runs when it is read."""
RAN = f'x" if {PAYLOAD} else "x'
"""Runs in the generated call."""
WALK = f"""a: f32[1] = operator.attrgetter("__class__.split.__globals__")
b: f32[1] = operator.call(a, x)
c: f32[1] = operator.itemgetter("__builtins__")
d: f32[1] = operator.call(c, b)
e: f32[1] = operator.itemgetter("eval")
f: f32[1] = operator.call(e, d)
g: f32[1] = operator.call(f, {PAYLOAD!r})"""
WRITES = f"w: f32[4] = aten.from_file.default('{CANARY}', True, 4)"

NAMES = {
    "a name that runs when it is read": PARSED,
    "a name that runs when it is called": RAN,
    "a name with a quote": 'x"',
    "a name with a backslash": "x\\",
    "a name with a line separator": f"x\u2028{PAYLOAD}",
    "a name with a vertical tab": f"x\x0b{PAYLOAD}",
    "a name that is a call": PAYLOAD,
    "a name of a class": "x.__class__.__init__",
    "a name of globals": "forward.__globals__",
    "a keyword": "x.import.y",
    "a name in other letters": "\uff45\uff56\uff41\uff4c",
    "a name without end": "a." * 100_000 + "a",
}
LINES = {
    "a walk through operator to eval": WALK,
    "an operator that writes files": WRITES,
    "an operator of the class": "a: f32[1] = aten.__class__.mro(x)",
    "an overload of the class": "a: f32[1] = aten.linear.__class__(x)",
    "an operator of the loader": "a: f32[1] = vitgraph.__loader__.load_module('os')",
    "operator's builtins": f"a: f32[1] = operator.__builtins__({PAYLOAD!r})",
    "eval": f"a: f32[1] = eval({PAYLOAD!r})",
    "code after the call": f"a: f32[1, 4] = aten.relu.default(x); {PAYLOAD}",
    "code in an argument": f"a: f32[1, 4] = aten.relu.default({PAYLOAD})",
    "code in a keyword": f"a: f32[1, 4] = aten.relu.default(**{{{PAYLOAD!r}: 1}})",
    "code in a type": f"a: f32[{PAYLOAD}] = aten.relu.default(x)",
    "code in a name": f"a[{PAYLOAD}]: f32[1, 4] = aten.relu.default(x)",
    "code in a device": f"a: f32[1, 4] = aten.to.device(x, device({PAYLOAD}), f32)",
    "an attribute as a layout": "a: f32[1, 4] = aten.clone.default(x, memory_format=memory_format('torch.hub'))",
    "an input that is self": "self: f32[1, 4] = input()",
    "an input with a default": f"a={PAYLOAD}: f32[1, 4] = input()",
    "getitem by an attribute": "a: f32[1] = operator.getitem(x, '__class__')",
    "brackets without end": "a: f32[1, 4] = aten.relu.default(" + "[" * 90_000 + ")",
    "signs without end": "a: f32[1, 4] = aten.relu.default(" + "-" * 90_000 + "1)",
    "tuples without end": "a: " + "(" * 90_000 + " = aten.relu.default(x)",
    "dots without end": "a: f32[1, 4] = aten" + ".a" * 40_000 + "(x)",
    "a number without end": f"a: f32[1, 4] = aten.add.Tensor(x, {'9' * 90_000})",
    "a size without end": f"a: f32[{'9' * 90_000}] = aten.relu.default(x)",
    "a string without end": "a: f32[1, 4] = aten.relu.default('" + "x" * 90_000,
    "backslashes without end": "a: f32[1, 4] = aten.relu.default('" + "\\" * 90_001 + "')",
    "a weight of terabytes": 'w: f32[1000000, 1000000] = weight("w")',
    "forty weights of gigabytes": "\n".join(f'w{i}: f32[1000000000] = weight("w{i}")' for i in range(40)),
    "a value of terabytes": "a: f32[1000000, 1000000] = aten.zeros.default([1000000, 1000000])",
    "a value that was not said to be large": "a: f32[1] = aten.zeros.default([1000000, 1000000])",
    "a billion results": "a: f32[999999999] = aten.zeros.default([999999999])\nb: (f32[1],) = aten.split.Tensor(a, 1, 0)",
    "a list many times": "a: int[1] = operator.mul([0], 999999999)",
    "a text many times": "a: int[1] = operator.mul('x', 999999999)",
    "numbers that double": "\n".join(
        f"n{i}: int[{2**62}] = operator.mul({f'n{i - 1}' if i else 2**62}, {f'n{i - 1}' if i else 2**62})"
        for i in range(60)
    ),
    "a batch without bounds": "a: f32[999999999999*N, 4] = aten.relu.default(x)",
    "an index above its making": "a: f32[1, 4] = aten.relu.default(a)",
}
MANY = {
    "a line of sixteen megabytes": HEAD + "x" * (1 << 24) + "\nreturn_(x)\n",
    "more than sixteen megabytes": "#" * ((1 << 24) + 1),
    "lines without end": HEAD + "#\n" * 1_000_000 + "return_(x)\n",
    "masks without end": "".join(f"# mask: a{i} 2:4\n" for i in range(19_000)) + HEAD + "return_(x)\n",
    "values that are held at once": HEAD
    + "".join(f"v{i}: f32[500000000] = aten.zeros.default([500000000])\n" for i in range(40))
    + f"c: f32[1] = aten.cat.default([{', '.join(f'v{i}' for i in range(40))}])\nreturn_(c)\n",
}
FAMOUS = {
    "A1a, read": (weight(PARSED), PARSED),
    "A1a, called": (weight(RAN), RAN),
    "A1b": (line(WALK), "w"),
    "A1c": (line(WRITES), "w"),
}


def _everywhere(name: str, text: str, tensor: str) -> list[Case]:
    """As text, as a saved program, and as the program of a folder that says it was compiled."""
    saved = program(text, (tensor,))
    return [
        Case(f"{name}: text", {"g.txt": text}, TXT + BISECT),
        Case(f"{name}: saved program", {"p.safetensors": saved}, SAVED),
        Case(f"{name}: folder", {"OUT/program/program.safetensors": saved, "OUT/report.json": "{}"}, OUT),
        Case(
            f"{name}: reproducer",
            {"p.safetensors": program(text, (tensor,), provenance=REPRODUCE)},
            (("opt", "p.safetensors"),),
        ),
    ]


REPRODUCE: dict[str, Any] = {"reproduce": {"pipeline": "canonicalize", "settings": {}}}


def cases() -> list[Case]:
    """All of them."""
    famous = [case for name, (text, tensor) in FAMOUS.items() for case in _everywhere(name, text, tensor)]
    names = [Case(f"name: {name}", {"g.txt": weight(text)}, TXT[:1]) for name, text in NAMES.items()]
    lines = [Case(f"line: {name}", {"g.txt": line(text)}, TXT[:1]) for name, text in LINES.items()]
    many = [Case(f"text: {name}", {"g.txt": text}, TXT[:1]) for name, text in MANY.items()]
    return famous + names + lines + many

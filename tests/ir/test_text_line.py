"""A line of a graph's text is taken apart by a grammar of its own, which knows nothing else of Python."""

from math import isinf, isnan

import pytest

from vitgraph.ir.text_line import MAX_LINE, Call, Line, Name, read_line


def values(text: str) -> tuple[object, ...]:
    line = read_line(f"y: f32[1] = aten.f.default({text})")
    assert line is not None
    return line.call.values


def test_a_line() -> None:
    assert read_line("y: f32[N, 4] = aten.f.default(x, 1, k='a#b')  # blocks.0") == Line(
        "y", "f32[N, 4]", Call("aten.f.default", (Name("x"), 1), {"k": "a#b"}), "blocks.0"
    )
    assert read_line("return_((x,))") == Line("", "", Call("return_", ((Name("x"),),), {}), "")
    assert read_line("  # a comment") is read_line("") is None


def test_values() -> None:
    assert values("-3, 1e-05, 2.5, True, None, [x, []], (x,), (x, y), (x), ()") == (
        -3, 1e-05, 2.5, True, None, [Name("x"), []], (Name("x"),), (Name("x"), Name("y")), Name("x"), (),
    )  # fmt: skip
    assert values("device('cpu')") == (Call("device", ("cpu",), {}),)
    assert values(r"'it\'s', \"a\"".replace(r"\"", '"') + r", '\\'") == ("it's", "a", "\\")
    infinite, negative, none = values("inf, -inf, nan")
    assert isinf(float(str(infinite)))
    assert float(str(negative)) < 0
    assert isnan(float(str(none)))


@pytest.mark.parametrize(
    "text",
    ["x.y[0]", "x + y", "-x", "{}", "{x: 1}", "lambda: x", "x if y else z", "f'x'", "b'x'", "1j", "0x10", "1_000", "*x", "**x", "x := 1",
     "...", "x; y", "(", "[", "]", ",", "x y", "'a", "'\\n'", "'\\ud800'", "'\\x41'", "9" * 30, "[" * 20 + "]" * 20, "'" + "a" * 600 + "'", "\\'" * 40_000, "9" * 90_000 + "a", "'" * 40_001,
     "k=1, 2", "k=1, k=2"],
)  # fmt: skip
def test_what_is_no_value(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each in its own words
        values(text)


@pytest.mark.parametrize(
    "text",
    ["x", "x = 1", "x: f32[1]", "import os", "return_ x", "x: f32[1] = 3", "x: f32[1] = f()()", " " * (MAX_LINE + 1)],
)
def test_what_is_no_line(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        read_line(text)


def test_a_path_can_be_printed() -> None:
    with pytest.raises(ValueError, match="printed"):
        read_line("y: f32[1] = f(x)  # a\x1b[2J")

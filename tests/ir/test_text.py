import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import hold_to_text
from vitgraph.ir.parser import TextError, parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program

TEXT = """# program: tiny
# form: canonical
x: f32[N, 4, 8] = input()
fc_weight: f32[8, 8] = weight("fc.weight")
linear: f32[N, 4, 8] = aten.linear.default(x, fc_weight, None)  # fc
mul: f32[N, 4, 8] = aten.mul.Tensor(linear, 0.5)
linear_1: f32[N, 4, 8] = aten.linear.default(mul, fc_weight, None)  # fc
cat: f32[N, 8, 8] = aten.cat.default([linear, linear_1], 1)
gelu: f32[N, 8, 8] = aten.gelu.default(cat, approximate='tanh')
to: f64[N, 8, 8] = aten.to.dtype(gelu, f64)
clamp: f64[N, 8, 8] = aten.clamp.default(to, -inf, 2)
unbind: (f64[N, 8], f64[N, 8], f64[N, 8], f64[N, 8], f64[N, 8], f64[N, 8], f64[N, 8], f64[N, 8]) = \
aten.unbind.int(clamp, 1)
getitem: f64[N, 8] = operator.getitem(unbind, 3)
return_([getitem, cat])
"""


def test_a_text_reads_back_to_itself() -> None:
    program = parse(TEXT)
    assert show(program) == TEXT
    hold_to_text(program)


def test_names_are_dealt_afresh() -> None:
    program = parse(TEXT.replace("linear_1", "other").replace("clamp:", "to_2:").replace("(clamp,", "(to_2,"))
    assert show(program) == TEXT


def test_a_weight_is_trained_and_a_constant_is_not() -> None:
    program = parse(TEXT)
    assert isinstance(program.tensor("fc.weight"), torch.nn.Parameter)
    constant = parse(TEXT.replace("weight(", "constant("))
    assert not isinstance(constant.tensor("fc.weight"), torch.nn.Parameter)
    assert show(constant) != TEXT


def test_the_path_of_a_node_is_its_comment() -> None:
    program = parse(TEXT)
    assert [node.meta["path"] for node in program.calls()][:3] == ["fc", "", "fc"]


def test_random_weights_are_those_of_the_seed() -> None:
    a, b, c = (parse(TEXT, seed=seed).tensor("fc.weight") for seed in (3, 3, 4))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("aten.mul.Tensor", "aten.mull.Tensor", "mull"),
        ("aten.mul.Tensor", "numpy.mul.Tensor", "is no operator"),
        ("(linear, 0.5)", "(linears, 0.5)", "not known yet"),
        ("mul: f32[N, 4, 8]", "mul: f33[N, 4, 8]", "is not a type"),
        ("mul: f32[N, 4, 8] =", "linear: f32[N, 4, 8] =", "given twice"),
        ("mul: f32[N, 4, 8] = aten", "mul = aten", "a line is"),
        ("(linear, 0.5)", "(linear, 0.5", "never closed"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(old: str, new: str, why: str) -> None:
    assert old in TEXT
    with pytest.raises(TextError, match=why) as caught:
        parse(TEXT.replace(old, new, 1))
    assert "line 6" in str(caught.value)


def test_a_text_without_an_output_is_named() -> None:
    with pytest.raises(TextError, match="return_"):
        parse(TEXT.replace("return_([getitem, cat])", ""))


def test_a_text_without_its_weights_is_named() -> None:
    with pytest.raises(TextError, match=r"fc\.weight"):
        parse(TEXT, {})


def test_violations_stand_under_their_lines() -> None:
    program = parse(TEXT)
    node = program.calls()[1]
    lines = show(program, {node: ["is not liked"]}).splitlines()
    assert lines[lines.index("#   ^ is not liked") - 1].startswith("mul: ")


def test_a_comment_sign_inside_a_string_is_no_comment() -> None:
    text = "x: f32[2] = input()\ny: f32[2] = aten.gelu.default(x, approximate='a#b')  # m\nreturn_(y)\n"
    (call,) = parse(text).calls()
    assert (call.kwargs["approximate"], call.meta["path"]) == ("a#b", "m")


@st.composite
def graphs(draw: st.DrawFn) -> str:
    """Random graphs of elementwise operators over values, weights and numbers, with one or more outputs."""
    shape = draw(st.sampled_from(["N, 3", "2, 3", "1, 3, 4"]))
    last = shape.split(",")[-1].strip()
    lines, names = [f"a: f32[{shape}] = input()", f"b: f32[{shape}] = input()"], ["a", "b"]
    for number in range(draw(st.integers(0, 4))):
        word = draw(st.sampled_from(["weight", "constant"]))
        lines.append(f'w{number}: f32[{last}] = {word}("part.{number}.w")')
    weights = [f"w{number}" for number in range(len(lines) - 2)]
    numbers = st.one_of(st.integers(-9, 9), st.floats(allow_nan=False, width=32)).map(repr)
    for number in range(draw(st.integers(1, 10))):
        left = draw(st.sampled_from(names))
        right = draw(st.one_of(st.sampled_from(names + weights), numbers))
        call = draw(
            st.sampled_from(
                [f"aten.add.Tensor({left}, {right})", f"aten.mul.Tensor({left}, {right})", f"aten.relu.default({left})"]
            )
        )
        path = draw(st.sampled_from(["", "  # blocks.0", "  # head"]))
        lines.append(f"v{number}: f32[{shape}] = {call}{path}")
        names.append(f"v{number}")
    outs = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3))
    lines.append(f"return_({outs[0] if len(outs) == 1 else '[' + ', '.join(outs) + ']'})")
    return "\n".join(lines)


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_random_graphs_read_back(text: str) -> None:
    program: Program = parse(text)
    hold_to_text(program)


@pytest.mark.parametrize(
    "text",
    [
        (
            "x: f32[1, 4] = input()\nsplit: (f32[1, 4]) = aten.split.Tensor(x, 4, 1)\n"
            "getitem: f32[1, 4] = operator.getitem(split, 0)\nreturn_((getitem,))\n"
        ),
        'x: f32[4] = input()\n_0_weight: f32[4] = weight("0.weight")\nadd: f32[4] = aten.add.Tensor(x, _0_weight)\nreturn_(add)\n',
    ],
)
def test_a_tuple_of_one_and_a_name_of_digits_read_back(text: str) -> None:
    shown = show(parse(text))
    assert shown.endswith(text)
    assert show(parse(shown)) == shown

"""Attentions classified, softmaxes listed, those without effect dropped, and none left where none may be."""

from typing import Any

import pytest
import torch

from tests.harness import check, hold_to_effect, ledger_findings, run
from vitgraph.errors import CheckFailed
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context, Effect
from vitgraph.passes.softmax_check import SoftmaxCheck

CLASSIFIER = """
x: f32[N, 8] = input()
w: f32[3, 8] = weight("head.weight")
y: f32[N, 3] = aten.linear.default(x, w, None)  # head
p: f32[N, 3] = aten.softmax.int(y, 1)  # softmax
return_(p)
"""
ATTENTION = """
q: f32[2, 2, 5, 4] = input()
k: f32[2, 2, 5, 4] = input()
v: f32[2, 2, 5, 4] = input()
y: f32[2, 2, 5, 4] = vitgraph.attention.default(q, k, v, None, 0.5)  # blocks.0.attn
return_(y)
"""
LINEAR = """
q: f32[2, 2, 5, 4] = input()
k: f32[2, 2, 5, 4] = input()
v: f32[2, 2, 5, 4] = input()
a: f32[2, 2, 5, 4] = aten.relu.default(q)
b: f32[2, 2, 5, 4] = aten.relu.default(k)
t: f32[2, 2, 4, 5] = aten.permute.default(b, [0, 1, 3, 2])
kv: f32[2, 2, 4, 4] = aten.matmul.default(t, v)
y: f32[2, 2, 5, 4] = aten.matmul.default(a, kv)  # context
return_(y)
"""
RELU = """
q: f32[2, 2, 5, 4] = input()
kt: f32[2, 2, 4, 5] = input()
v: f32[2, 2, 5, 4] = input()
s: f32[2, 2, 5, 5] = aten.matmul.default(q, kt)
r: f32[2, 2, 5, 5] = aten.relu.default(s)
y: f32[2, 2, 5, 4] = aten.matmul.default(r, v)  # attn
return_(y)
"""
HIDDEN = """
q: f32[2, 2, 5, 4] = input()
kt: f32[2, 2, 4, 5] = input()
v: f32[2, 2, 5, 4] = input()
s: f32[2, 2, 5, 5] = aten.matmul.default(q, kt)
e: f32[2, 2, 5, 5] = aten.exp.default(s)
z: f32[2, 2, 5, 1] = aten.sum.dim_IntList(e, [3], True)
p: f32[2, 2, 5, 5] = aten.div.Tensor(e, z)  # hidden
y: f32[2, 2, 5, 4] = aten.matmul.default(p, v)
return_(y)
"""
BY_RECIPROCAL = HIDDEN.replace(
    "p: f32[2, 2, 5, 5] = aten.div.Tensor(e, z)",
    "i: f32[2, 2, 5, 1] = aten.reciprocal.default(z)\np: f32[2, 2, 5, 5] = aten.mul.Tensor(i, e)",
)
IN_LINEAR = """
q: f32[2, 2, 5, 4] = input()
k: f32[2, 2, 5, 4] = input()
v: f32[2, 2, 5, 4] = input()
one: f32[2, 2, 5, 1] = input()
a: f32[2, 2, 5, 4] = aten.exp.default(q)
b: f32[2, 2, 5, 4] = aten.exp.default(k)
t: f32[2, 2, 4, 5] = aten.permute.default(b, [0, 1, 3, 2])
kv: f32[2, 2, 4, 4] = aten.matmul.default(t, v)
top: f32[2, 2, 5, 4] = aten.matmul.default(a, kv)
z: f32[2, 2, 4, 1] = aten.matmul.default(t, one)
bottom: f32[2, 2, 5, 1] = aten.matmul.default(a, z)
y: f32[2, 2, 5, 4] = aten.div.Tensor(top, bottom)  # context
return_(y)
"""


def found(text: str) -> list[dict[str, Any]]:
    context = Context()
    run(SoftmaxCheck(), parse(text), context)
    return ledger_findings(context)


@pytest.mark.parametrize(
    ("text", "attentions", "softmaxes"),
    [
        (ATTENTION, [("blocks.0.attn", "softmax")], [("blocks.0.attn", "attention")]),
        (LINEAR, [("context", "linear")], []),
        (RELU, [("attn", "other")], []),
        (CLASSIFIER, [], [("softmax", "softmax")]),
        (CLASSIFIER.replace("aten.softmax", "aten.log_softmax"), [], [("softmax", "log-softmax")]),
    ],
)
def test_classifies_and_lists(text: str, attentions: list[Any], softmaxes: list[Any]) -> None:
    entries = found(text)
    assert [(e["attention"], e["kind"]) for e in entries if "attention" in e] == attentions
    assert [(e["softmax"], e["spelling"]) for e in entries if "softmax" in e] == softmaxes


def test_points_to_the_recipe_for_models_without_softmax() -> None:
    assert [entry["recipe"] for entry in found(LINEAR) if "recipe" in entry] == ["trio"]
    for text in (ATTENTION, RELU, CLASSIFIER, IN_LINEAR):
        assert not [entry for entry in found(text) if "recipe" in entry]
    context = Context()
    run(SoftmaxCheck(require="softmax-free"), parse(LINEAR), context)
    assert not [entry for entry in ledger_findings(context) if "recipe" in entry]


@pytest.mark.parametrize(("text", "path"), [(HIDDEN, "hidden"), (BY_RECIPROCAL, "hidden"), (IN_LINEAR, "context")])
def test_finds_a_softmax_that_is_written_as_exp_over_sum(text: str, path: str) -> None:
    assert {"softmax": path, "spelling": "exp/sum"} in found(text)


@pytest.mark.parametrize(
    "text",
    [
        HIDDEN.replace("aten.div.Tensor(e, z)", "aten.mul.Tensor(e, z)"),  # no quotient
        HIDDEN.replace("aten.exp.default(s)", "aten.relu.default(s)"),  # no exponential
        HIDDEN.replace("dim_IntList(e,", "dim_IntList(s,"),  # another sum
    ],
)
def test_takes_nothing_else_for_a_hidden_softmax(text: str) -> None:
    assert [entry for entry in found(text) if "softmax" in entry] == []


def test_drops_the_softmax_of_one_element() -> None:
    before = """
x: f32[N, 4, 1] = input()
p: f32[N, 4, 1] = aten.softmax.int(x, 2)
return_(p)
"""
    after = """
x: f32[N, 4, 1] = input()
mul: f32[N, 4, 1] = aten.mul.Tensor(x, 0)
add: f32[N, 4, 1] = aten.add.Tensor(mul, 1)
return_(add)
"""
    check(SoftmaxCheck(), before, after)


@pytest.mark.parametrize("tokens", [1, 5])
def test_an_attention_over_one_key_is_its_value(tokens: int) -> None:
    before = f"""
q: f32[N, 2, {tokens}, 4] = input()
k: f32[N, 2, 1, 4] = input()
v: f32[N, 2, 1, 4] = input()
y: f32[N, 2, {tokens}, 4] = vitgraph.attention.default(q, k, v, None, 0.5)
return_(y)
"""
    head, _, _ = before.partition("y:")
    expand = f"e: f32[N, 2, {tokens}, 4] = aten.expand.default(v, [-1, -1, {tokens}, -1])\nreturn_(e)"
    check(SoftmaxCheck(), before, head + ("return_(v)" if tokens == 1 else expand))


def test_a_sum_over_what_stands_for_every_query_may_round_otherwise() -> None:
    """The expanded value lies otherwise in memory than the attention's: its reader adds up in another order."""
    text = """
q: f32[2, 4, 7, 8] = input()
k: f32[2, 4, 1, 8] = input()
v: f32[2, 4, 1, 8] = input()
a: f32[2, 4, 7, 8] = vitgraph.attention.default(q, k, v, None, 0.5)
y: f32[2, 8] = aten.sum.dim_IntList(a, [1, 2])
return_(y)
"""
    program = parse(text)
    hold_to_effect(SoftmaxCheck(), program, run(SoftmaxCheck(), program))


@pytest.mark.parametrize(
    ("value", "call"),
    [
        ("f32[1, 2, 1, 4]", "q, k, v, None, 0.5"),  # one value for the whole batch
        ("f32[3, 2, 1, 4]", "q, k, v, None, 0.5, s"),  # a quantized softmax rounds its 1
    ],
)
def test_leaves_one_key_where_the_value_alone_is_something_else(value: str, call: str) -> None:
    text = f"""
q: f32[3, 2, 5, 4] = input()
k: f32[3, 2, 1, 4] = input()
v: {value} = input()
{'s: f32[1] = weight("s")' if "s" in call else ""}
y: f32[3, 2, 5, 4] = vitgraph.attention.default({call})
return_(y)
"""
    check(SoftmaxCheck(), text, text)


def test_leaves_a_softmax_over_more_than_one() -> None:
    check(SoftmaxCheck(), CLASSIFIER, CLASSIFIER)


@pytest.mark.parametrize("spelling", ["softmax", "log_softmax"])
def test_drops_the_last_softmax_when_asked_and_keeps_the_ranking(spelling: str) -> None:
    step = SoftmaxCheck(final=True)
    assert step.declares() is Effect.RANKING
    assert SoftmaxCheck().declares() is Effect.REORDERS
    head, _, _ = CLASSIFIER.partition("p:")
    check(step, CLASSIFIER.replace("aten.softmax", f"aten.{spelling}"), head + "return_(y)")


def test_the_ranking_is_kept_where_the_softmax_rounds_to_ties() -> None:
    text = """
x: f32[N, 50] = input()
y: f32[N, 50] = aten.mul.Tensor(x, 300.0)
p: f32[N, 50] = aten.softmax.int(y, 1)
return_(p)
"""
    head, _, _ = text.partition("p:")
    check(SoftmaxCheck(final=True), text, head + "return_(y)")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("aten.softmax.int(y, 1)", "aten.softmax.int(y, 0)"),  # over the images
        ("return_(p)", "z: f32[N, 3] = aten.mul.Tensor(p, 2.0)\nreturn_([p, z])"),  # read elsewhere too
    ],
)
def test_keeps_a_last_softmax_that_matters(old: str, new: str) -> None:
    text = CLASSIFIER.replace(old, new)
    assert text != CLASSIFIER
    check(SoftmaxCheck(final=True), text, text)


def test_two_last_softmaxes_in_a_row_go_at_once() -> None:
    head, _, _ = CLASSIFIER.partition("p:")
    text = CLASSIFIER.replace("return_(p)", "r: f32[N, 3] = aten.softmax.int(p, 1)\nreturn_(r)")
    check(SoftmaxCheck(final=True), text, head + "return_(y)")


def test_names_every_softmax_where_none_may_be() -> None:
    text = ATTENTION.replace(
        "return_(y)",
        "z: f32[2, 2, 5, 4] = vitgraph.attention.default(y, k, v, None, 0.5)  # blocks.1.attn\nreturn_(z)",
    )
    with pytest.raises(CheckFailed) as failure:
        run(SoftmaxCheck(require="softmax-free"), parse(text))
    assert "2 softmax(es)" in str(failure.value)
    assert "blocks.0.attn" in str(failure.value)
    assert "blocks.1.attn" in str(failure.value)
    assert failure.value.exit_status == 1


def test_hidden_softmaxes_count_too() -> None:
    with pytest.raises(CheckFailed, match="hidden"):
        run(SoftmaxCheck(require="softmax-free"), parse(HIDDEN))


@pytest.mark.parametrize("text", [LINEAR, RELU])
def test_lets_a_softmax_free_model_pass(text: str) -> None:
    check(SoftmaxCheck(require="softmax-free"), text, text)


def test_one_that_is_dropped_does_not_count() -> None:
    run(SoftmaxCheck(final=True, require="softmax-free"), parse(CLASSIFIER))
    with pytest.raises(CheckFailed):
        run(SoftmaxCheck(require="softmax-free"), parse(CLASSIFIER))


@pytest.mark.slow
def test_deit_lists_twelve() -> None:
    from vitgraph.frontend.capture import capture
    from vitgraph.frontend.models import load_model
    from vitgraph.passes import pipeline

    model = load_model("deit_tiny_patch16_224", weights="random")
    program = capture(model.module, torch.zeros(1, *model.input_shape))
    context = Context()
    pipeline("canonicalize,fold-constants,fuse-attention,softmax-check").run(program, context)
    assert sum("softmax" in entry for entry in ledger_findings(context)) == 12
    assert [entry["kind"] for entry in ledger_findings(context) if "kind" in entry] == ["softmax"] * 12

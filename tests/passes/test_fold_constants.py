import pytest
import torch

from tests.harness import check, run
from vitgraph.ir.parser import parse
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.fold_constants import FoldConstants

BIAS = """
x: f32[N, 3, 4, 4] = input()
table: f32[9, 3] = weight("attn.table")
where: i64[16] = constant("attn.index")
index: f32[16, 3] = aten.index.Tensor(table, [where])  # attn
reshape: f32[4, 4, 3] = aten.reshape.default(index, [4, 4, 3])  # attn
permute: f32[3, 4, 4] = aten.permute.default(reshape, [2, 0, 1])  # attn
add: f32[N, 3, 4, 4] = aten.add.Tensor(x, permute)  # attn
return_(add)
"""


def test_folds_a_position_bias_into_one_constant() -> None:
    after = """
x: f32[N, 3, 4, 4] = input()
folded: f32[3, 4, 4] = constant("attn.folded")
add: f32[N, 3, 4, 4] = aten.add.Tensor(x, folded)
return_(add)
"""
    check(FoldConstants(), BIAS, after)


def test_a_weight_laid_out_anew_can_still_be_trained() -> None:
    before = """
x: f32[2, 8] = input()
w: f32[8, 3] = weight("fc.weight")
permute: f32[3, 8] = aten.permute.default(w, [1, 0])
linear: f32[2, 3] = aten.linear.default(x, permute, None)
return_(linear)
"""
    after = """
x: f32[2, 8] = input()
w: f32[3, 8] = weight("fc.weight_1")
linear: f32[2, 3] = aten.linear.default(x, w, None)
return_(linear)
"""
    check(FoldConstants(), before, after)


def test_leaves_what_would_be_nan() -> None:
    """The variance of one number is NaN in torch, and no weight may be."""
    text = """
x: f32[2, 3] = input()
w: f32[1, 3] = weight("w")
var: f32[3] = aten.var.correction(w, [0], correction=1)
add: f32[2, 3] = aten.add.Tensor(x, var)
return_(add)
"""
    check(FoldConstants(), text, text)


def test_old_tensors_are_not_written_over() -> None:
    program = parse(BIAS)
    old = program.tensor("attn.table").clone()
    run(FoldConstants(), program)
    assert torch.equal(program.tensor("attn.table"), old)


@pytest.mark.parametrize("operator", ["vitgraph.mask.default(w, keep)", "vitgraph.fake_quantize.default(w, s, 0)"])
def test_leaves_masks_and_quantizers_on_weights(operator: str) -> None:
    text = f"""
x: f32[2, 8] = input()
w: f32[8, 8] = weight("fc.weight")
keep: bool[8, 8] = constant("keep")
s: f32[8] = constant("s")
y: f32[8, 8] = {operator}
linear: f32[2, 8] = aten.linear.default(x, y, None)
return_(linear)
"""
    program = parse(text)
    before = str(program)
    FoldConstants().run(program, Context())
    program.clean()
    assert str(program) == before


EXPANDED = """
x: f32[64, 2, 1024] = input()
cls: f32[1, 1, 1024] = weight("cls")
expand: f32[64, 2, 1024] = aten.expand.default(cls, [64, 2, 1024])
cat: f32[64, 4, 1024] = aten.cat.default([expand, x], 1)
return_(cat)
"""


def test_does_not_blow_up_what_is_expanded() -> None:
    check(FoldConstants(), EXPANDED, EXPANDED)


def test_blows_it_up_where_told_to() -> None:
    after = """
x: f32[64, 2, 1024] = input()
folded: f32[64, 2, 1024] = constant("folded")
cat: f32[64, 4, 1024] = aten.cat.default([folded, x], 1)
return_(cat)
"""
    check(FoldConstants(max_growth=1000), EXPANDED, after)


def test_a_bias_of_attention_is_folded_however_large() -> None:
    before = """
x: f32[64, 2, 32, 32] = input()
b: f32[1, 1, 32, 32] = weight("b")
expand: f32[64, 2, 32, 32] = aten.expand.default(b, [64, 2, 32, 32])
add: f32[64, 2, 32, 32] = aten.add.Tensor(x, expand)
softmax: f32[64, 2, 32, 32] = aten.softmax.int(add, 3)
return_(softmax)
"""
    after = """
x: f32[64, 2, 32, 32] = input()
folded: f32[64, 2, 32, 32] = constant("folded")
add: f32[64, 2, 32, 32] = aten.add.Tensor(x, folded)
softmax: f32[64, 2, 32, 32] = aten.softmax.int(add, 3)
return_(softmax)
"""
    check(FoldConstants(), before, after)


def test_constants_without_values_are_folded_to_their_types() -> None:
    result = Pipeline((FoldConstants(),)).run(parse(BIAS).to("meta"))
    assert len(result.calls()) == 1
    (folded,) = result.tensors().values()
    assert (folded.is_meta, folded.shape) == (True, (3, 4, 4))

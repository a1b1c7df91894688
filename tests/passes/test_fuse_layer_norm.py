import pytest

from tests.harness import check
from vitgraph.passes.fuse_layer_norm import FuseLayerNorm

WRITTEN_OUT = """
x: f32[N, 16, 8] = input()
mean: f32[N, 16, 1] = aten.mean.dim(x, [2], True)
sub: f32[N, 16, 8] = aten.sub.Tensor(x, mean)
pow: f32[N, 16, 8] = aten.pow.Tensor_Scalar(sub, 2)
mean_1: f32[N, 16, 1] = aten.mean.dim(pow, [2], True)
add: f32[N, 16, 1] = aten.add.Tensor(mean_1, 1e-05)
sqrt: f32[N, 16, 1] = aten.sqrt.default(add)
div: f32[N, 16, 8] = aten.div.Tensor(sub, sqrt)
gamma: f32[8] = weight("gamma")
mul: f32[N, 16, 8] = aten.mul.Tensor(div, gamma)
beta: f32[8] = weight("beta")
add_1: f32[N, 16, 8] = aten.add.Tensor(mul, beta)
return_(add_1)
"""
FUSED = """
x: f32[N, 16, 8] = input()
gamma: f32[8] = weight("gamma")
beta: f32[8] = weight("beta")
layer_norm: f32[N, 16, 8] = aten.layer_norm.default(x, [8], gamma, beta, 1e-05)
return_(layer_norm)
"""
BY_VAR = """
x: f32[2, 16, 8] = input()
mean: f32[2, 16, 1] = aten.mean.dim(x, [2], True)
sub: f32[2, 16, 8] = aten.sub.Tensor(x, mean)
var: f32[2, 16, 1] = aten.var.correction(x, [2], correction=0, keepdim=True)
add: f32[2, 16, 1] = aten.add.Tensor(var, 1e-06)
rsqrt: f32[2, 16, 1] = aten.rsqrt.default(add)
mul: f32[2, 16, 8] = aten.mul.Tensor(sub, rsqrt)
return_(mul)
"""
CHANNELS_FIRST = """
x: f32[2, 8, 4, 4] = input()
mean: f32[2, 1, 4, 4] = aten.mean.dim(x, [1], True)
sub: f32[2, 8, 4, 4] = aten.sub.Tensor(x, mean)
mul: f32[2, 8, 4, 4] = aten.mul.Tensor(sub, sub)
mean_1: f32[2, 1, 4, 4] = aten.mean.dim(mul, [1], True)
add: f32[2, 1, 4, 4] = aten.add.Tensor(mean_1, 1e-06)
sqrt: f32[2, 1, 4, 4] = aten.sqrt.default(add)
div: f32[2, 8, 4, 4] = aten.div.Tensor(sub, sqrt)
g: f32[8, 1, 1] = weight("g")
mul_1: f32[2, 8, 4, 4] = aten.mul.Tensor(div, g)
return_(mul_1)
"""
RMS = """
x: f32[2, 16, 8] = input()
pow: f32[2, 16, 8] = aten.pow.Tensor_Scalar(x, 2)
mean: f32[2, 16, 1] = aten.mean.dim(pow, [2], True)
add: f32[2, 16, 1] = aten.add.Tensor(mean, 1e-06)
rsqrt: f32[2, 16, 1] = aten.rsqrt.default(add)
mul: f32[2, 16, 8] = aten.mul.Tensor(x, rsqrt)
gamma: f32[8] = weight("gamma")
mul_1: f32[2, 16, 8] = aten.mul.Tensor(mul, gamma)
return_(mul_1)
"""


def test_fuses_a_layer_norm_written_out() -> None:
    check(FuseLayerNorm(), WRITTEN_OUT, FUSED)


def test_fuses_by_variance_without_affine_map() -> None:
    after = """
x: f32[2, 16, 8] = input()
layer_norm: f32[2, 16, 8] = aten.layer_norm.default(x, [8], None, None, 1e-06)
return_(layer_norm)
"""
    check(FuseLayerNorm(), BY_VAR, after)


def test_refuses_the_unbiased_variance() -> None:
    text = BY_VAR.replace("correction=0", "correction=1")
    (refusal,) = check(FuseLayerNorm(), text, text)
    assert "unbiased" in refusal.why


def test_fuses_over_channels_in_front() -> None:
    after = """
x: f32[2, 8, 4, 4] = input()
g: f32[8, 1, 1] = weight("g")
reshape: f32[8] = aten.reshape.default(g, [8])
permute: f32[2, 4, 4, 8] = aten.permute.default(x, [0, 2, 3, 1])
layer_norm: f32[2, 4, 4, 8] = aten.layer_norm.default(permute, [8], reshape, None, 1e-06)
permute_1: f32[2, 8, 4, 4] = aten.permute.default(layer_norm, [0, 3, 1, 2])
return_(permute_1)
"""
    check(FuseLayerNorm(), CHANNELS_FIRST, after)


def test_fuses_an_rms_norm() -> None:
    after = """
x: f32[2, 16, 8] = input()
gamma: f32[8] = weight("gamma")
rms_norm: f32[2, 16, 8] = aten.rms_norm.default(x, [8], gamma, 1e-06)
return_(rms_norm)
"""
    check(FuseLayerNorm(), RMS, after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("aten.mean.dim(pow, [2], True)", "aten.sum.dim_IntList(pow, [2], True)"),
        ("aten.pow.Tensor_Scalar(sub, 2)", "aten.pow.Tensor_Scalar(sub, 4)"),
        ("aten.div.Tensor(sub, sqrt)", "aten.div.Tensor(x, sqrt)"),
        ("add: f32[N, 16, 1] = aten.add.Tensor(mean_1, 1e-05)", "add: f32[N, 16, 1] = aten.mul.Tensor(mean_1, 1e-05)"),
    ],
)
def test_leaves_what_is_no_layer_norm(old: str, new: str) -> None:
    text = WRITTEN_OUT.replace(old, new)
    assert text != WRITTEN_OUT
    check(FuseLayerNorm(), text, text)


def test_a_weight_of_another_shape_stays_outside() -> None:
    text = WRITTEN_OUT.replace('gamma: f32[8] = weight("gamma")', 'gamma: f32[16, 1] = weight("gamma")')
    after = """
x: f32[N, 16, 8] = input()
layer_norm: f32[N, 16, 8] = aten.layer_norm.default(x, [8], None, None, 1e-05)
gamma: f32[16, 1] = weight("gamma")
mul: f32[N, 16, 8] = aten.mul.Tensor(layer_norm, gamma)
beta: f32[8] = weight("beta")
add: f32[N, 16, 8] = aten.add.Tensor(mul, beta)
return_(add)
"""
    check(FuseLayerNorm(), text, after)


def test_a_norm_along_the_batch_is_refused() -> None:
    text = """
x: f32[4, N] = input()
p: f32[4, N] = aten.mul.Tensor(x, x)
m: f32[4, 1] = aten.mean.dim(p, [1], True)
a: f32[4, 1] = aten.add.Tensor(m, 1e-06)
r: f32[4, 1] = aten.rsqrt.default(a)
y: f32[4, N] = aten.mul.Tensor(x, r)
return_(y)
"""
    (refusal,) = check(FuseLayerNorm(), text, text)
    assert "along the batch" in refusal.why

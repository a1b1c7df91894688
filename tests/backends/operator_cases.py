"""A tiny program for each operator of the dialect: lines of text whose types are filled in."""

import re

import torch

from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program, fill_types

X = "x: f32[2, 5, 8] = input()"
IMAGE = "x: f32[2, 4, 8, 6] = input()"

CASES: dict[str, str] = {
    "reshape": f"{X}; y = aten.reshape.default(x, [2, 5, 2, -1])",
    "permute": f"{X}; y = aten.permute.default(x, [0, -1, 1])",
    "expand": "x: f32[1, 5, 1] = input(); y = aten.expand.default(x, [3, -1, 4])",
    "slice": f"{X}; y = aten.slice.Tensor(x, 1, 1, 9223372036854775807, 2)",
    "slice_negative": f"{X}; y = aten.slice.Tensor(x, -1, -3, -1)",
    "select": f"{X}; y = aten.select.int(x, 1, -1)",
    "cat": f"{X}; y = aten.cat.default([x, x], -1)",
    "pad": f"{X}; y = aten.pad.default(x, [1, 2, 0, 3])",
    "pad_value": f"{X}; y = aten.pad.default(x, [1, 2], 'constant', 3.5)",
    "pad_crop": f"{X}; y = aten.pad.default(x, [-1, 2])",
    "pad_reflect": f"{IMAGE}; y = aten.pad.default(x, [1, 2, 3, 0], 'reflect')",
    "pad_replicate": f"{IMAGE}; y = aten.pad.default(x, [1, 2, 3, 0], 'replicate')",
    "roll": f"{IMAGE}; y = aten.roll.default(x, [-3, 2], [2, -1])",
    "roll_nothing": f"{IMAGE}; y = aten.roll.default(x, [8], [2]); z = aten.relu.default(y)",
    "flip": f"{IMAGE}; y = aten.flip.default(x, [1, -1])",
    "repeat": f"{X}; y = aten.repeat.default(x, [3, 1, 2, 1])",
    "index": f"i: i64[3, 2] = constant('i'); {X}; y = aten.index.Tensor(x, [None, i])",
    "index_two": f"i: i64[3, 1] = constant('i'); j: i64[4] = constant('j'); {X}; y = aten.index.Tensor(x, [None, i, j])",
    "index_of_batch": (
        "i: i64[2] = constant('i'); j: i64[2] = constant('j'); x: f32[N, 5, 8] = input(); "
        "m = aten.sub.Tensor(i, 1); y = aten.index.Tensor(x, [m, j])"
    ),
    "index_select": f"i: i64[3] = constant('i'); {X}; y = aten.index_select.default(x, 1, i)",
    "gather": f"i: i64[2, 5, 3] = constant('i'); {X}; y = aten.gather.default(x, -1, i)",
    "gather_part": f"i: i64[1, 4, 2] = constant('i'); {X}; y = aten.gather.default(x, 2, i)",
    "unfold": f"{X}; y = aten.unfold.default(x, -1, 3, 2)",
    "unfold_inner": f"{X}; y = aten.unfold.default(x, 1, 2, 1)",
    "im2col": f"{IMAGE}; y = aten.im2col.default(x, [3, 2], [1, 2], [1, 0], [2, 1])",
    "pixel_shuffle": f"{IMAGE}; y = aten.pixel_shuffle.default(x, 2)",
    "pixel_unshuffle": f"{IMAGE}; y = aten.pixel_unshuffle.default(x, 2)",
    "to": f"{X}; y = aten.to.dtype(x, f16); z = aten.to.dtype(y, f32)",
    "linear": f"w: f32[16, 8] = weight('w'); b: f32[16] = weight('b'); {X}; y = aten.linear.default(x, w, b)",
    "linear_no_bias": f"w: f32[16, 8] = weight('w'); {X}; y = aten.linear.default(x, w)",
    "linear_computed_weight": f"w: f32[16, 8] = weight('w'); {X}; v = aten.tanh.default(w); y = aten.linear.default(x, v)",
    "linear_masked": (
        f"w: f32[16, 8] = weight('w'); k: bool[16, 8] = constant('k'); {X}; "
        "m = vitgraph.mask.default(w, k); y = aten.linear.default(x, m)"
    ),
    "mask_computed": f"k: bool[8] = constant('k'); {X}; y = vitgraph.mask.default(x, k)",
    "conv1d": f"w: f32[6, 5, 3] = weight('w'); {X}; y = aten.conv1d.default(x, w, None, [2], [1], [1], 1)",
    "conv2d": (
        f"w: f32[8, 2, 3, 2] = weight('w'); b: f32[8] = weight('b'); {IMAGE}; "
        "y = aten.conv2d.default(x, w, b, [2, 1], [1, 2], [1, 2], 2)"
    ),
    "conv_transpose2d": (
        f"w: f32[4, 3, 2, 3] = weight('w'); {IMAGE}; "
        "y = aten.conv_transpose2d.input(x, w, None, [2, 2], [0, 1], [1, 0], 1, [1, 1])"
    ),
    "matmul": f"{X}; y = aten.permute.default(x, [0, 2, 1]); z = aten.matmul.default(x, y)",
    "einsum": f"w: f32[3, 8] = weight('w'); {X}; y = aten.einsum.default('bnc,kc -> bkn', [x, w])",
    "einsum_capitals": f"w: f32[3, 8] = weight('w'); {X}; y = aten.einsum.default('BNc,Kc->BKN', [x, w])",
    "embedding": "w: f32[7, 4] = weight('w'); x: i64[2, 3] = input(); y = aten.embedding.default(w, x)",
    "layer_norm": f"w: f32[8] = weight('w'); b: f32[8] = weight('b'); {X}; y = aten.layer_norm.default(x, [8], w, b, 1e-06)",
    "layer_norm_plain": f"{X}; y = aten.layer_norm.default(x, [5, 8], None, None, 1e-05)",
    "batch_norm": (
        "w: f32[4] = weight('w'); b: f32[4] = weight('b'); m: f32[4] = constant('m'); v: f32[4] = constant('v'); "
        f"{IMAGE}; y = aten.batch_norm.default(x, w, b, m, v, False, 0.1, 1e-05, False)"
    ),
    "batch_norm_half": (
        f"m: f32[4] = constant('m'); v: f32[4] = constant('v'); w: f32[4] = weight('w'); b: f32[4] = weight('b'); {IMAGE}; "
        "h = aten.to.dtype(x, f16); n = aten.batch_norm.default(h, w, b, m, v, False, 0.1, 1e-05, False); y = aten.mul.Tensor(n, 0.0)"
    ),
    "batch_norm_plain": (
        "m: f32[5] = constant('m'); v: f32[5] = constant('v'); "
        f"{X}; y = aten.batch_norm.default(x, None, None, m, v, False, 0.1, 1e-05, False)"
    ),
    "group_norm": f"w: f32[4] = weight('w'); b: f32[4] = weight('b'); {IMAGE}; y = aten.group_norm.default(x, 2, w, b, 1e-05)",
    "rms_norm": f"w: f32[8] = weight('w'); {X}; y = aten.rms_norm.default(x, [8], w, 1e-06)",
    "rms_norm_plain": f"{X}; y = aten.rms_norm.default(x, [8])",
    "vector_norm": f"{X}; y = aten.linalg_vector_norm.default(x, 2, [-1], True)",
    "vector_norm_largest": f"{X}; y = aten.linalg_vector_norm.default(x, inf, [1])",
    "sdpa": "x: f32[2, 3, 5, 8] = input(); y = aten.scaled_dot_product_attention.default(x, x, x)",
    "sdpa_mask": (
        "k: bool[3, 5, 5] = constant('k'); x: f32[2, 3, 5, 8] = input(); "
        "y = aten.scaled_dot_product_attention.default(x, x, x, k, 0.0, False, scale=0.3)"
    ),
    "sdpa_causal": "x: f32[2, 3, 5, 8] = input(); y = aten.scaled_dot_product_attention.default(x, x, x, None, 0.0, True)",
    "attention": "b: f32[3, 5, 5] = weight('b'); x: f32[2, 3, 5, 8] = input(); y = vitgraph.attention.default(x, x, x, b, 0.4)",
    "attention_unscaled": "x: f32[2, 5, 8] = input(); y = vitgraph.attention.default(x, x, x, None, 1.0)",
    "softmax": f"{X}; y = aten.softmax.int(x, 1)",
    "log_softmax": f"{X}; y = aten.log_softmax.int(x, -1)",
    "add": f"b: f32[8] = weight('b'); {X}; y = aten.add.Tensor(x, b, alpha=2)",
    "add_number": f"{X}; y = aten.add.Tensor(x, 3)",
    "add_promotes": f"b: f16[8] = weight('b'); {X}; y = aten.add.Tensor(x, b)",
    "sub": f"b: f32[5, 1] = weight('b'); {X}; y = aten.sub.Tensor(x, b)",
    "mul": f"{X}; y = aten.mul.Tensor(x, x)",
    "mul_number": f"{X}; y = aten.mul.Tensor(x, 0.125)",
    "div": f"{X}; y = aten.abs.default(x); z = aten.add.Tensor(y, 1.0); u = aten.div.Tensor(x, z)",
    "div_whole": "x: i64[4] = input(); y = aten.div.Tensor(x, 3)",
    "pow_two": f"{X}; y = aten.pow.Tensor_Scalar(x, 2)",
    "pow_three": f"{X}; y = aten.pow.Tensor_Scalar(x, 3)",
    "pow_tensors": f"{X}; a = aten.abs.default(x); y = aten.pow.Tensor_Tensor(a, x)",
    "fmod": f"{X}; s = aten.abs.default(x); y = aten.fmod.Tensor(x, s); z = aten.add.Tensor(s, 0.3); u = aten.fmod.Tensor(x, z)",
    "fmod_whole": "d: i64[4] = constant('d'); x: i64[4] = input(); m = aten.sub.Tensor(x, 2); e = aten.add.Tensor(d, 1); y = aten.fmod.Tensor(m, e)",
    "div_towards_zero": (
        "d: i64[4] = constant('d'); x: i64[4] = input(); m = aten.sub.Tensor(x, 2); e = aten.add.Tensor(d, 1); "
        "n = aten.eq.Scalar(e, -1); o: i64[] = constant('o'); w = aten.where.self(n, o, e); y = aten.div.Tensor_mode(m, w, rounding_mode='trunc')"
    ),
    "neg": f"{X}; y = aten.neg.default(x)",
    "exp": f"{X}; y = aten.exp.default(x)",
    "exp_whole": "x: i64[4] = input(); y = aten.exp.default(x)",
    "logs_and_roots": (
        f"{X}; a = aten.abs.default(x); p = aten.add.Tensor(a, 0.5); y = aten.log.default(p); z = aten.sqrt.default(p); "
        "r = aten.rsqrt.default(p); q = aten.reciprocal.default(p); u = aten.cat.default([y, z, r, q], 0); "
        "h = aten.pow.Tensor_Scalar(p, 0.5); v = aten.cat.default([u, h], 0)"
    ),
    "sin": f"{X}; y = aten.sin.default(x)",
    "cos": f"{X}; y = aten.cos.default(x)",
    "erf": f"{X}; y = aten.erf.default(x)",
    "floor": f"{X}; y = aten.floor.default(x)",
    "ceil": f"{X}; y = aten.ceil.default(x)",
    "sign": f"{X}; r = aten.relu.default(x); a = aten.sub.Tensor(x, r); n = aten.add.Tensor(a, r, alpha=-1); y = aten.sign.default(n)",
    "round": f"{X}; s = aten.mul.Tensor(x, 2.0); f = aten.floor.default(s); h = aten.mul.Tensor(f, 0.5); y = aten.round.default(h)",
    "maximum": f"b: f32[8] = weight('b'); {X}; y = aten.maximum.default(x, b); z = aten.minimum.default(y, x)",
    "clamp": f"{X}; y = aten.clamp.default(x, -0.5, 0.25)",
    "clamp_below": f"{X}; y = aten.clamp.default(x, 0.1)",
    "where": f"b: f32[8] = weight('b'); {X}; c = aten.gt.Tensor(x, b); y = aten.where.self(c, x, b)",
    "masked_fill": f"k: bool[5, 8] = constant('k'); {X}; y = aten.masked_fill.Scalar(x, k, -100.0)",
    "masked_fill_infinity": f"k: bool[5, 8] = constant('k'); {X}; y = aten.masked_fill.Scalar(x, k, -inf)",
    "comparisons": (
        f"b: f32[8] = weight('b'); {X}; l = aten.lt.Tensor(x, b); m = aten.le.Tensor(x, b); n = aten.ge.Tensor(x, b); "
        "a = aten.logical_and.default(l, m); o = aten.logical_or.default(a, n); t = aten.logical_not.default(l); "
        "c = aten.cat.default([a, o, t], 0); y = aten.to.dtype(c, f32)"
    ),
    "equal": (
        "x: i64[6] = input(); e = aten.eq.Scalar(x, 1); n = aten.ne.Scalar(x, 2); a = aten.logical_and.default(e, n); "
        "y = aten.to.dtype(a, f32)"
    ),
    "equal_tensors": (
        f"{X}; r = aten.relu.default(x); e = aten.eq.Tensor(x, r); n = aten.ne.Tensor(x, r); d = aten.ne.Tensor(e, n); "
        "c = aten.cat.default([e, n, d], 0); y = aten.to.dtype(c, f32)"
    ),
    "order_of_truth_values": (
        f"b: f32[8] = weight('b'); {X}; l = aten.lt.Tensor(x, b); g = aten.gt.Tensor(x, b); o = aten.le.Tensor(l, g); "
        "y = aten.to.dtype(o, f32)"
    ),
    "log2_quantize": f"s: f32[] = constant('scale'); {X}; y = vitgraph.log2_quantize.default(x, s, 'nearest', -3, 2)",
    "log2_quantize_no_codes": f"{X}; y = vitgraph.log2_quantize.default(x, None, 'bit', -6, 9)",
    "log2_quantize_half": (
        "s: f16[] = constant('scale'); x: f16[2, 5] = input(); y = vitgraph.log2_quantize.default(x, s, 'bit', -3, 2); "
        "z = aten.to.dtype(y, f32)"
    ),
    "gelu": f"{X}; y = aten.gelu.default(x)",
    "gelu_tanh": f"{X}; y = aten.gelu.default(x, approximate='tanh')",
    "relu": f"{X}; y = aten.relu.default(x)",
    "silu": f"{X}; y = aten.silu.default(x)",
    "sigmoid": f"{X}; y = aten.sigmoid.default(x)",
    "tanh": f"{X}; y = aten.tanh.default(x)",
    "hardswish": f"{X}; s = aten.mul.Tensor(x, 4.0); y = aten.hardswish.default(s)",
    "hardsigmoid": f"{X}; s = aten.mul.Tensor(x, 4.0); y = aten.hardsigmoid.default(s)",
    "leaky_relu": f"{X}; y = aten.leaky_relu.default(x, 0.2)",
    "elu": f"{X}; y = aten.elu.default(x, 0.7)",
    "elu_scaled": f"{X}; y = aten.elu.default(x, 1.5, 1.2)",
    "softplus": f"{X}; s = aten.mul.Tensor(x, 30.0); y = aten.softplus.default(s)",
    "softplus_threshold": f"{X}; y = aten.softplus.default(x, 1.0, 0.5)",
    "softplus_beta_threshold": f"{X}; y = aten.softplus.default(x, 2.0, -0.5)",
    "softplus_beta": f"{X}; y = aten.softplus.default(x, 2.0)",
    "mish": f"{X}; y = aten.mish.default(x)",
    "prelu": f"s: f32[5] = weight('s'); {X}; y = aten.prelu.default(x, s)",
    "prelu_single": f"s: f32[1] = weight('s'); {X}; y = aten.prelu.default(x, s)",
    "mean": f"{IMAGE}; y = aten.mean.dim(x, [-1, 2])",
    "mean_all": f"{X}; y = aten.mean.dim(x, None, True)",
    "sum": f"{X}; y = aten.sum.dim_IntList(x, [1], True)",
    "prod": f"{X}; y = aten.prod.dim_int(x, 1, True)",
    "amax": f"{X}; y = aten.amax.default(x, [1])",
    "amin": f"{X}; y = aten.amin.default(x, [-1], True)",
    "argmax": f"{X}; y = aten.argmax.default(x, -1)",
    "argmax_all": f"{X}; y = aten.argmax.default(x)",
    "var": f"{X}; y = aten.var.correction(x, [-1], correction=0, keepdim=True)",
    "var_unbiased": f"{X}; y = aten.var.correction(x, [1])",
    "cumsum": f"{X}; y = aten.cumsum.default(x, 1)",
    "topk": f"{X}; t: (f32[1], i64[1]) = aten.topk.default(x, 3); y = operator.getitem(t, 0)",
    "max_pool": f"{IMAGE}; y = aten.max_pool2d.default(x, [3, 3], [2, 2], [1, 1], [1, 1], False)",
    "max_pool_dilated": f"{IMAGE}; y = aten.max_pool2d.default(x, [3, 2], [3, 3], [1, 1], [2, 3], True)",
    "max_pool_ceil": f"{IMAGE}; y = aten.max_pool2d.default(x, [3, 3], [2, 2], [0, 0], [1, 1], True)",
    "avg_pool": f"{IMAGE}; y = aten.avg_pool2d.default(x, [3, 3], [1, 1], [1, 1], False, False)",
    "avg_pool_with_pads": f"{IMAGE}; y = aten.avg_pool2d.default(x, [3, 2], [2, 2], [1, 0])",
    "avg_pool_ceil": f"{IMAGE}; y = aten.avg_pool2d.default(x, [3, 3], [2, 2], [0, 0], True)",
    "avg_pool_divisor": f"{IMAGE}; y = aten.avg_pool2d.default(x, [2, 2], [2, 2], [0, 0], False, True, 3)",
    "adaptive_avg_pool_one": f"{IMAGE}; y = aten.adaptive_avg_pool2d.default(x, [1, 1])",
    "adaptive_avg_pool_even": f"{IMAGE}; y = aten.adaptive_avg_pool2d.default(x, [4, 3])",
    "adaptive_avg_pool_uneven": f"{IMAGE}; y = aten.adaptive_avg_pool2d.default(x, [3, 7])",
    "bilinear": f"{IMAGE}; y = aten.upsample_bilinear2d.vec(x, [16, 9], False, None)",
    "bilinear_corners": f"{IMAGE}; y = aten.upsample_bilinear2d.vec(x, [11, 9], True, None)",
    "bilinear_factors": f"{IMAGE}; y = aten.upsample_bilinear2d.vec(x, None, False, [2.0, 1.5])",
    "bilinear_fewer": f"{IMAGE}; y = aten.upsample_bilinear2d.vec(x, [8, 5], False, None)",
    "bilinear_rounded_factors": f"{IMAGE}; y = aten.upsample_bilinear2d.vec(x, None, False, [0.7, 0.9])",
    "nearest_twice": f"{IMAGE}; y = aten.upsample_nearest2d.vec(x, None, [2.0, 1.5])",
    "nearest_fewer": f"{IMAGE}; y = aten.upsample_nearest2d.vec(x, [7, 5], None)",
    "nearest_rounded_factors": f"{IMAGE}; y = aten._upsample_nearest_exact2d.vec(x, None, [0.7, 1.7])",
    "bicubic": f"{IMAGE}; y = aten.upsample_bicubic2d.vec(x, [5, 13], False, None)",
    "nearest": f"{IMAGE}; y = aten.upsample_nearest2d.vec(x, [11, 12], None)",
    "nearest_exact": f"{IMAGE}; y = aten._upsample_nearest_exact2d.vec(x, [11, 4], None)",
    "grid_sampler": (f"g: f32[2, 3, 5, 2] = constant('g'); {IMAGE}; y = aten.grid_sampler.default(x, g, 0, 0, False)"),
    "sizes": (
        "c: f32[1, 1, 8] = weight('c'); x: f32[N, 5, 8] = input(); n = aten.sym_size.int(x, 0); "
        "e = aten.expand.default(c, [n, -1, -1]); t = aten.cat.default([e, x], 1); y = aten.reshape.default(t, [n, 48])"
    ),
    "size_arithmetic": (
        "c: f32[1, 8] = weight('c'); x: f32[N, 6, 8] = input(); n: int[N] = aten.sym_size.int(x, 0); m: int[N] = operator.mul(n, 6); "
        "s: int[N] = operator.add(m, 4); d: int[N] = operator.sub(s, 4); h: int[N] = operator.floordiv(d, 2); e = aten.expand.default(c, [h, 8]); "
        "r = aten.reshape.default(x, [h, 2, 8]); u = aten.select.int(r, 1, 0); y = aten.add.Tensor(e, u)"
    ),
    "windows": (
        "x: f32[N, 4, 6, 8] = input(); r = aten.reshape.default(x, [-1, 2, 2, 3, 2, 8]); "
        "p = aten.permute.default(r, [0, 1, 3, 2, 4, 5]); y = aten.reshape.default(p, [-1, 4, 8])"
    ),
    "fake_quantize": f"s: f32[] = constant('s'); {X}; y = vitgraph.fake_quantize.default(x, s)",
    "fake_quantize_channels": f"s: f32[8] = constant('s'); {X}; y = vitgraph.fake_quantize.default(x, s, -1)",
    "fake_quantize_shifted": "s: f32[] = constant('s'); z: f32[8] = constant('z'); "
    f"{X}; y = vitgraph.fake_quantize.default(x, s, None, 'int8', z)",
    "fake_quantize_int4": f"s: f32[] = constant('s'); {X}; y = vitgraph.fake_quantize.default(x, s, None, 'int4')",
    "fake_quantize_fp8": f"s: f32[] = constant('s'); {X}; y = vitgraph.fake_quantize.default(x, s, None, 'fp8')",
    "dequantize_int4": (
        f"q: i8[5, 8] = constant('int4'); s: f32[5] = constant('s'); {X}; "
        "d = vitgraph.dequantize.default(q, s, 0, 'int4'); y = aten.add.Tensor(x, d)"
    ),
    "dequantize_fp8": (
        f"q: f8[5, 8] = constant('q'); s: f32[5] = constant('s'); {X}; "
        "d = vitgraph.dequantize.default(q, s, 0, 'fp8'); y = aten.add.Tensor(x, d)"
    ),
    "dequantize_groups": (
        f"q: i8[5, 8] = constant('int4'); s: f32[5, 2] = constant('s'); {X}; "
        "d = vitgraph.dequantize.default(q, s, 1, 'int4'); y = aten.add.Tensor(x, d)"
    ),
    "linear_of_groups": (
        f"w: f32[6, 8] = weight('w'); s: f32[6, 2] = constant('s'); {X}; "
        "d = vitgraph.fake_quantize.default(w, s, 1, 'int4'); y = aten.linear.default(x, d, None)"
    ),
    "attention_fp8": (
        "s: f32[] = constant('s'); x: f32[N, 2, 5, 8] = input(); "
        "y = vitgraph.attention.default(x, x, x, None, 0.5, s, 'fp8')"
    ),
    "dequantize": f"q: i8[5, 8] = constant('q'); s: f32[5] = constant('s'); {X}; d = vitgraph.dequantize.default(q, s, 0); y = aten.add.Tensor(x, d)",
}
"""Name of a case, and its lines."""


def build(lines: str) -> Program:
    """The program of `;`-separated lines: types filled in, indices and scales in range, the last line returned."""
    parts = [part.strip() for part in lines.split(";")]
    whole = [part if ": " in part.split("=")[0] else re.sub(r"^(\w+) =", r"\1: f32[1] =", part) for part in parts]
    last = whole[-1].split(":")[0]
    program = parse("\n".join(["# program: case", "# form: canonical", *whole, f"return_({last})"]) + "\n")
    for name, tensor in program.tensors().items():
        _put_in_range(name, tensor)
    fill_types(program)
    return program


def _put_in_range(name: str, tensor: torch.Tensor) -> None:
    """Indices that differ, INT8 values of the whole range, positive scales and variances."""
    with torch.no_grad():
        if tensor.dtype == torch.int64:
            tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) % 5)
        elif tensor.dtype == torch.int8:
            limit = 8 if name == "int4" else 128
            tensor.copy_(torch.randint(-limit, limit, tensor.shape, generator=torch.Generator().manual_seed(1)))
        elif tensor.dtype == torch.bool and tensor.dim() > 2:
            tensor[..., 0] = True  # a row of an attention mask that hides everything has no softmax
        elif name.startswith(("s", "v", "scale")) or name.endswith("scale"):
            tensor.abs_().add_(0.01)


def batch_for(program: Program, size: int = 2, seed: int = 0) -> torch.Tensor:
    """A random batch of the program's input type."""
    kind = program.input_types()[0]
    generator = torch.Generator().manual_seed(seed)
    if not kind.dtype.is_floating_point:
        return torch.randint(0, 4, kind.at(size), generator=generator).to(kind.dtype)
    return torch.randn(kind.at(size), generator=generator).to(kind.dtype)

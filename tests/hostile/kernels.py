"""Graphs that ask a kernel for what it goes wrong with, and lines that a reader would spend minutes on."""

from __future__ import annotations

from tests.hostile.case import Case, Commands

OPT: Commands = (("opt", "g.txt", "--pipeline", "canonicalize,fold-constants"),)
RUN: Commands = (
    ("inspect", "g.txt"),
    *OPT,
    ("bisect", "g.txt", "--pipeline", "canonicalize", "--check", "cosine>=0.99"),
    ("bisect", "g.txt", "--pipeline", "fold-constants", "--check", "cosine>=0.99"),
)


def graph(text: str) -> str:
    """A captured graph with this body, which gives y."""
    return f"# program: p\n# form: captured\n{text}\nreturn_(y)\n"


CHANNELS = 'x: f32[1, 30000000, 1, 1] = input()\nm: f32[1] = constant("m")\nv: f32[1] = constant("v")\n'
FIRST = "y: f32[1, 30000000, 1, 1] = operator.getitem(r, 0)"
KEYS = 'x: f32[1, 1, 4, 64] = input()\nk: f32[1, 1, 1, 64] = constant("k")\nv: f32[1, 1, 500000, 64] = constant("v")\n'
SMALL = "x: f32[1, 1, 4, 4] = input()\n"
STATISTICS = 'x: f32[2, 3, 4] = input()\nm: f32[3] = constant("m")\nv: f32[3] = constant("v")\n'
LEAST = (
    "x: i64[4] = input()\na: i64[4] = aten.full.default([4], -9223372036854775807, dtype=i64)\n"
    "b: i64[4] = aten.sub.Scalar(a, 1)\nc: i64[4] = aten.full.default([4], -1, dtype=i64)\n"
)
RUNS = {
    "statistics of one channel": CHANNELS
    + f"r: (f32[1, 30000000, 1, 1], f32[0], f32[0]) = aten.native_batch_norm.default(x, None, None, m, v, False, 0.1, 1e-05)\n{FIRST}",
    "statistics of one channel, outside training": CHANNELS
    + f"r: (f32[1, 30000000, 1, 1], f32[0], f32[0]) = aten._native_batch_norm_legit_no_training.default(x, None, None, m, v, 0.1, 1e-05)\n{FIRST}",
    "more values than keys": KEYS
    + "y: f32[1, 1, 4, 64] = aten.scaled_dot_product_attention.default(x, k, v, None, 0.0, False)",
    "more values than keys, of the flash kernel": KEYS
    + "r: (f32[1, 1, 4, 64], f32[1, 1, 4]) = aten._scaled_dot_product_flash_attention_for_cpu.default(x, k, v)\n"
    + "y: f32[1, 1, 4, 64] = operator.getitem(r, 0)",
    "a scale of nothing": SMALL
    + "y: f32[1, 1, 3, 3] = aten._upsample_bicubic2d_aa.default(x, [3, 3], False, 1e-12, 1e-12)",
    "a scale that leads beyond the image": SMALL
    + "y: f32[1, 1, 8, 2] = aten._upsample_bilinear2d_aa.default(x, [8, 2], False, 0.5, None)",
    "a way to sample that is none": 'x: f32[1, 2, 2, 2, 2] = input()\ng: f32[1, 2, 2, 2, 3] = constant("g")\n'
    + "y: f32[1, 2, 2, 2, 2] = aten.grid_sampler.default(x, g, -1, 0, False)",
    "a type of TorchScript's": "x: f32[3] = input()\ny: f32[3] = aten.to.prim_dtype(x)",
    "statistics that are written": STATISTICS
    + "y: f32[2, 3, 4] = aten.batch_norm.default(x, None, None, m, v, True, 0.1, 1e-05, False)",
    "statistics that are written, an image each": STATISTICS
    + "y: f32[2, 3, 4] = aten.instance_norm.default(x, None, None, m, v, True, 0.1, 1e-05, False)",
    "the least number by -1": LEAST
    + 'd: i64[4] = aten.div.Tensor_mode(b, c, rounding_mode="trunc")\ny: i64[4] = aten.add.Tensor(x, d)',
    "the least number by the number -1": LEAST
    + 'd: i64[4] = aten.div.Scalar_mode(b, -1, rounding_mode="trunc")\ny: i64[4] = aten.add.Tensor(x, d)',
}
SLOW = {
    "quotes that are never closed": "x: f32[1] = aten.relu.default(" + "\\'" * 49_000,
    "digits before a letter": "x: f32[1] = aten.relu.default(" + "9" * 98_000 + "a",
    "spaces before the end": "x: f32[1] = aten.relu.default(" + " " * 98_000,
    "spaces in a size": "x: f32[N" + " " * 98_000 + "x] = input()",
}


def cases() -> list[Case]:
    """All of them."""
    runs = [Case(f"kernel: {name}", {"g.txt": graph(text)}, RUN) for name, text in RUNS.items()]
    return runs + [Case(f"slow line: {name}", {"g.txt": f"{text}\n" * 3}, OPT) for name, text in SLOW.items()]

"""Short names of the reasons why a product is not in INT8, a softmax is not fused or an attention is not in INT8."""

from vitgraph.ir.dialect import aten
from vitgraph.passes.quantization.left_in_float import LEFT_ALONE, MANY_WEIGHTS, NO_SITES

REASONS = {
    **LEFT_ALONE,
    "conv1d": NO_SITES[aten.conv1d.default],
    "transposed": NO_SITES[aten.conv_transpose2d.input],
    "many-weights": MANY_WEIGHTS,
    "joined-scores": "its scores are taken apart and joined again",
    "talking-heads": "a layer mixes its heads between the products",
    "softmax-over-tokens": "the softmax is not over the last dimension",
    "chosen": "the softmax's result goes into aten.topk.default",
    "softmax-of-a-factor": "the softmax's result goes into aten.mul.Tensor",
    "samples": "its softmax weighs points sampled from an image",
    "channels": "it attends to channels",
    "float-output": "its output does not go into a quantized linear",
    "one-query": "1 query, fewer than 2",
    "one-head": "1 head",
    "value-dim": "differs from head dim",
    "head-dim": "head dim ",
}
"""Each with what its text has in it; the first that fits names it."""

"""The passes by name, and the one place that says in which order they run, and why."""

if __name__ != "vitgraph.passes":
    raise ImportError(f"import vitgraph.passes, not {__name__}")

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from vitgraph.domains import shortened
from vitgraph.errors import InputError
from vitgraph.pass_manager.former_names import PASSES
from vitgraph.pass_manager.pass_contract import Pass
from vitgraph.pass_manager.pipeline import Pipeline, parse_pipeline

ORDER: Mapping[str, str] = {
    # name: module and class             # why it stands here
    "canonicalize": "canonicalize.canonicalize:Canonicalize",  # one spelling per operator; everything below relies on it
    "fold-constants": "fold_constants:FoldConstants",  # position biases and masks become weights that patterns can see
    "fold-batch-norm": "fold_batch_norm:FoldBatchNorm",  # before masks and scales are chosen for the folded weights
    "fuse-layer-norm": "fuse_layer_norm:FuseLayerNorm",  # FP16 overflows in a layer norm written by hand
    "fold-layer-scale": "fold_layer_scale:FoldLayerScale",  # after norms are fused, whose factors are their own; before masks and scales, which are chosen for the folded weights
    "fuse-attention": "fuse_attention:FuseAttention",  # before quantizing: scales belong around the whole attention
    "softmax-check": "softmax_check:SoftmaxCheck",  # reads fused attentions; decides which recipe applies
    "reassociate-linear-attention": "reassociate_linear_attention:ReassociateLinearAttention",  # before quantizing: scales are chosen for the products that stay
    "block-prune": "pruning.block_prune:BlockPrune",  # before all that chooses among channels, of which it may leave fewer
    "remove-pruned": "pruning.remove_pruned:RemovePruned",  # after tiles are masked; before N:M, which counts in the K that is left
    "hold-patterns": "sparsity.hold_patterns:HoldPatterns",  # after units left, for groups are counted in the K that is left; before all that would move or fill zeros
    "split-outliers": "quantization.split_outliers:SplitOutliers",  # before masks: the new columns are masked with the others
    "permute-channels": "sparsity.permute_channels:PermuteChannels",  # before masks: which channels stand together decides what they keep
    "nm-mask": "sparsity.nm_mask:NmMask",  # before quantizing: scales are chosen for the weights that stay
    "balance-attention": "quantization.balance_attention:BalanceAttention",  # before smooth-quant, which equalizes what is left for it
    "smooth-quant": "quantization.smooth_quant:SmoothQuant",  # before scales are chosen, after masks: it multiplies weights and leaves their order in a row
    "equalize-outputs": "quantization.equalize_outputs:EqualizeOutputs",  # after smooth-quant: it divides the rows that smooth-quant measured
    "channel-migrate": "quantization.channel_migrate:ChannelMigrate",  # before scales are chosen: it equalizes what they are chosen for
    "filter-shift": "quantization.filter_shift:FilterShift",  # before scales are chosen: it halves what they have to cover
    "quantize": "quantization.quantize:Quantize",  # before types: calibration runs in FP32
    "quantize-linear-attention": "quantization.quantize_linear_attention:QuantizeLinearAttention",  # sees which readers quantize already
    "mixed-precision": "precision.mixed_precision:MixedPrecision",  # before weights are fitted: read past its pair, a weight must be the one in floating point
    "reconstruct": "quantization.reconstruct:Reconstruct",  # after quantizing: it fits weights to the scales; before types: in FP32
    "absorb-shifts": "quantization.absorb_shifts:AbsorbShifts",  # after weights are fitted: biases make up for shifts through the weights that stay
    "assign-precision": "precision.assign_precision:AssignPrecision",  # after quantizing: it leaves quantized products in FP32
    "materialize": "quantization.materialize:Materialize",  # after everything that may still choose weights
    "legalize": "legalize:Legalize",  # last: only what the target can run
}
"""Every pass of vitgraph, in the order in which a recipe uses them."""


@cache
def all_passes() -> Mapping[str, str]:
    """Name of every pass, vitgraph's own in order and then those of other packages, and where its class is.

    Other packages offer passes through the entry-point group `vitgraph.passes`.
    """
    own = {name: f"vitgraph.passes.{place}" for name, place in ORDER.items()}
    others = {point.name: point.value for point in entry_points(group="vitgraph.passes")}
    return {**own, **{name: place for name, place in others.items() if name not in own}}


def find_pass(name: str) -> type[Pass]:
    """The class of a pass; `InputError` lists near misses for a name that is not known."""
    place = all_passes().get(name)
    if name in PASSES:
        raise InputError(f"the pass {name!r} is called {PASSES[name]!r} now")
    if place is None:
        close = get_close_matches(name, all_passes(), 3)
        hint = f"did you mean {', '.join(close)}?" if close else "`vitgraph passes` lists them"
        raise InputError(f"there is no pass {shortened(name)}; {hint}")
    module, _, attribute = place.partition(":")
    found: type[Pass] = getattr(import_module(module), attribute)
    return found


def pipeline(text: str) -> Pipeline:
    """Read a pipeline's text, such as `canonicalize,fuse-attention`, with every pass known here."""
    return parse_pipeline(text, find_pass)

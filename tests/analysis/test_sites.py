"""Sites: roles are read off the data flow, alike for every way a model is written; selectors say what they miss."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import import_module

import pytest
import torch
from torch import nn

from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, Sites, find_sites
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.passes import pipeline

STEPS = "canonicalize,fold-constants,fuse-layer-norm,fuse-attention"


@cache
def vit_sites() -> Sites:
    """Of timm's ViT, found once."""
    return sites_of(timm_vit())


def sites_of(model: nn.Module, size: int = 32) -> Sites:
    return find_sites(pipeline(STEPS).run(capture(model, torch.zeros(1, 3, size, size))))


def timm_vit() -> nn.Module:
    from timm import create_model

    return create_model("vit_tiny_patch16_224", depth=2, img_size=32, pretrained=False)


def timm_swin() -> nn.Module:
    from timm import create_model

    return create_model("swin_tiny_patch4_window7_224", depths=(2, 2), num_heads=(3, 6), img_size=56, pretrained=False)


def torchvision(name: str) -> Callable[..., nn.Module]:
    """A class of torchvision, which has no annotations."""
    found: Callable[..., nn.Module] = getattr(import_module("torchvision.models"), name)
    return found


def torchvision_vit() -> nn.Module:
    vit = torchvision("VisionTransformer")
    return vit(image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64)


def torchvision_swin() -> nn.Module:
    return torchvision("SwinTransformer")([4, 4], 24, [2, 2], [2, 4], [4, 4])


VIT = {"patch-embed": 1, "qkv": 2, "proj": 2, "fc1": 2, "fc2": 2, "head": 1}
SWIN = {"patch-embed": 1, "qkv": 4, "proj": 4, "fc1": 4, "fc2": 4, "merge": 1, "head": 1}


@pytest.mark.parametrize(
    ("make", "size", "roles"),
    [(timm_vit, 32, VIT), (timm_swin, 56, SWIN), (torchvision_vit, 32, VIT), (torchvision_swin, 32, SWIN)],
)
def test_roles_of_whole_models(make: Callable[[], nn.Module], size: int, roles: dict[str, int]) -> None:
    found = sites_of(make(), size)
    assert Counter(site.role for site in found.linears) == roles
    assert len(found.attentions) == roles["qkv"]
    assert len(found.residuals) >= 2 * roles["qkv"]


def test_paths_and_shapes() -> None:
    found = vit_sites()
    by_path = {site.path: site for site in found.linears}
    fc1, qkv, embed = by_path["blocks.1.mlp.fc1"], by_path["blocks.0.attn.qkv"], by_path["patch_embed.proj"]
    assert (fc1.role, fc1.k, fc1.n, fc1.is_conv) == ("fc1", 192, 768, False)
    assert (qkv.role, qkv.k, qkv.n) == ("qkv", 192, 576)
    assert (embed.role, embed.k, embed.n, embed.is_conv) == ("patch-embed", 768, 192, True)
    attention = found.attentions[0]
    assert (attention.heads, attention.head_dim, attention.tokens, attention.bias) == (3, 64, 5, False)
    assert attention.path == "blocks.0.attn"


def test_swin_attention_has_a_bias() -> None:
    assert all(site.bias for site in sites_of(timm_swin(), 56).attentions)


ATTENTION = """
# form: canonical
x: f32[1, 4, 8] = input()
wq: f32[8, 8] = weight("q")
wk: f32[8, 8] = weight("k")
wv: f32[8, 8] = weight("v")
wo: f32[8, 8] = weight("o")
q: f32[1, 4, 8] = aten.linear.default(x, wq, None)  # one
k: f32[1, 4, 8] = aten.linear.default(x, wk, None)  # two
v: f32[1, 4, 8] = aten.linear.default(x, wv, None)  # three
qh: f32[1, 2, 4, 4] = aten.reshape.default(q, [1, 2, 4, 4])
kh: f32[1, 2, 4, 4] = aten.reshape.default(k, [1, 2, 4, 4])
vh: f32[1, 2, 4, 4] = aten.reshape.default(v, [1, 2, 4, 4])
a: f32[1, 2, 4, 4] = vitgraph.attention.default(qh, kh, vh, None, 0.5)
r: f32[1, 4, 8] = aten.reshape.default(a, [1, 4, 8])
o: f32[1, 4, 8] = aten.linear.default(r, wo, None)  # four
s: f32[1, 4, 8] = aten.add.Tensor(o, x)
t: f32[1, 4, 8] = aten.add.Tensor(s, o)
return_(t)
"""

GATED = """
# form: canonical
x: f32[4, 8] = input()
w: f32[32, 8] = weight("w")
w2: f32[8, 16] = weight("w2")
h: f32[4, 32] = aten.linear.default(x, w, None)  # in
left: f32[4, 16] = aten.slice.Tensor(h, 1, 0, 16)
right: f32[4, 16] = aten.slice.Tensor(h, 1, 16, 32)
act: f32[4, 16] = aten.silu.default(left)
gated: f32[4, 16] = aten.mul.Tensor(act, right)
y: f32[4, 8] = aten.linear.default(gated, w2, None)  # out
z: f32[4, 8] = aten.relu.default(y)
return_(z)
"""

CONVOLUTIONS = """
# form: canonical
x: f32[1, 8, 6, 6] = input()
a: f32[8, 1, 3, 3] = weight("a")
b: f32[16, 8, 1, 1] = weight("b")
c: f32[16, 16, 3, 3] = weight("c")
d: f32[1, 8, 6, 6] = aten.conv2d.default(x, a, None, [1, 1], [1, 1], [1, 1], 8)  # dw
e: f32[1, 16, 6, 6] = aten.conv2d.default(d, b, None, [1, 1], [0, 0], [1, 1], 1)  # pw
f: f32[1, 16, 6, 6] = aten.conv2d.default(e, c, None, [1, 1], [1, 1], [1, 1], 1)  # full
return_(f)
"""


def roles(text: str) -> dict[str, str]:
    return {site.path: site.role for site in find_sites(parse(text)).linears}


def test_roles_of_hand_written_graphs() -> None:
    assert roles(ATTENTION) == {"one": "q", "two": "k", "three": "v", "four": "proj"}
    assert roles(GATED) == {"in": "fc1", "out": "fc2"}
    assert roles(CONVOLUTIONS) == {"dw": "depthwise", "pw": "pointwise", "full": "conv"}
    halves = CONVOLUTIONS.replace("f32[16, 16, 3, 3]", "f32[16, 8, 3, 3]").replace(
        "[1, 1], 1)  # full", "[1, 1], 2)  # full"
    )
    assert roles(halves)["full"] == "grouped"


def test_a_linear_that_feeds_q_and_k_and_v_is_qkv() -> None:
    merged = ATTENTION.replace("aten.reshape.default(k,", "aten.reshape.default(q,").replace(
        "aten.reshape.default(v,", "aten.reshape.default(q,"
    )
    assert roles(merged)["one"] == "qkv"


def test_residuals_join_two_computed_values() -> None:
    found = find_sites(parse(ATTENTION)).residuals
    assert [site.node.name for site in found] == ["add_tensor_1"], "the sum with the input itself has one computed side"


def test_captured_graphs_have_no_sites() -> None:
    captured: Program = capture(nn.Linear(8, 8), torch.zeros(1, 8))
    with pytest.raises(InputError, match="canonicalize first"):
        find_sites(captured)


def linears() -> list[LinearSite]:
    return list(vit_sites().linears)


def paths(*only: str, skip: tuple[str, ...] = ()) -> list[str]:
    return [site.path for site in select(linears(), only, skip)]


def test_selectors() -> None:
    assert paths("fc1") == ["blocks.0.mlp.fc1", "blocks.1.mlp.fc1"]
    assert paths("blocks.1.*") == [f"blocks.1.{part}" for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert paths("blocks.*:fc1", "blocks.1.*:qkv") == ["blocks.0.mlp.fc1", "blocks.1.attn.qkv", "blocks.1.mlp.fc1"]
    assert paths("n>=1000") == ["head"]
    assert paths("k=768") == ["patch_embed.proj", "blocks.0.mlp.fc2", "blocks.1.mlp.fc2"]
    assert paths("fc1", "head", skip=("blocks.0.*",)) == ["blocks.1.mlp.fc1", "head"]
    assert len(paths()) == 10
    assert [site.role for site in select(linears(), within=("head",))] == ["head"]


@pytest.mark.parametrize(
    ("only", "skip", "near"),
    [
        (("fc3",), (), "fc1"),
        (("blocks.7.mlp.fc1",), (), "blocks.1.mlp.fc1"),
        (("blocks.1.mlp.fc1:fc2",), (), "blocks.1.mlp.fc1"),
        ((), ("qvk",), "qkv"),
        (("fc1", "k>9999"), (), "roles here: fc1, fc2, head, patch-embed, proj, qkv"),
    ],
)
def test_a_selector_of_nothing_lists_near_misses(only: tuple[str, ...], skip: tuple[str, ...], near: str) -> None:
    with pytest.raises(InputError, match="matches no site") as caught:
        select(linears(), only, skip)
    assert near in str(caught.value)

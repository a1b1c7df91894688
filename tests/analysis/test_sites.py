"""Sites: roles are read off the data flow, alike for every way a model is written; selectors say what they miss."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from importlib import import_module

import pytest
import torch
from torch import fx, nn

from vitgraph.analysis import branches
from vitgraph.analysis.site_selectors import select
from vitgraph.analysis.sites import LinearSite, Sites, find_sites
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.call_arguments import name_of
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
i: f32[1, 8, 6, 6] = input()
x: f32[1, 8, 6, 6] = aten.cumsum.default(i, 2)
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
    assert roles(CONVOLUTIONS) == {"dw": "depthwise", "pw": "linear", "full": "conv"}
    halves = CONVOLUTIONS.replace("f32[16, 16, 3, 3]", "f32[16, 8, 3, 3]").replace(
        "[1, 1], 1)  # full", "[1, 1], 2)  # full"
    )
    assert roles(halves)["full"] == "grouped"


STRIDED = CONVOLUTIONS.replace("[1, 1], [0, 0], [1, 1], 1)  # pw", "[2, 2], [0, 0], [1, 1], 1)  # pw").replace(
    "16, 6, 6]", "16, 3, 3]"
)
PADDED = CONVOLUTIONS.replace("[1, 1], [0, 0], [1, 1], 1)  # pw", "[1, 1], [1, 1], [1, 1], 1)  # pw").replace(
    "16, 6, 6]", "16, 8, 8]"
)
"""Each has a 1×1 convolution that a linear at each position does not compute."""

BLOCK = """
# form: canonical
i: f32[N, 8, 4, 4] = input()
x: f32[N, 8, 4, 4] = aten.cumsum.default(i, 2)
w1: f32[24, 8, 1, 1] = weight("w1")
w2: f32[8, 8, 1, 1] = weight("w2")
w3: f32[32, 8, 1, 1] = weight("w3")
w4: f32[32, 1, 3, 3] = weight("w4")
w5: f32[4, 32, 1, 1] = weight("w5")
w6: f32[32, 4, 1, 1] = weight("w6")
w7: f32[8, 32, 1, 1] = weight("w7")
w8: f32[16, 8, 1, 1] = weight("w8")
w9: f32[5, 16, 1, 1] = weight("w9")
qkv: f32[N, 24, 4, 4] = aten.conv2d.default(x, w1, None, [1, 1], [0, 0], [1, 1], 1)  # mix
r: f32[N, 3, 2, 4, 16] = aten.reshape.default(qkv, [-1, 3, 2, 4, 16])
p: f32[N, 3, 2, 16, 4] = aten.permute.default(r, [0, 1, 2, 4, 3])
q: f32[N, 2, 16, 4] = aten.select.int(p, 1, 0)
k: f32[N, 2, 16, 4] = aten.select.int(p, 1, 1)
v: f32[N, 2, 16, 4] = aten.select.int(p, 1, 2)
a: f32[N, 2, 16, 4] = vitgraph.attention.default(q, k, v, None, 0.5)
t: f32[N, 2, 4, 16] = aten.permute.default(a, [0, 1, 3, 2])
m: f32[N, 8, 4, 4] = aten.reshape.default(t, [-1, 8, 4, 4])
o: f32[N, 8, 4, 4] = aten.conv2d.default(m, w2, None, [1, 1], [0, 0], [1, 1], 1)  # out
s: f32[N, 8, 4, 4] = aten.add.Tensor(x, o)
h: f32[N, 32, 4, 4] = aten.conv2d.default(s, w3, None, [1, 1], [0, 0], [1, 1], 1)  # expand
d: f32[N, 32, 4, 4] = aten.conv2d.default(h, w4, None, [1, 1], [1, 1], [1, 1], 32)  # filter
g: f32[N, 32, 4, 4] = aten.silu.default(d)
e: f32[N, 32, 1, 1] = aten.mean.dim(g, [2, 3], True)
e1: f32[N, 4, 1, 1] = aten.conv2d.default(e, w5, None, [1, 1], [0, 0], [1, 1], 1)  # reduce
e2: f32[N, 4, 1, 1] = aten.relu.default(e1)
e3: f32[N, 32, 1, 1] = aten.conv2d.default(e2, w6, None, [1, 1], [0, 0], [1, 1], 1)  # excite
e4: f32[N, 32, 1, 1] = aten.sigmoid.default(e3)
y: f32[N, 32, 4, 4] = aten.mul.Tensor(g, e4)
z: f32[N, 8, 4, 4] = aten.conv2d.default(y, w7, None, [1, 1], [0, 0], [1, 1], 1)  # project
n: f32[N, 8, 4, 4] = aten.add.Tensor(s, z)
c: f32[N, 16, 4, 4] = aten.conv2d.default(n, w8, None, [1, 1], [0, 0], [1, 1], 1)  # between
c1: f32[N, 16, 4, 4] = aten.cumsum.default(c, 2)
f: f32[N, 5, 4, 4] = aten.conv2d.default(c1, w9, None, [1, 1], [0, 0], [1, 1], 1)  # classes
return_(f)
"""
"""An attention and an inverted bottleneck with squeeze and excitation, of convolutions alone."""


def test_a_convolution_at_each_position_has_the_role_of_a_linear() -> None:
    assert roles(BLOCK) == {
        "mix": "qkv",
        "out": "proj",
        "expand": "fc1",
        "filter": "depthwise",
        "reduce": "squeeze",
        "excite": "squeeze",
        "project": "fc2",
        "between": "linear",
        "classes": "head",
    }
    assert roles(STRIDED)["pw"] == roles(PADDED)["pw"] == "pointwise"


def test_the_selector_pointwise_names_convolutions_of_every_role() -> None:
    sites = find_sites(parse(BLOCK)).linears
    every = [site.path for site in sites if site.role != "depthwise"]
    assert [site.path for site in select(sites, ("pointwise",))] == every
    assert [site.path for site in select(sites, ("e*:pointwise",))] == ["expand", "excite"]
    assert [site.path for site in select(find_sites(parse(STRIDED)).linears, ("pointwise",))] == ["pw"]
    with pytest.raises(InputError, match="pointwise"):
        select(find_sites(parse(ATTENTION)).linears, ("pointwise",))


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


def test_finding_sites_costs_as_much_for_each_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the blocks, four times the consumers that are looked at: no walk goes down the whole residual stream."""
    from timm import create_model

    looked = Counter[int]()

    def count(depth: int) -> int:
        def counting(node: fx.Node, value: object) -> str | None:
            looked[depth] += 1
            return name_of(node, value)

        monkeypatch.setattr(branches, "name_of", counting)
        sites_of(create_model("test_vit", depth=depth, img_size=32))
        return looked[depth]

    assert count(24) < 4.5 * count(6)

"""How small models of timm are made: by name with other sizes, by class, or by the configuration that their class takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from torch import nn

SIZE = 64
PLAIN: dict[str, Any] = {"img_size": SIZE, "embed_dim": 64, "depth": 2, "num_heads": 2}


def named(name: str, **sizes: Any) -> nn.Module:
    """A model of timm's registry with other sizes."""
    create: Callable[..., nn.Module] = import_module("timm").create_model
    return create(name, **{"num_classes": 10, **sizes})


def made(module: str, kind: str, **sizes: Any) -> nn.Module:
    """A class of one of timm's modules."""
    create: Callable[..., nn.Module] = getattr(import_module(f"timm.models.{module}"), kind)
    return create(num_classes=10, **sizes)


def gated() -> nn.Module:
    """The two halves of the MLP are linears of their own."""
    return named("vit_tiny_patch16_224", **PLAIN, mlp_layer=import_module("timm.layers").SwiGLU)


def star_relu() -> nn.Module:
    """CaFormer: a stage of separable convolutions, one of attention and linears."""
    package = import_module("timm.models.metaformer")
    mixers, norms = [package.SepConv, package.Attention], [package.LayerNorm2dNoBias, package.LayerNormNoBias]
    return made("metaformer", "MetaFormer", depths=(1, 1), dims=(32, 64), token_mixers=mixers, norm_layers=norms)


def multi_scale(**sizes: Any) -> nn.Module:
    """MViTv2: q, k and v are pooled by depthwise convolutions, the shortcut has a linear."""
    config = import_module("timm.models.mvitv2").MultiScaleVitCfg(depths=(1, 1), embed_dim=32, num_heads=1, **sizes)
    return made("mvitv2", "MultiScaleVit", cfg=config, img_size=(SIZE, SIZE))


def mobile_vit(block: str, **sizes: Any) -> nn.Module:
    """An inverted residual and a block of MobileViT, whose attention is of linears, or MobileViTv2, which has none."""
    package = import_module("timm.models.byobnet")
    kind = package.ByoBlockCfg
    import_module("timm.models.mobilevit")
    inverted = {"bottle_in": True, "linear_out": True}
    stage = (
        kind(type="bottle", d=1, c=32, s=2, gs=1, br=2.0, block_kwargs=inverted),
        kind(type=block, d=1, c=32, s=1, gs=1, br=0.5, block_kwargs={"transformer_depth": 1, "patch_size": 2, **sizes}),
    )
    first = kind(type="bottle", d=1, c=16, s=1, gs=1, br=2.0, block_kwargs=inverted)
    config = package.ByoModelCfg(
        blocks=(first, stage), stem_type="3x3", stem_chs=16, stem_pool="", downsample="", act_layer="silu"
    )
    return made("byobnet", "ByobNet", cfg=config)


def attending_resnet(layer: str, **sizes: Any) -> nn.Module:
    """A bottleneck of convolutions, then one whose middle is an attention layer."""
    package = import_module("timm.models.byobnet")
    kind = package.ByoBlockCfg
    blocks = (kind(type="bottle", d=1, c=64, s=2, gs=0, br=0.5), kind(type="self_attn", d=1, c=128, s=2, gs=0, br=0.5))
    config = package.ByoModelCfg(
        blocks=blocks, stem_type="3x3", stem_chs=16, stem_pool="", fixed_input_size=layer == "bottleneck",
        self_attn_layer=layer, self_attn_kwargs=sizes,
    )  # fmt: skip
    return made("byobnet", "ByobNet", cfg=config, **({"img_size": SIZE} if layer == "bottleneck" else {}))


def hybrid_of_max_vit(name: str, blocks: tuple[str, str]) -> nn.Module:
    """Inverted bottlenecks with squeeze and excitation, then attention of windows and grids or of all."""
    package = import_module("timm.models.maxxvit")
    sizes = {"embed_dim": (32, 64), "depths": (1, 1), "block_type": blocks, "stem_width": (16, 32)}
    return made("maxxvit", "MaxxVit", cfg=replace(package.model_cfgs[name], **sizes), img_size=SIZE)


def mobile_net(module: str, kind: str, attention: str, **sizes: Any) -> nn.Module:
    """Inverted bottlenecks, and multi-query attention among them."""
    decode = import_module("timm.models._efficientnet_builder").decode_arch_def
    stages = [["er_r1_k3_s2_e4_c32"], ["uir_r1_a3_k5_s2_e4_c64", attention, "uir_r1_a0_k0_s1_e2_c64"]]
    return made(module, kind, block_args=decode(stages), num_features=64, **sizes)


def naflex(**sizes: Any) -> nn.Module:
    package = import_module("timm.models.naflexvit")
    config = package.NaFlexVitCfg(embed_dim=64, depth=2, num_heads=2, pos_embed_grid_size=(4, 4), **sizes)
    return made("naflexvit", "NaFlexVit", cfg=config, img_size=SIZE)


def gated_tokens() -> nn.Module:
    """gMLP: a gate that mixes tokens."""
    package = import_module("timm.models.mlp_mixer")
    layers = {"block_layer": package.SpatialGatingBlock, "mlp_layer": import_module("timm.layers").GatedMlp}
    return made("mlp_mixer", "MlpMixer", img_size=SIZE, embed_dim=32, num_blocks=2, mlp_ratio=4.0, **layers)


def vitamin() -> nn.Module:
    package = import_module("timm.models.vitamin")
    convolutions = package.VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6)
    stem = package.VitCfg(
        embed_dim=(16, 32, 64), depths=(1, 1, 1), stem_width=16, conv_cfg=convolutions, head_type="1d"
    )
    return named("vitamin_small_224", **PLAIN, embed_cfg=stem)

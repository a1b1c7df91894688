"""timm's families, small: by module of timm, and what of it where there are several."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from tests.coverage.models import Model
from tests.coverage.timm_builders import (
    PLAIN,
    SIZE,
    attending_resnet,
    gated,
    gated_tokens,
    hybrid_of_max_vit,
    made,
    mobile_net,
    mobile_vit,
    multi_scale,
    naflex,
    named,
    star_relu,
    vitamin,
)

_STAGES: dict[str, Any] = {"img_size": SIZE, "embed_dim": 32, "depths": (1, 1), "num_heads": (2, 2)}
_WIDTHS: dict[str, Any] = {"embed_dims": (32, 32, 64, 64), "depths": (1, 1, 1, 1)}
_CONVOLUTIONS: dict[str, Any] = {"depths": (1, 1, 1, 1), "dims": (16, 32, 32, 64)}

_MAKERS: Mapping[str, Callable[[], nn.Module]] = {
    "beit": partial(named, "beit_base_patch16_224", **PLAIN),
    "beit/v2": partial(named, "beitv2_base_patch16_224", **PLAIN),
    "byoanet/bottleneck": partial(attending_resnet, "bottleneck", num_heads=2),
    "metaformer/caformer": star_relu,
    "cait": partial(named, "cait_xxs24_224", **PLAIN),
    "coat": partial(
        named, "coat_tiny", img_size=SIZE, embed_dims=(64, 64, 64, 64), serial_depths=(1, 1, 1, 1), parallel_depth=1
    ),
    "coat/lite": partial(
        named, "coat_lite_tiny", img_size=SIZE, embed_dims=(64, 64, 64, 64), serial_depths=(1, 1, 1, 1)
    ),
    "maxxvit/coatnet": partial(hybrid_of_max_vit, "coatnet_0_rw", ("C", "T")),
    "convit": partial(named, "convit_tiny", **{**PLAIN, "embed_dim": 32}, local_up_to_layer=1),
    "convmixer": partial(made, "convmixer", "ConvMixer", dim=32, depth=2),
    "convnext": partial(named, "convnext_tiny", **_CONVOLUTIONS),
    "cpubone": partial(
        named, "cpubone_nano", width_list=[8, 16, 32, 32, 64], depth_list=[0, 1, 1, 1, 1], head_widths=(64, 64)
    ),
    "crossvit": partial(
        named, "crossvit_tiny_240", img_size=120, embed_dim=(32, 64), depth=((1, 1, 0),), num_heads=(2, 2)
    ),
    "csatv2": partial(named, "csatv2", dims=(16, 32, 32, 64), depths=(1, 1, 2, 2), transformer_depths=(0, 0, 1, 1)),
    "davit": partial(
        named, "davit_tiny", embed_dims=(32, 64, 64, 64), depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2), window_size=4
    ),
    "deepseek_vit": partial(named, "deepseek_vit_412m", **{**PLAIN, "img_size": 84}),
    "deit": partial(named, "deit_tiny_distilled_patch16_224", **PLAIN),
    "deit/3": partial(named, "deit3_small_patch16_224", **PLAIN),
    "edgenext": partial(named, "edgenext_xx_small", depths=(1, 2, 2, 2), dims=(16, 32, 32, 64), heads=(2, 2, 2, 2)),
    "efficientformer": partial(
        named, "efficientformer_l1", depths=(1, 1, 1, 2), embed_dims=(16, 32, 32, 64), num_vit=1, img_size=224
    ),
    "efficientformer_v2": partial(
        named,
        "efficientformerv2_s0",
        img_size=SIZE,
        num_vit=1,
        depths=(1, 1, 1),
        embed_dims=(16, 32, 64),
        downsamples=(False, True, True),
        mlp_ratios=((4,), (4,), (4,)),
    ),
    "efficientvim": partial(named, "efficientvim_m1", embed_dim=(32, 32, 64), depths=(1, 1, 1), state_dim=(16, 8, 4)),
    "efficientvit_mit": partial(
        named, "efficientvit_b0", widths=(8, 16, 16, 32), depths=(1, 1, 1, 1), head_dim=16, head_widths=(64, 64)
    ),
    "efficientvit_mit/large": partial(
        named, "efficientvit_l1", widths=(8, 16, 16, 32, 32), depths=(1, 1, 1, 1, 1), head_dim=16, head_widths=(64, 64)
    ),
    "efficientvit_msra": partial(
        named,
        "efficientvit_m0",
        img_size=128,
        embed_dim=(32, 32, 64),
        depth=(1, 1, 1),
        num_heads=(2, 2, 2),
        window_size=(4, 4, 4),
    ),
    "eva": partial(named, "eva_giant_patch14_224", **{**PLAIN, "img_size": 56}),
    "eva/02": partial(named, "eva02_tiny_patch14_224", **{**PLAIN, "img_size": 56}),
    "eva/dinov3": partial(named, "vit_tiny_patch16_dinov3_qkvb", **PLAIN),
    "eva/pe_core": partial(named, "vit_pe_core_tiny_patch16_384", **PLAIN),
    "fastvit": partial(named, "fastvit_t8", layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 64)),
    "fastvit/attention": partial(named, "fastvit_sa12", layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 64)),
    "focalnet": partial(
        made, "focalnet", "FocalNet", embed_dim=32, depths=(1, 1), focal_levels=(2, 2), focal_windows=(3, 3)
    ),
    "vision_transformer/gated": gated,
    "gcvit": partial(
        made,
        "gcvit",
        "GlobalContextVit",
        img_size=128,
        embed_dim=32,
        depths=(2, 1, 1, 1),
        num_heads=(2, 2, 4, 4),
        window_size=(4, 4, 4, 4),
    ),
    "gemma4_vit": partial(named, "gemma4_vit_167m", **{**PLAIN, "img_size": 96}, head_dim=32, intermediate_size=128),
    "mlp_mixer/gmlp": gated_tokens,
    "byoanet/halo": partial(attending_resnet, "halo", block_size=8, halo_size=3, num_heads=2),
    "hiera": partial(
        named,
        "hiera_tiny_224",
        img_size=(SIZE, SIZE),
        embed_dim=32,
        num_heads=2,
        stages=(1, 1),
        q_pool=1,
        mask_unit_attn=(True, False),
    ),
    "hieradet_sam2": partial(
        named,
        "sam2_hiera_tiny",
        embed_dim=32,
        num_heads=2,
        head_mul=1.0,
        stages=(1, 1, 2, 1),
        window_spec=(8, 4, 4, 4),
        global_att_blocks=(3,),
    ),
    "iformer": partial(named, "iformer_t", dims=(16, 32, 64, 64), depths=(1, 1, 4, 4), attn_groups=(0, 0, 1, 1)),
    "byoanet/lambda": partial(attending_resnet, "lambda", r=5, num_heads=2),
    "levit": partial(
        named, "levit_128s", img_size=SIZE, embed_dim=(32, 64), key_dim=16, depth=(1, 1), num_heads=(2, 4)
    ),
    "levit/conv": partial(
        named, "levit_conv_128s", img_size=SIZE, embed_dim=(32, 64), key_dim=16, depth=(1, 1), num_heads=(2, 4)
    ),
    "lowformer": partial(
        named, "lowformer_b0", width_list=[8, 16, 16, 32, 64], depth_list=[0, 1, 1, 1, 1], head_widths=(64, 64)
    ),
    "mambaout": partial(named, "mambaout_femto", **_CONVOLUTIONS),
    "maxxvit/maxvit": partial(hybrid_of_max_vit, "maxvit_rmlp_nano_rw", ("M", "M")),
    "mlp_mixer": partial(made, "mlp_mixer", "MlpMixer", img_size=SIZE, embed_dim=32, num_blocks=2),
    "mobilenetv3": partial(mobile_net, "mobilenetv3", "MobileNetV3", "mqa_r1_k3_h4_s1_v2_d16_c64"),
    "mobilenetv5": partial(mobile_net, "mobilenetv5", "MobileNetV5", "mqa_r1_k3_h4_s2_d16_c64", use_msfa=True),
    "mobilevit": partial(mobile_vit, "mobilevit", transformer_dim=32),
    "mobilevit/v2": partial(mobile_vit, "mobilevit2"),
    "mvitv2": multi_scale,
    "mvitv2/class_token": partial(multi_scale, use_cls_token=True),
    "naflexvit": partial(naflex, pos_embed="factorized"),
    "naflexvit/map": partial(naflex, global_pool="map", class_token=False),
    "nest": partial(
        made, "nest", "Nest", img_size=SIZE, embed_dims=(32, 32, 64), num_heads=(2, 2, 2), depths=(1, 1, 1)
    ),
    "nextvit": partial(named, "nextvit_small", depths=(1, 1, 5, 1), stem_chs=(16, 16, 16)),
    "pit": partial(named, "pit_ti_224", img_size=SIZE, base_dims=(32, 32), depth=(1, 1), heads=(2, 2)),
    "metaformer/poolformer": partial(made, "metaformer", "MetaFormer", depths=(1, 1), dims=(16, 32)),
    "pvt_v2": partial(named, "pvt_v2_b0", **_WIDTHS, num_heads=(2, 2, 2, 2)),
    "pvt_v2/linear": partial(named, "pvt_v2_b2_li", **_WIDTHS, num_heads=(2, 2, 2, 2)),
    "qwen3_vit": partial(named, "qwen3_vit_88m", **PLAIN),
    "repvit": partial(named, "repvit_m1", embed_dim=(16, 32), depth=(1, 1)),
    "shvit": partial(named, "shvit_s1", embed_dim=(32, 64, 64), partial_dim=(16, 32, 32), depth=(1, 1, 1)),
    "vision_transformer/siglip": partial(named, "vit_base_patch16_siglip_224", **PLAIN),
    "swiftformer": partial(named, "swiftformer_xs", layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 64)),
    "swin_transformer": partial(named, "swin_tiny_patch4_window7_224", window_size=4, **_STAGES),
    "swin_transformer/shifted": partial(
        named, "swin_tiny_patch4_window7_224", window_size=4, **{**_STAGES, "depths": (2,), "num_heads": (2,)}
    ),
    "swin_transformer_v2": partial(named, "swinv2_tiny_window8_256", window_size=4, **_STAGES),
    "swin_transformer_v2_cr": partial(
        named, "swinv2_cr_tiny_ns_224", window_size=4, **{**_STAGES, "img_size": (SIZE, SIZE)}
    ),
    "tiny_vit": partial(named, "tiny_vit_5m_224", **_WIDTHS, num_heads=(2, 2, 2, 2), window_sizes=(4, 4, 4, 2)),
    "tnt": partial(
        named,
        "tnt_s_legacy_patch16_224",
        img_size=SIZE,
        embed_dim=64,
        inner_dim=32,
        depth=2,
        num_heads_inner=2,
        num_heads_outer=2,
    ),
    "twins/pcpvt": partial(named, "twins_pcpvt_small", img_size=SIZE, **_WIDTHS, num_heads=(2, 2, 2, 2)),
    "twins/svt": partial(named, "twins_svt_small", img_size=SIZE, **_WIDTHS, num_heads=(2, 2, 2, 2), wss=(4, 4, 4, 2)),
    "visformer": partial(
        named, "visformer_tiny", img_size=SIZE, embed_dim=64, depth=(1, 1, 1), num_heads=2, init_channels=16
    ),
    "vision_transformer": partial(named, "vit_tiny_patch16_224", **PLAIN),
    "vision_transformer/dinov2_registers": partial(named, "vit_small_patch14_reg4_dinov2", **{**PLAIN, "img_size": 56}),
    "vision_transformer_hybrid": partial(
        named, "vit_tiny_r_s16_p8_224", img_size=128, embed_dim=64, depth=1, num_heads=2
    ),
    "vision_transformer/parallel": partial(named, "vit_small_patch16_18x2_224", **PLAIN),
    "vision_transformer_relpos": partial(named, "vit_relpos_small_patch16_224", **PLAIN),
    "vision_transformer_sam": partial(
        named, "samvit_base_patch16_224", **PLAIN, window_size=2, global_attn_indexes=[1]
    ),
    "vitamin": vitamin,
    "volo": partial(
        made, "volo", "VOLO", img_size=SIZE, layers=(1, 1, 1, 1), embed_dims=(32, 64, 64, 64), num_heads=(2, 2, 2, 2)
    ),
    "xcit": partial(named, "xcit_nano_12_p16_224", **PLAIN),
}
_SIZES = {
    "deepseek_vit": 84,
    "eva": 56,
    "eva/02": 56,
    "vision_transformer/dinov2_registers": 56,
    "gcvit": 128,
    "efficientvit_msra": 128,
    "vision_transformer_hybrid": 128,
    "gemma4_vit": 96,
    "crossvit": 120,
    "efficientformer": 224,
    "hieradet_sam2": 128,
}
MODELS = {name: Model(make, (3, size, size)) for name, make in _MAKERS.items() for size in [_SIZES.get(name, SIZE)]}

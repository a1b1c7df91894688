"""transformers' models of dense prediction and encoders of segmentation, small and by configuration."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from tests.coverage.models import Model, Outputs, configured
from tests.coverage.transformers_towers import HIDDEN, PLAIN, PYRAMID, SIZE, WINDOWS


def _made(name: str, kind: str, *outputs: str, **sizes: Any) -> nn.Module:
    kind_of_model = getattr(import_module("transformers"), name + kind)
    return Outputs(kind_of_model(configured(name, **sizes)), *outputs)


def _encoder(module: str, kind: str, config: str, output: str = "last_hidden_state", **sizes: Any) -> nn.Module:
    made = getattr(import_module(f"transformers.models.{module}.modeling_{module}"), kind)
    return Outputs(made(configured(config, **sizes)), output)


_LEVELS = ["stage1", "stage2", "stage3", "stage4"]
_SWIN: dict[str, Any] = {
    **WINDOWS,
    "depths": [1, 1, 1, 1],
    "num_heads": [2, 2, 4, 8],
    "window_size": 2,
    "out_features": _LEVELS,
}
_FOUR: dict[str, Any] = {**HIDDEN, "num_hidden_layers": 4, "out_features": _LEVELS}
_DINO: dict[str, Any] = {
    **PLAIN,
    "num_hidden_layers": 4,
    "out_indices": [1, 2, 3, 4],
    "reshape_hidden_states": False,
    "apply_layernorm": True,
}
_FUSION: dict[str, Any] = {"neck_hidden_sizes": [16, 16, 32, 32], "fusion_hidden_size": 32}


def _uper_net(backbone: Any) -> nn.Module:
    return _made(
        "UperNet",
        "ForSemanticSegmentation",
        "logits",
        backbone_config=backbone,
        hidden_size=32,
        use_auxiliary_head=False,
        num_labels=10,
    )


def _mask_classifier(name: str, kind: str, **sizes: Any) -> nn.Module:
    outputs = ("class_queries_logits", "masks_queries_logits")
    return _made(name, kind, *outputs, backbone_config=configured("Swin", **_SWIN), num_labels=10, **sizes)


_QUERIES: dict[str, Any] = {
    "feature_size": 32, "mask_feature_size": 32, "hidden_dim": 64, "encoder_feedforward_dim": 64, "encoder_layers": 1, "decoder_layers": 2,
    "num_attention_heads": 2, "dim_feedforward": 64, "num_queries": 8,
}  # fmt: skip

_MAKERS = {
    "beit/segmentation": lambda: _made(
        "Beit",
        "ForSemanticSegmentation",
        "logits",
        **{**HIDDEN, "num_hidden_layers": 4},
        out_indices=[1, 2, 3, 4],
        use_auxiliary_head=False,
    ),
    "depth_anything": lambda: _made(
        "DepthAnything",
        "ForDepthEstimation",
        "predicted_depth",
        backbone_config=configured("Dinov2", **_DINO),
        reassemble_hidden_size=64,
        patch_size=16,
        head_hidden_size=16,
        **_FUSION,
    ),
    "dpt": lambda: _made(
        "DPT",
        "ForDepthEstimation",
        "predicted_depth",
        **HIDDEN | {"num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        is_hybrid=False,
        **_FUSION,
    ),
    "dpt/segmentation": lambda: _made(
        "DPT",
        "ForSemanticSegmentation",
        "logits",
        **HIDDEN | {"num_hidden_layers": 4},
        backbone_out_indices=[0, 1, 2, 3],
        is_hybrid=False,
        use_auxiliary_head=False,
        **_FUSION,
    ),
    "eomt": lambda: _made(
        "Eomt", "ForUniversalSegmentation", "class_queries_logits", **PLAIN, num_blocks=1, num_queries=4
    ),
    "glpn": lambda: _made("GLPN", "ForDepthEstimation", "predicted_depth", **PYRAMID, decoder_hidden_size=32),
    "mask2former": lambda: _mask_classifier("Mask2Former", "ForUniversalSegmentation", **_QUERIES),
    "maskformer": lambda: _mask_classifier(
        "MaskFormer",
        "ForInstanceSegmentation",
        fpn_feature_size=32,
        mask_feature_size=32,
        decoder_config=configured(
            "Detr",
            d_model=32,
            decoder_layers=1,
            encoder_layers=1,
            decoder_ffn_dim=64,
            encoder_ffn_dim=64,
            decoder_attention_heads=2,
            encoder_attention_heads=2,
            num_queries=8,
        ),
    ),
    "mobilevit/segmentation": lambda: _made(
        "MobileViT",
        "ForSemanticSegmentation",
        "logits",
        image_size=SIZE,
        hidden_sizes=[32, 32, 32],
        neck_hidden_sizes=[8, 16, 16, 32, 32, 32, 64],
        num_attention_heads=2,
        aspp_out_channels=32,
    ),
    "sam": lambda: _encoder(
        "sam",
        "SamVisionEncoder",
        "SamVision",
        **PLAIN,
        output_channels=32,
        window_size=2,
        global_attn_indexes=[1],
        mlp_dim=128,
    ),
    "sam_hq": lambda: _encoder(
        "sam_hq",
        "SamHQVisionEncoder",
        "SamHQVision",
        **PLAIN,
        output_channels=32,
        window_size=2,
        global_attn_indexes=[1],
        mlp_dim=128,
    ),
    "sam2": lambda: _encoder(
        "sam2",
        "Sam2HieraDetModel",
        "Sam2HieraDet",
        hidden_size=32,
        image_size=[128, 128],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[32, 64, 64, 64],
        num_attention_heads_per_stage=[2, 2, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    ),
    "segformer/segmentation": lambda: _made(
        "Segformer", "ForSemanticSegmentation", "logits", **PYRAMID, decoder_hidden_size=32
    ),
    "swin2sr": lambda: _made(
        "Swin2SR",
        "ForImageSuperResolution",
        "reconstruction",
        image_size=32,
        embed_dim=32,
        depths=[2],
        num_heads=[2],
        window_size=4,
    ),
    "upernet/beit": lambda: _uper_net(configured("Beit", **_FOUR, reshape_hidden_states=True)),
    "upernet/convnext": lambda: _uper_net(
        configured("ConvNext", depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 32, 64], out_features=_LEVELS)
    ),
    "upernet/swin": lambda: _uper_net(configured("Swin", **_SWIN)),
    "vit_mae": lambda: _made("ViTMAE", "Model", "last_hidden_state", **HIDDEN),
    "vitpose": lambda: _made(
        "VitPose",
        "ForPoseEstimation",
        "heatmaps",
        backbone_config=configured(
            "VitPoseBackbone",
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=[SIZE, SIZE],
            mlp_ratio=2,
            out_features=["stage2"],
        ),
        num_labels=10,
        use_simple_decoder=False,
    ),
    "zoedepth": lambda: _made(
        "ZoeDepth",
        "ForDepthEstimation",
        "predicted_depth",
        backbone_config=configured("Beit", **_FOUR, reshape_hidden_states=False, use_relative_position_bias=True),
        backbone_hidden_size=64,
        num_attractors=[4, 2, 2, 1],
        bottleneck_features=32,
        bin_embedding_dim=16,
        num_relative_features=16,
        **_FUSION,
    ),
}
MODELS = {name: Model(make, (3, 128, 128) if name == "sam2" else (3, SIZE, SIZE)) for name, make in _MAKERS.items()}

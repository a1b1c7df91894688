"""transformers' image classifiers, headless encoders and vision towers, small and by configuration."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from tests.coverage.models import Model, Outputs, configured

SIZE = 64
PLAIN: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIZE,
    "patch_size": 16,
}
HIDDEN: dict[str, Any] = {**PLAIN, "intermediate_size": 128}
STAGES: dict[str, Any] = {"depths": [1, 1], "embed_dim": 32, "image_size": SIZE}
WINDOWS: dict[str, Any] = {**STAGES, "num_heads": [2, 2], "window_size": 4}
PYRAMID: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [32, 32, 64, 64],
    "num_attention_heads": [2, 2, 2, 2],
}


def _made(name: str, kind: str, config: str | None = None, **sizes: Any) -> nn.Module:
    """A class of transformers, and what it gives first."""
    kind_of_model = getattr(import_module("transformers"), name + kind)
    return Outputs(kind_of_model(configured(config or name, **sizes)))


def _classifier(name: str, **sizes: Any) -> nn.Module:
    return _made(name, "ForImageClassification", num_labels=10, **sizes)


def _nested(name: str, **sizes: Any) -> nn.Module:
    """A classifier whose configuration holds one of a vision tower."""
    return _made(name, "ForImageClassification", num_labels=10, vision_config=sizes)


def _inner(module: str, name: str, config: str, **sizes: Any) -> nn.Module:
    """A class that transformers does not export."""
    kind = getattr(import_module(f"transformers.models.{module}.modeling_{module}"), name)
    return Outputs(kind(configured(config, **sizes)))


class _First(nn.Module):
    """Takes an image by place."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Any) -> Any:
        """Images `[B, 3, H, W]`."""
        return self.model(x)[0]


def _florence2(**sizes: Any) -> nn.Module:
    kind = import_module("transformers.models.florence2.modeling_florence2").Florence2VisionBackbone
    return _First(kind(configured("Florence2Vision", **sizes)))


_MAKERS = {
    "aimv2_vision_model": partial(_made, "Aimv2Vision", "Model", **HIDDEN),
    "altclip_vision_model": partial(_made, "AltCLIPVision", "Model", **HIDDEN),
    "beit": partial(_classifier, "Beit", **HIDDEN, use_relative_position_bias=True),
    "blip_vision_model": partial(_made, "BlipVision", "Model", **HIDDEN),
    "blip_2_vision_model": partial(_made, "Blip2Vision", "Model", **HIDDEN),
    "chinese_clip_vision_model": partial(_made, "ChineseCLIPVision", "Model", **HIDDEN),
    "clip_vision_model": partial(_made, "CLIPVision", "Model", **HIDDEN),
    "clip": partial(_nested, "CLIP", **HIDDEN),
    "clip_vision_model/projection": partial(_made, "CLIPVision", "ModelWithProjection", **HIDDEN, projection_dim=32),
    "convnextv2": partial(_classifier, "ConvNextV2", depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 32, 64]),
    "cvt": partial(_classifier, "Cvt", depth=[1, 2, 3], embed_dim=[32, 32, 64], num_heads=[2, 2, 2]),
    "data2vec-vision": partial(_classifier, "Data2VecVision", **HIDDEN),
    "deit": partial(_made, "DeiT", "ForImageClassificationWithTeacher", **HIDDEN),
    "dinov2": partial(_classifier, "Dinov2", **PLAIN),
    "dinov2/gated": partial(_made, "Dinov2", "Model", **PLAIN, use_swiglu_ffn=True),
    "dinov2_with_registers": partial(_classifier, "Dinov2WithRegisters", **PLAIN),
    "dinov3_vit": partial(_made, "DINOv3ViT", "Model", **HIDDEN, num_register_tokens=4),
    "dinov3_vit/gated": partial(_made, "DINOv3ViT", "Model", **HIDDEN, use_gated_mlp=True),
    "donut-swin": partial(_made, "DonutSwin", "Model", **WINDOWS),
    "flava": partial(_made, "FlavaImage", "Model", **HIDDEN),
    "florence2": partial(
        _florence2,
        depths=[1, 1, 1, 1],
        embed_dim=[32, 32, 64, 64],
        num_heads=[2, 2, 2, 2],
        num_groups=[2, 2, 2, 2],
        window_size=4,
    ),
    "focalnet": partial(
        _classifier, "FocalNet", **STAGES, hidden_sizes=[32, 64], focal_levels=[2, 2], focal_windows=[3, 3]
    ),
    "got_ocr2": partial(
        _inner,
        "got_ocr2",
        "GotOcr2VisionEncoder",
        "GotOcr2Vision",
        **PLAIN,
        output_channels=32,
        window_size=2,
        global_attn_indexes=[1],
        mlp_dim=128,
    ),
    "group_vit": partial(
        _made,
        "GroupViTVision",
        "Model",
        hidden_size=64,
        intermediate_size=128,
        depths=[1, 1, 1],
        num_hidden_layers=3,
        num_group_tokens=[4, 2, 0],
        num_output_groups=[4, 2, 2],
        num_attention_heads=2,
        image_size=SIZE,
        patch_size=16,
    ),
    "hiera": partial(
        _classifier,
        "Hiera",
        depths=[1, 1],
        embed_dim=32,
        image_size=[SIZE, SIZE],
        num_heads=[2, 4],
        num_query_pool=1,
        masked_unit_size=[4, 4],
    ),
    "idefics3": partial(_made, "Idefics3Vision", "Transformer", **HIDDEN),
    "ijepa": partial(_classifier, "IJepa", **HIDDEN),
    "instructblip": partial(_made, "InstructBlipVision", "Model", **HIDDEN),
    "internvl": partial(
        _made, "InternVLVision", "Model", **{**HIDDEN, "image_size": [SIZE, SIZE], "patch_size": [16, 16]}
    ),
    "janus": partial(_made, "JanusVision", "Model", **PLAIN, mlp_ratio=2.0, projection_dim=64),
    "kosmos2": partial(_inner, "kosmos2", "Kosmos2VisionModel", "Kosmos2Vision", **HIDDEN),
    "levit": partial(
        _classifier,
        "Levit",
        image_size=SIZE,
        hidden_sizes=[32, 64, 64],
        num_attention_heads=[2, 4, 4],
        depths=[1, 1, 1],
    ),
    "llama4": partial(
        _made,
        "Llama4Vision",
        "Model",
        **{**HIDDEN, "intermediate_size": 256},
        vision_output_dim=64,
        projector_input_dim=64,
        projector_output_dim=64,
    ),
    "metaclip_2": partial(_nested, "MetaClip2", **HIDDEN),
    "mlcd": partial(_made, "MLCDVision", "Model", **HIDDEN),
    "mobilevit": partial(
        _classifier,
        "MobileViT",
        image_size=SIZE,
        hidden_sizes=[32, 32, 32],
        neck_hidden_sizes=[8, 16, 16, 32, 32, 32, 64],
        num_attention_heads=2,
    ),
    "mobilevitv2": partial(
        _classifier,
        "MobileViTV2",
        image_size=SIZE,
        base_attn_unit_dims=[32, 32, 32],
        n_attn_blocks=[1, 1, 1],
        width_multiplier=0.25,
    ),
    "owlvit_vision_model": partial(_made, "OwlViTVision", "Model", **HIDDEN),
    "owlv2_vision_model": partial(_made, "Owlv2Vision", "Model", **HIDDEN),
    "pixio": partial(_made, "Pixio", "Model", **PLAIN),
    "pixtral": partial(_made, "PixtralVision", "Model", **HIDDEN, head_dim=32),
    "poolformer": partial(_classifier, "PoolFormer", depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 32, 64]),
    "pvt": partial(_classifier, "Pvt", **PYRAMID, image_size=SIZE),
    "pvt_v2": partial(_classifier, "PvtV2", **PYRAMID, image_size=SIZE),
    "sam3_vit_model": partial(
        _inner,
        "sam3",
        "Sam3ViTModel",
        "Sam3ViT",
        **HIDDEN,
        window_size=2,
        global_attn_indexes=[1],
        pretrain_image_size=SIZE,
    ),
    "sapiens2": partial(
        _made,
        "Sapiens2",
        "Model",
        **HIDDEN,
        num_key_value_attention_heads=1,
        num_first_full_attention_layers=1,
        num_last_full_attention_layers=0,
        num_key_value_heads_per_layer=None,
    ),
    "segformer": partial(_classifier, "Segformer", **PYRAMID),
    "siglip_vision_model": partial(_made, "SiglipVision", "Model", **HIDDEN),
    "siglip": partial(_nested, "Siglip", **HIDDEN),
    "swiftformer": partial(
        _classifier, "SwiftFormer", depths=[1, 1, 1, 1], embed_dims=[16, 32, 32, 64], image_size=SIZE
    ),
    "swin": partial(_classifier, "Swin", **WINDOWS),
    "swinv2": partial(_classifier, "Swinv2", **WINDOWS),
    "tipsv2_vision_model": partial(_made, "Tipsv2Vision", "Model", **PLAIN),
    "vit": partial(_classifier, "ViT", **HIDDEN),
    "vit/headless": partial(_made, "ViT", "Model", **HIDDEN),
    "vit_msn": partial(_classifier, "ViTMSN", **HIDDEN),
    "vitdet": partial(
        _made,
        "VitDet",
        "Model",
        **PLAIN,
        pretrain_image_size=SIZE,
        window_size=2,
        window_block_indices=[0],
        use_relative_position_embeddings=True,
        residual_block_indices=[1],
    ),
    "xclip_vision_model": partial(_made, "XCLIPVision", "Model", **HIDDEN, num_frames=1),
}
MODELS = {name: Model(make, (3, SIZE, SIZE)) for name, make in _MAKERS.items()}

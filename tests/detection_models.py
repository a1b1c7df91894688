"""Detection transformers as tests take them: small, true in structure, with weights as training leaves them and not as it finds them.

transformers begins the last layer of each head, sampling offsets and attention weights at zero, and batch norms near it: what the layers
upstream compute would not reach the outputs, and no rounding there could do harm. Here every product gives values about as large as it reads.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from vitgraph.ir.dialect import aten
from vitgraph.ir.program import Program

SIZE = 64
CLASSES = 10
WIDTH, HIDDEN = 32, 64
_PAIR: dict[str, Any] = {"encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": HIDDEN, "decoder_ffn_dim": HIDDEN}
_HEADS: dict[str, Any] = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_queries": 8}
_CNN: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
_LEVELS: dict[str, Any] = {
    "encoder_in_channels": [16, 24, 32],
    "encoder_hidden_dim": WIDTH,
    "decoder_in_channels": [WIDTH, WIDTH, WIDTH],
    "hidden_expansion": 0.5,
    "num_denoising": 0,
    "anchor_image_size": [SIZE, SIZE],
}
_WINDOWS: dict[str, Any] = {
    "decoder_layers": 2,
    "decoder_ffn_dim": HIDDEN,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "num_queries": 8,
    "d_model": WIDTH,
    "group_detr": 2,
    "c2f_num_blocks": 1,
}


_GAINS = {"sampling_offsets": 0.3, "q_": 2.0, "k_": 2.0, "query": 2.0, "key": 2.0}
"""By part of a layer's path how much larger what it gives is than what it reads: attentions that tell queries apart."""


class Detector(nn.Module):
    """Takes an image and gives class scores `[B, queries, classes]` and boxes `[B, queries, 4]`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images `[B, 3, H, W]`."""
        found = self.model(pixel_values=x)
        return found["logits"], found["pred_boxes"]


def _made(name: str, **sizes: Any) -> nn.Module:
    package = import_module("transformers")
    config = getattr(package, f"{name}Config")(num_labels=CLASSES, **sizes)
    model: nn.Module = getattr(package, f"{name}ForObjectDetection")(config)
    return model


def _backbone(name: str, **sizes: Any) -> Any:
    return getattr(import_module("transformers"), f"{name}Config")(**sizes)


def _resnet(stages: list[str]) -> Any:
    return _backbone("ResNet", **_CNN, layer_type="basic", out_features=stages)


def _detr(name: str) -> nn.Module:
    return _made(name, backbone_config=_resnet(["stage4"]), d_model=WIDTH, **_PAIR, **_HEADS)


def _deformable(**more: Any) -> nn.Module:
    stages = _resnet(["stage2", "stage3", "stage4"])
    return _made(
        "DeformableDetr",
        backbone_config=stages,
        d_model=WIDTH,
        num_feature_levels=3,
        disable_custom_kernels=True,
        **_PAIR,
        **_HEADS,
        **more,
    )


def _rt_detr(name: str) -> nn.Module:
    backbone = _backbone("RTDetrResNet", **_CNN, layer_type="basic", out_features=["stage2", "stage3", "stage4"])
    return _made(name, backbone_config=backbone, d_model=WIDTH, **_PAIR, **_HEADS, **_LEVELS)


def _d_fine() -> nn.Module:
    backbone = _backbone(
        "HGNetV2",
        stem_channels=[3, 8, 8],
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        stage_in_channels=[8, 8, 16, 24],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 16, 24, 32],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )
    return _made("DFine", depth_mult=0.34, backbone_config=backbone, d_model=WIDTH, **_PAIR, **_HEADS, **_LEVELS)


def _yolos() -> nn.Module:
    return _made(
        "Yolos",
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=HIDDEN,
        image_size=[SIZE, SIZE],
        num_detection_tokens=8,
    )


def _lw_detr() -> nn.Module:
    backbone = _backbone(
        "LwDetrViT",
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=SIZE,
        pretrain_image_size=SIZE,
        patch_size=8,
        window_block_indices=[0],
        num_windows=4,
        out_indices=[1, 2],
    )
    return _made("LwDetr", backbone_config=backbone, projector_scale_factors=[1.0], **_WINDOWS)


def _rf_detr() -> nn.Module:
    backbone = _backbone(
        "RfDetrDinov2",
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=SIZE,
        patch_size=8,
        num_windows=2,
        out_indices=[1, 2],
    )
    return _made("RfDetr", backbone_config=backbone, **_WINDOWS)


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "detr": partial(_detr, "Detr"),
    "conditional-detr": partial(_detr, "ConditionalDetr"),
    "deformable-detr": _deformable,
    "deformable-detr-refined": partial(_deformable, with_box_refine=True),
    "deformable-detr-two-stage": partial(_deformable, two_stage=True, with_box_refine=True, two_stage_num_proposals=8),
    "rt-detr": partial(_rt_detr, "RTDetr"),
    "rt-detr-v2": partial(_rt_detr, "RTDetrV2"),
    "d-fine": _d_fine,
    "yolos": _yolos,
    "lw-detr": _lw_detr,
    "rf-detr": _rf_detr,
}


def make_detector(name: str, seed: int = 0) -> Detector:
    """One of `MODELS` in evaluation mode, its weights drawn anew."""
    random: Any = torch.random
    draw = torch.Generator().manual_seed(seed)
    with random.fork_rng():
        random.manual_seed(seed)  # what is not drawn anew stays as it was made
        model = MODELS[name]().eval()
    with torch.no_grad():
        modules: dict[str, nn.Module] = dict(model.named_modules())  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        for path, module in modules.items():
            _draw(path, module, draw)
    return Detector(model).eval()


def _draw(path: str, module: nn.Module, draw: torch.Generator) -> None:
    """Products that keep the size of what they read, `_GAINS` aside; norms near one; offsets of about a cell beside the first ones."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        gain = next((factor for part, factor in _GAINS.items() if part in path), 1.0)
        module.weight.normal_(0.0, gain / fan_in**0.5, generator=draw)
        if module.bias is not None and not path.endswith("sampling_offsets"):
            module.bias.add_(torch.empty_like(module.bias).normal_(0.0, 0.1, generator=draw))
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0.0, 1.0, generator=draw)
    elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
        module.weight.uniform_(0.7, 1.3, generator=draw)
        module.bias.normal_(0.0, 0.1, generator=draw)
    for name, values in module.named_parameters(recurse=False):
        if "token" in name or "embed" in name:
            values.normal_(0.0, 0.5, generator=draw)


def choice_of(program: Program) -> fx.Node | None:
    """What chooses which places of the image become queries; None where queries are learned alone."""
    return next(iter(program.calls(aten.topk.default)), None)


def only_choice(program: Program) -> Program:
    """The same program up to its choice: it gives the places."""
    told = program.copy()
    choice = choice_of(told)
    assert choice is not None
    told.output.args = (told.insert(choice.next, operator.getitem, choice, 1),)
    told.clean()
    return told


def given_choice(program: Program) -> Program:
    """The same program with the places as an input: what it computes of them is continuous."""
    given = program.copy()
    choice = choice_of(given)
    if choice is None:
        return given
    with given.graph.inserting_after(given.inputs[-1]):
        places = given.graph.placeholder("places")
    for user in list(choice.users):
        if user.args[1] == 1:
            places.meta = dict(user.meta)
            user.replace_all_uses_with(places)
    given.clean()
    return given


@dataclass(frozen=True)
class Distance:
    """How far class scores and boxes are from a reference's for the same places, and which places both chose."""

    scores: float
    """Cosine."""
    boxes: float
    """Cosine."""
    moved: float
    """By how much of the image's size a box's centre and size changed, in the mean."""
    same: float
    """Share of the places that both chose, whatever their order."""


def distance(reference: Outputs, found: Outputs) -> Distance:
    """Two scores that are nearly alike change places by any rounding, and with them all that is computed for two queries.

    So both are to compute with the reference's places, and how many of them both choose is told by itself.
    """
    places, others = (set(map(int, each.places)) for each in (reference, found))
    return Distance(
        scores=_cosine(reference.scores, found.scores),
        boxes=_cosine(reference.boxes, found.boxes),
        moved=float((reference.boxes - found.boxes).abs().mean()),
        same=len(places & others) / len(places) if places else 1.0,
    )


@dataclass(frozen=True)
class Outputs:
    """What a detector gives for an image: class scores and boxes of the places that it was given, and those that it chooses."""

    scores: Tensor
    boxes: Tensor
    places: Tensor


Run = Callable[[Program, Sequence[Tensor]], Sequence[Tensor]]
"""Computes a program's outputs from its inputs."""


def eager(program: Program, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    """In torch."""
    found: Any = program.run(*inputs)
    return [found] if isinstance(found, Tensor) else list(found)


def detect(program: Program, image: Tensor, run: Run = eager, places: Tensor | None = None) -> Outputs:
    """The outputs for an image, of these places or of the program's own."""
    own = torch.empty(0) if choice_of(program) is None else run(only_choice(program), [image])[0]
    taken = own if places is None else places
    scores, boxes = run(given_choice(program), [image, taken] if taken.numel() else [image])
    return Outputs(scores, boxes, own.flatten())


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(functional.cosine_similarity(a.double().flatten(), b.double().flatten(), dim=0))

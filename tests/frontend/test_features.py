"""Models that give features: the class that a config names, the output that is taken, and nothing drawn at random in silence."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.from_timm import TimmSource
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.frontend.saved_programs import describe_saved
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.model_output import gives_features

PART: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 8,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 10,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIZES: dict[str, Any] = {"depth": 1, "embed_dim": 32, "num_heads": 1, "img_size": 32}
VIT = "vit_tiny_patch16_224"


def made(name: str, config: str, **settings: Any) -> Any:
    transformers = import_module("transformers")
    random: Any = torch.random
    random.manual_seed(0)
    return getattr(transformers, name)(getattr(transformers, f"{config}Config")(**settings)).eval()


def folder(tmp_path: Path, model: Any, **changes: Any) -> str:
    """The model saved there, with changes to its config."""
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    return f"transformers:{tmp_path}"


def features(model: LoadedModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.module(pixels())
    return found


def pixels() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "config", "output"),
    [
        ("ViTModel", "ViT", "pooler_output"),
        ("Dinov2Model", "Dinov2", "pooler_output"),
        ("SiglipVisionModel", "SiglipVision", "pooler_output"),
        ("CLIPVisionModel", "CLIPVision", "pooler_output"),
        ("CLIPVisionModelWithProjection", "CLIPVision", "image_embeds"),
    ],
)
def test_headless_models_of_transformers(name: str, config: str, output: str, tmp_path: Path) -> None:
    theirs = made(name, config, **PART)
    model = load_model(folder(tmp_path, theirs))
    assert (model.classes, model.class_names, model.input_shape) == (0, None, (3, 32, 32))
    assert model.notes == (f"{name} does not classify images: its {output} taken",)
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels())[output]
    torch.testing.assert_close(features(model), wanted)


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_the_tower_of_a_model_of_images_and_texts(name: str, tmp_path: Path) -> None:
    theirs = made(f"{name}Model", name, vision_config=PART, text_config=TEXT)
    spec = folder(tmp_path, theirs)
    model = load_model(spec)
    assert model.notes[0] == f"{name}Model: its part about images alone, {name}VisionModel, was taken"
    with torch.no_grad():
        torch.testing.assert_close(features(model), theirs.vision_model(pixels()).pooler_output)
    by_file = load_model(spec, weights=tmp_path / "model.safetensors")
    torch.testing.assert_close(features(by_file), features(model))
    assert "left out (" in " ".join(by_file.notes)


def test_a_named_class_goes_before_the_tower(tmp_path: Path) -> None:
    theirs = made("CLIPModel", "CLIP", vision_config=PART | {"projection_dim": 16}, text_config=TEXT, projection_dim=16)
    model = load_model(folder(tmp_path, theirs, architectures=["CLIPVisionModelWithProjection"]))
    with torch.no_grad():
        pooled = theirs.vision_model(pixels()).pooler_output
        torch.testing.assert_close(features(model), theirs.visual_projection(pooled))


def test_an_output_is_chosen(tmp_path: Path) -> None:
    theirs = made("Dinov2Model", "Dinov2", **PART)
    spec = folder(tmp_path, theirs)
    with torch.no_grad():
        tokens = theirs(pixel_values=pixels()).last_hidden_state
    torch.testing.assert_close(features(load_model(spec, model_args={"output": "last_hidden_state"})), tokens)
    chosen = load_model(spec, model_args={"output": "class_token"})
    torch.testing.assert_close(features(chosen), tokens[:, 0])
    assert "its class_token taken" in chosen.notes[-1]
    with pytest.raises(
        InputError, match="output=logits: Dinov2Model has last_hidden_state, pooler_output, class_token"
    ):
        load_model(spec, model_args={"output": "logits"})


def test_a_model_that_was_saved_without_its_pooler(tmp_path: Path) -> None:
    """As DINO's models were."""
    transformers = import_module("transformers")
    theirs = transformers.ViTModel(transformers.ViTConfig(**PART), add_pooling_layer=False).eval()
    spec = folder(tmp_path, theirs)
    model = load_model(spec)
    assert model.notes == (
        "model.safetensors has no pooler, so the model was made without one",
        "ViTModel does not classify images: its last_hidden_state taken",
    )
    with torch.no_grad():
        torch.testing.assert_close(features(model), theirs(pixel_values=pixels()).last_hidden_state)
    with pytest.raises(InputError, match=r"1 missing|2 missing \(pooler.dense.bias, pooler.dense.weight\)"):
        load_model(spec, model_args={"add_pooling_layer": True})


def test_a_head_that_the_file_lacks_is_not_drawn(tmp_path: Path) -> None:
    theirs = made("Dinov2Model", "Dinov2", **PART)
    spec = folder(tmp_path, theirs, architectures=["Dinov2ForImageClassification"])
    file = saved(tmp_path, {f"dinov2.{key}": tensor.clone() for key, tensor in theirs.state_dict().items()})
    for weights in ("pretrained", file):
        with pytest.raises(InputError, match=r'"architectures": \["Dinov2Model"\]'):
            load_model(spec, weights=weights)
    model = load_model(spec, weights="random")
    assert (model.classes, model.weights) == (2, "random, seed 0")


def test_a_headless_config_gets_no_head_and_one_that_names_nothing_says_so(tmp_path: Path) -> None:
    theirs = made("Dinov2Model", "Dinov2", **PART)
    spec = folder(tmp_path, theirs)
    assert load_model(spec, weights="random").classes == 0
    spec = folder(tmp_path, theirs, architectures=None)
    note = "config.json: architectures names no class, so an image classifier of 2 classes was made"
    assert load_model(spec, weights="random").notes[-1] == note
    with pytest.raises(InputError, match="ViTForImageClassification, which is not made of a Dinov2Config"):
        load_model(folder(tmp_path, theirs, architectures=["ViTForImageClassification"]))


def test_a_classifiers_file_in_a_headless_model(tmp_path: Path) -> None:
    theirs = made("ViTForImageClassification", "ViT", num_labels=3, **PART)
    spec = folder(tmp_path, theirs, architectures=["ViTModel"])
    model = load_model(spec, model_args={"output": "class_token"})
    with torch.no_grad():
        wanted = theirs.vit(pixel_values=pixels()).last_hidden_state[:, 0]
    torch.testing.assert_close(features(model), wanted)
    with pytest.raises(InputError, match="ViTModel has no classes"):
        load_model(spec, model_args={"num_labels": 3})


def state(classes: int) -> dict[str, Tensor]:
    return load_model(VIT, weights="random", model_args=SIZES | {"num_classes": classes}).module.state_dict()


def saved(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    file = tmp_path / "weights.safetensors"
    import_module("safetensors.torch").save_file(tensors, file)
    return file


@pytest.mark.parametrize(("pool", "shape"), [("token", (2, 32)), ("", (2, 5, 32))])
def test_timm_without_a_head_takes_a_classifiers_file(pool: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    file = saved(tmp_path, state(7))
    model = load_model(VIT, weights=file, model_args=SIZES | {"num_classes": 0, "global_pool": pool})
    assert (model.classes, tuple(features(model).shape)) == (0, shape)
    assert model.notes == (
        "2 of 20 tensors in weights.safetensors have no place in the model: left out (head.bias, head.weight)",
    )
    assert gives_features(capture_model(model))


@pytest.mark.parametrize("lost", ["norm.weight", "head.bias"])
def test_only_the_head_is_left_out(lost: str, tmp_path: Path) -> None:
    """The control: what the features are computed with is a fault wherever it is missing or over."""
    tensors = state(7)
    if lost.startswith("norm"):
        file = saved(tmp_path, {"fc_norm.weight": tensors.pop(lost), **tensors})
        arguments = SIZES | {"num_classes": 0}
    else:
        file, arguments = saved(tmp_path, {key: each for key, each in tensors.items() if key != lost}), SIZES
    with pytest.raises(InputError, match=f"1 missing \\({lost}\\)"):
        load_model(VIT, weights=file, model_args=arguments)


def test_a_file_without_a_head_is_refused_with_the_remedy(tmp_path: Path) -> None:
    file = saved(tmp_path, state(0))
    with pytest.raises(InputError, match="none is drawn at random: --model-args num_classes=0"):
        load_model(VIT, weights=file, model_args=SIZES)


def test_timm_is_not_asked_to_draw_a_head_for_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm itself would, without a word."""
    with pytest.raises(InputError, match="head of 1000 classes, and one of 7 would be drawn at random"):
        load_model(VIT, model_args={"num_classes": 7})

    def fetched(create: object, name: str) -> nn.Module:
        return nn.Identity()

    monkeypatch.setattr("vitgraph.frontend.from_timm.fetch", fetched)
    for classes in (0, 1000):
        TimmSource(VIT).make({"num_classes": classes}, True)


class Own(nn.Module):
    """Says that it has no classes."""

    num_classes = 0

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :12]


def test_a_module_says_that_it_gives_features_and_its_program_keeps_it() -> None:
    model = load_model(Own(), input_shape=(1, 8, 8))
    assert model.classes == 0
    program = capture_model(model)
    assert program.provenance["classes"] == 0
    assert describe_saved(program, ModelRequest("x")).classes == 0
    classifier = load_model(nn.Flatten(), input_shape=(1, 8, 8))
    assert "classes" not in capture_model(classifier).provenance


TASKS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "YolosForObjectDetection": ("Yolos", PART | {"image_size": [32, 32], "num_detection_tokens": 4}, ("logits", "pred_boxes")),
    "SegformerForSemanticSegmentation": (
        "Segformer",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]},
        ("logits",),
    ),
    "GLPNForDepthEstimation": (
        "GLPN",
        {"depths": [1, 1, 1, 1], "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
        ("predicted_depth",),
    ),
}  # fmt: skip
"""By class: its configuration, and the outputs that it is for."""


@pytest.mark.parametrize("name", TASKS)
def test_what_a_detector_or_a_dense_model_is_for(name: str, tmp_path: Path) -> None:
    config, settings, outputs = TASKS[name]
    theirs = made(name, config, **settings)
    spec = folder(tmp_path, theirs)
    model = load_model(spec, preprocessing=PreprocessingOptions(image_size=(32, 32)))
    assert (model.classes, model.class_names) == (0, None)
    assert model.notes == (f"{name} does not classify images: its {' and '.join(outputs)} taken",)
    with torch.no_grad():
        wanted, found = theirs(pixel_values=pixels()), model.module(pixels())
    for output, tensor in zip(outputs, [found] if isinstance(found, Tensor) else found, strict=True):
        torch.testing.assert_close(tensor, wanted[output])
    program = capture_model(model)
    assert program.provenance["classes"] == 0
    assert gives_features(program)


def test_several_outputs_are_chosen(tmp_path: Path) -> None:
    config, settings, _ = TASKS["YolosForObjectDetection"]
    spec = folder(tmp_path, made("YolosForObjectDetection", config, **settings))
    boxes, scores = load_model(spec, model_args={"output": "pred_boxes,logits"}).module(pixels())
    assert (boxes.shape[-1], scores.shape[:2]) == (4, boxes.shape[:2])
    for wrong in ("pred_boxes,pred_boxes", "pred_boxes,boxes"):
        with pytest.raises(InputError, match=f"output={wrong}: YolosForObjectDetection has .*logits.*; name each once"):
            load_model(spec, model_args={"output": wrong})

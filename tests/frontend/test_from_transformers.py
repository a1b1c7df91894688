"""Classifiers of transformers at sizes that are not their positions', and of configs that nest their part about images."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import LoadedModel, load_model
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.pass_manager.pipeline import parse_pipeline
from vitgraph.passes import find_pass

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
PROCESSOR = {
    "do_center_crop": True,
    "crop_size": {"height": 56, "width": 56},
    "size": {"shortest_edge": 64},
    "resample": 3,
}


def save(folder: Path, name: str, processor: dict[str, Any] | None = None, **settings: Any) -> Any:
    """A classifier with weights, its config, and a processor."""
    transformers = import_module("transformers")
    random: Any = torch.random
    random.manual_seed(0)
    model = getattr(transformers, f"{name}ForImageClassification")(getattr(transformers, f"{name}Config")(**settings))
    model.save_pretrained(folder)
    if processor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return model.eval()


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """As published ones: positions for a large image, a processor that crops a small one."""
    folder = tmp_path_factory.mktemp("dinov2")
    sizes = SIZES | {"intermediate_size": None, "mlp_ratio": 2}
    sizes.pop("intermediate_size")
    return f"transformers:{folder}", save(
        folder, "Dinov2", PROCESSOR, image_size=112, patch_size=14, num_labels=5, **sizes
    )


def logits(model: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.module(pixels(model.input_shape))
    return found


def pixels(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def at(size: str, **more: str) -> PreprocessingOptions:
    return PreprocessingOptions.parse(image_size=size, **more)


@pytest.mark.parametrize(
    ("options", "size", "resize"),
    [
        (None, 56, 64),
        (at("56"), 56, 64),
        (at("112"), 112, 128),
        (at("112", resize="112x112", crop="none"), 112, 112),
        (at("56", resize="60"), 56, 60),
        (at("70"), 70, 80),
    ],
)
def test_the_crop_decides_unless_told_otherwise(dinov2: tuple[str, Any], options: Any, size: int, resize: int) -> None:
    spec, theirs = dinov2
    model = load_model(spec, preprocessing=options)
    assert model.preprocessing is not None
    assert (model.preprocessing.image_size, model.preprocessing.resize) == ((size, size), (resize, resize))
    with torch.no_grad():
        wanted = theirs(pixel_values=pixels(model.input_shape)).logits
    assert torch.allclose(logits(model), wanted, atol=1e-6)


def test_a_size_that_it_can_not_run_at(dinov2: tuple[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"--image-size 57 \(it is not divided by its patch size 14\); 56 or 70 would work"
    ):
        load_model(dinov2[0], preprocessing=at("57"))


def test_fitted_positions_are_constants_of_the_program(dinov2: tuple[str, Any]) -> None:
    model = load_model(dinov2[0])
    program = parse_pipeline("canonicalize,fold-constants", find_pass).run(capture_model(model), Context())
    assert not [node for node in program.graph.nodes if "upsample" in str(node.target)]
    with torch.no_grad():
        assert torch.allclose(program.run(pixels(model.input_shape)[:1]), logits(model)[:1], atol=1e-5)


def test_vit_is_asked_to_fit_its_positions(tmp_path: Path) -> None:
    theirs = save(
        tmp_path, "ViT", {"size": {"height": 48, "width": 48}}, image_size=32, patch_size=8, num_labels=3, **SIZES
    )
    for options in (None, at("32"), at("64x40")):
        model = load_model(f"transformers:{tmp_path}", preprocessing=options)
        with torch.no_grad():
            wanted = theirs(pixel_values=pixels(model.input_shape), interpolate_pos_encoding=True).logits
        assert torch.allclose(logits(model), wanted, atol=1e-6), options
    by_file = load_model(f"transformers:{tmp_path}", weights=tmp_path / "model.safetensors", preprocessing=at("64"))
    assert by_file.input_shape == (3, 64, 64)


@pytest.mark.parametrize(("name", "fits"), [("Siglip", True), ("CLIP", False)])
def test_the_size_within_vision_config(name: str, fits: bool, tmp_path: Path) -> None:
    part = SIZES | {"image_size": 48, "patch_size": 8}
    save(
        tmp_path,
        name,
        vision_config=part,
        text_config=SIZES | {"vocab_size": 10, "bos_token_id": 1, "eos_token_id": 2},
        num_labels=3,
    )
    spec = f"transformers:{tmp_path}"
    assert load_model(spec).input_shape == (3, 48, 48)
    assert logits(load_model(spec, weights="random", preprocessing=at("64"))).shape == (2, 3)
    assert load_model(spec, weights="random", model_args={"image_size": 64}).input_shape == (3, 64, 64)
    if fits:
        assert load_model(spec, preprocessing=at("64")).input_shape == (3, 64, 64)
        return
    with pytest.raises(InputError, match=r"position_embedding.weight \[37, 32\], the model's is \[65, 32\]"):
        load_model(spec, preprocessing=at("64"))


def test_names_of_null_are_none(tmp_path: Path) -> None:
    save(tmp_path, "Pvt", image_size=64, hidden_sizes=[16, 32, 40, 64], depths=[1, 1, 1, 1])
    assert json.loads((tmp_path / "config.json").read_text()).get("id2label") is None
    model = load_model(f"transformers:{tmp_path}")
    assert (model.class_names, model.classes) == (None, logits(model).shape[1])

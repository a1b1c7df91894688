"""Folders of transformers: configurations that can't be, processors that can't be, weights of another model."""

import json
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bad_inputs.mistake import Make, Mistake, each, hold
from tests.tools.conftest import Cli

VIT: dict[str, Any] = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 8, "hidden_act": "gelu",
    "id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2},
}  # fmt: skip
PROCESSOR: dict[str, Any] = {
    "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2, "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
}  # fmt: skip
COMMAND = ("opt", "transformers:m", "--pipeline", "canonicalize", "-o", "x.safetensors")


@cache
def tensors() -> dict[str, torch.Tensor]:
    transformers = import_module("transformers")
    settings = {key: value for key, value in VIT.items() if key not in ("model_type", "architectures")}
    return dict(transformers.ViTForImageClassification(transformers.ViTConfig(**settings)).state_dict())


def weights(*left_out: str, **replaced: torch.Tensor) -> Make:
    def write(path: Path) -> None:
        state = {key: value for key, value in (tensors() | replaced).items() if key not in left_out}
        import_module("safetensors.torch").save_file(state, path, metadata={"format": "pt"})

    return write


def _config(name: str, changes: dict[str, Any] | str, *says: str, more: tuple[str, ...] = ()) -> Mistake:
    text = changes if isinstance(changes, str) else json.dumps(VIT | changes)
    return Mistake(name, (*COMMAND, "--weights", "random", *more), says, {"m/config.json": text})


def _headless(name: str, argument: str, *says: str) -> Mistake:
    return _config(name, {"architectures": ["ViTModel"]}, *says, more=("--model-args", argument))


def _processor(name: str, changes: Any, *says: str) -> Mistake:
    text = changes if isinstance(changes, str) else json.dumps(PROCESSOR | changes)
    files = {"m/config.json": json.dumps(VIT), "m/preprocessor_config.json": text}
    return Mistake(name, (*COMMAND, "--weights", "random"), says, files)


def _weights(name: str, content: str | bytes | Make | None, *says: str) -> Mistake:
    files: dict[str, str | bytes | Make] = {"m/config.json": json.dumps(VIT)}
    return Mistake(name, COMMAND, says, files if content is None else files | {"m/model.safetensors": content})


FILE, IMAGES = "transformers:m", "preprocessor_config.json"
CONFIGS = [
    Mistake("no such folder", (*COMMAND, "--weights", "random"), (FILE, "no config.json")),
    Mistake("a folder without a config", (*COMMAND, "--weights", "random"), (FILE, "no config.json"), {"m/a": ""}),
    _config("an empty config", "", "m/config.json is not JSON"),
    _config("no JSON", "{", "m/config.json is not JSON"),
    _config("a list for a config", "[]", FILE, "config.json"),
    _config("a number for a config", "3", FILE, "config.json"),
    _config("no model type", "{}", FILE, "config.json"),
    _config("an unknown model type", {"model_type": "vit_of_tomorrow"}, FILE, "vit_of_tomorrow"),
    _config("a number for a model type", {"model_type": 7}, FILE),
    _config("a list for a model type", {"model_type": ["vit"]}, FILE),
    _config("a text model", {"model_type": "bert"}, FILE, "BertConfig"),
    _config("code of its own", {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}, FILE),
    _config("no heads", {"num_attention_heads": 0}, FILE),
    _config("patches of zero", {"patch_size": 0}, FILE),
    _config("patches as a word", {"patch_size": "eight"}, FILE),
    _config("patches larger than the image", {"patch_size": 64}, FILE),
    _config("a negative width", {"hidden_size": -32}, FILE),
    _config("a width of a half", {"hidden_size": 32.5}, FILE),
    _config("a width of null", {"hidden_size": None}, FILE),
    _config("an unknown activation", {"hidden_act": "gelu_of_tomorrow"}, FILE, "gelu_of_tomorrow"),
    _config("an activation of null", {"hidden_act": None}, FILE),
    _config("layers as a word", {"num_hidden_layers": "twelve"}, FILE),
    _config("an image of zero", {"image_size": 0}, FILE),
    _config("an image of a word", {"image_size": "large"}, FILE),
    _config("channels of zero", {"num_channels": 0}, FILE),
    _config("labels as a list", {"id2label": ["a", "b"]}, FILE),
    _config("labels as words", {"id2label": {"a": "b"}}, FILE),
    _config("an optional library that is absent", json.dumps({"model_type": "dinat"}), FILE, "natten", "install"),
    _headless("an output of another class", "output=logits", "output=logits: ViTModel has last_hidden_state"),
    _headless("an output of a number", "output=7", "output=7: ViTModel has last_hidden_state"),
    _headless("classes of a headless model", "num_labels=3", "ViTModel has no classes"),
    _headless("a pooler that is no word of Python", "add_pooling_layer", "not key=value"),
    _config("an output of a classifier", {}, "output=logits is for models that do not classify", more=("--model-args", "output=logits")),
    _config("another model's class", {"architectures": ["Dinov2Model"]}, FILE, "not made of a ViTConfig"),
    _config("a class without features", {"architectures": ["ViTForMaskedImageModeling"]}, FILE, "output=NAME"),
    _config("architectures of a number", {"architectures": 7}, FILE),
    _config("a class of texts", {"architectures": ["BertModel"], "model_type": "bert"}, FILE, "input_ids and no images"),
    _config("an argument that it has not", {}, "--model-args heads=3", "no heads", more=("--model-args", "heads=3")),
    _config("a size that patches do not divide", {}, "--image-size 36", "32 or 40", more=("--image-size", "36")),
    _config("a size that is none", {}, "image_size='wide'", more=("--model-args", "image_size=wide")),
]  # fmt: skip
PROCESSORS = [
    _processor("no JSON in the processor", "{", IMAGES, "is not JSON"),
    _processor("a list for a processor", "[]", IMAGES, "holds a list"),
    _processor("null for a processor", "null", IMAGES, "holds a NoneType"),
    _processor("deep nesting", "[" * 100000, IMAGES, "is not JSON"),
    _processor("a filter of 99", {"resample": 99}, IMAGES, "resample", "less than 6"),
    _processor("a negative filter", {"resample": -1}, IMAGES, "resample"),
    _processor("a word for a filter", {"resample": "soft"}, IMAGES, "resample"),
    _processor("a mean that is a number", {"image_mean": 3}, IMAGES, "image_mean"),
    _processor("a mean of words", {"image_mean": ["a", "b", "c"]}, IMAGES, "image_mean"),
    _processor("two means", {"image_mean": [0.1, 0.2]}, IMAGES, "image_mean", "2 values"),
    _processor("no means", {"image_mean": []}, IMAGES, "image_mean", "0 values"),
    _processor("a mean of NaN", json.dumps(PROCESSOR | {"image_mean": [float("nan")] * 3}), IMAGES, "image_mean"),
    _processor("a deviation of zero", {"image_std": [0, 0, 0]}, "std", "must be above zero"),
    _processor("means of 0 to 255", {"image_mean": [127.5] * 3}, "mean", "by 255"),
    _processor("a size of zero", {"size": {"height": 0, "width": 32}}, IMAGES, "size.height"),
    _processor("a size of a word", {"size": "large"}, IMAGES, "size"),
    _processor("a size of nothing", {"size": {}}, IMAGES, "size", "height and width"),
    _processor("a size of a height", {"size": {"height": 32}}, IMAGES, "height and width, or shortest_edge"),
    _processor("a size of 10^9", {"size": 10**9}, IMAGES, "size"),
    _processor("a size of its long side", {"size": {"longest_edge": 32}}, IMAGES, "shortest_edge"),
    _processor("a crop of zero", {"do_center_crop": True, "crop_size": 0}, IMAGES, "crop_size"),
    _processor("a crop larger than the image", {"do_center_crop": True, "crop_size": 64}, "resize 32x32 is smaller", FILE),
    _processor("a share above one", {"crop_pct": 1.5}, IMAGES, "crop_pct"),
    _processor("a factor of zero", {"rescale_factor": 0}, IMAGES, "rescale_factor"),
    _processor("a size that the model does not run at", {"size": 36}, FILE, "its own pre-processing's 36", "32 or 40"),
]  # fmt: skip
WEIGHTS = [
    _weights("no weights", None, "no model.safetensors", "--weights FILE"),
    _weights("empty weights", b"", "model.safetensors cannot be loaded"),
    _weights("text for weights", "hello\n" * 9, "model.safetensors cannot be loaded"),
    _weights(
        "weights without a head",
        weights("classifier.weight"),
        "1 missing (classifier.weight)",
        '"architectures": ["ViTModel"]',
        "headless",
    ),
    _weights(
        "a head of other classes",
        weights(**{"classifier.weight": torch.zeros(7, 32)}),
        "classifier.weight [7, 32], the model's is [3, 32]",
    ),
]
MISTAKES = [*CONFIGS, *PROCESSORS, *WEIGHTS]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"id2label": None},
        {"num_labels": 3, "id2label": None},
        {"architectures": ["ViTModel"]},
        {"architectures": None},
        {"architectures": ["OfTomorrow"]},
        {"architectures": "ViTModel"},
    ],
)
def test_a_good_folder_is_none(changes: dict[str, Any], cli: Cli) -> None:
    """The control, and labels of null: transformers counts them its own way, and there are no names."""
    Path("m").mkdir()
    Path("m/config.json").write_text(json.dumps(VIT | changes))
    Path("m/preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    ran = cli(*COMMAND, "--weights", "random")
    assert ran.status == 0, ran.err

"""Models by name: from each source, with each kind of weights, and a helpful word for each bad input."""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.digits import build_digits_vit
from vitgraph.errors import InputError
from vitgraph.frontend.hub import fetch
from vitgraph.frontend.models import LoadedModel, load_model, parse_model_args, tells_input
from vitgraph.images.preprocess import PreprocessingOptions

TINY = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"depth": 1, "embed_dim": 32, "num_heads": 1, "num_classes": 5}


def run(model: LoadedModel) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model.module(torch.zeros(2, *model.input_shape))
    return output


def at(size: str) -> PreprocessingOptions:
    return PreprocessingOptions.parse(image_size=size)


def test_random_is_the_same_each_time_and_leaves_the_seed_alone() -> None:
    torch.random.initial_seed()
    before = torch.get_rng_state()
    one, two = (load_model(TINY, weights="random", model_args=SMALL) for _ in range(2))
    assert one.weights_sha256 == two.weights_sha256
    assert torch.equal(before, torch.get_rng_state())
    assert load_model(TINY, weights="random", model_args=SMALL, seed=1).weights_sha256 != one.weights_sha256


def test_timm() -> None:
    model = load_model(f"timm:{TINY}", weights="random", model_args=SMALL)
    assert not model.module.training
    assert model.input_shape == (3, 224, 224)
    assert model.preprocessing is not None
    assert model.preprocessing.resize == (248, 248)
    assert (model.classes, model.class_names, model.weights) == (5, None, "random, seed 0")
    assert model.parameters == sum(p.numel() for p in model.module.parameters())
    assert run(model).shape == (2, 5)


def test_names_imagenet_classes() -> None:
    names = load_model(TINY, weights="random", model_args=SMALL | {"num_classes": 1000}).class_names
    assert names is not None
    assert (len(names), names[0]) == (1000, "tench, Tinca tinca")


def test_torchvision_and_its_zero_head() -> None:
    model = load_model("torchvision:vit_b_16", weights="random", model_args={"num_classes": 4}, preprocessing=at("32"))
    head = model.module.get_submodule("heads.head")
    assert isinstance(head, nn.Linear)
    assert head.weight.any()  # torchvision starts it at zero
    assert "heads.head.weight" in model.notes[0]
    assert model.preprocessing is not None
    assert model.preprocessing.resize == (36, 36)
    assert run(model).shape == (2, 4)


@pytest.fixture(scope="module")
def config_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = import_module("transformers")
    folder = tmp_path_factory.mktemp("hf")
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        num_labels=6,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


def test_transformers(config_folder: Path, tmp_path: Path) -> None:
    spec = f"transformers:{config_folder}"
    random, pretrained = load_model(spec, weights="random", seed=5), load_model(spec)
    by_file = load_model(spec, weights=config_folder / "model.safetensors")
    assert run(pretrained).shape == (2, 6)
    assert pretrained.weights_sha256 == by_file.weights_sha256 != random.weights_sha256
    assert "vit.embeddings.cls_token" in dict(random.module.named_parameters())  # no wrapper's name before the paths
    assert random.preprocessing is not None
    assert random.preprocessing.fit == "exact"
    (tmp_path / "config.json").write_bytes((config_folder / "config.json").read_bytes())
    processor = {"size": {"shortest_edge": 40}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    plan = load_model(f"transformers:{tmp_path}", weights="random").preprocessing
    assert plan is not None
    assert (plan.resize, plan.fit, plan.mean, plan.interpolation) == ((40, 40), "cover", (0.1, 0.2, 0.3), "bicubic")
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        load_model(f"transformers:{tmp_path}")


def test_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from vitgraph.digits import build_digits_vit\n"
        "def make(): return build_digits_vit()\n"
        "def make_text(): return 'text'\n"
        "def fail(): raise OSError('no disk')\n"
        "def leave(): raise SystemExit(7)\n"
        "constant = 3\n"
    )
    (tmp_path / "broken.py").write_text("1/0\n")
    (tmp_path / "leaving.py").write_text("import sys; sys.exit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    path = list(sys.path)
    assert run(load_model("mine:make", preprocessing=at("24"))).shape == (2, 10)
    assert sys.path == path
    for spec, message in {
        "mine:make": "give --image-size",
        "mine:mak": "did you mean make",
        "mine:make_text": "gave back str",
        "mine:fail": "no disk",
        "mine:leave": r"the factory ended the program \(exit 7\)",
        "leaving:make": r"importing leaving ended the program \(exit 3\)",
        "mine:constant": "not a function",
        "mines:make": "no module 'mines'",
        "broken:make": "ZeroDivisionError",
    }.items():
        with pytest.raises(InputError, match=message):
            load_model(spec)


def test_given_module_keeps_its_weights() -> None:
    module = build_digits_vit()
    one = load_model(module, preprocessing=at("24"))
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), one.module.parameters(), strict=True))
    assert (one.weights, one.input_shape, one.classes) == ("as made by its own code", (1, 24, 24), 10)


def test_a_module_that_tells_nothing_is_loaded_for_the_images_at_hand() -> None:
    module = nn.Conv2d(3, 4, 2)
    for options, known in ((None, False), (PreprocessingOptions(mean=(0.1,), std=(0.2,)), True)):
        model = load_model(module, input_shape=(3, 8, 6), preprocessing=options)
        assert (model.input_shape, model.preprocessing is not None) == ((3, 8, 6), known)
        assert tells_input(module, options) is False
    assert tells_input(module, at("8"))
    with pytest.raises(InputError, match="hand in images as tensors"):
        load_model(module)


def test_given_module_stays_as_it_is() -> None:
    module = build_digits_vit().double().train()
    one = load_model(module, preprocessing=at("24"))
    with torch.no_grad():
        next(one.module.parameters()).zero_()
    assert (module.training, one.module.training) == (True, False)
    assert next(module.parameters()).dtype == torch.float64
    assert bool(next(module.parameters()).any())


def test_given_module_of_another_size_than_its_name_has() -> None:
    model = load_model(import_module("timm").create_model(TINY, img_size=64, **SMALL))
    assert model.input_shape == (3, 64, 64)
    assert model.preprocessing is not None
    assert model.preprocessing.resize == (71, 71)


def test_a_size_that_overlapping_patches_do_not_divide() -> None:
    assert load_model("pvt_v2_b0", weights="random", preprocessing=at("256")).input_shape == (3, 256, 256)


def test_given_module_that_cannot_be_copied() -> None:
    module = build_digits_vit()
    object.__setattr__(module, "kept", next(module.parameters()) * 2)
    with pytest.raises(InputError, match="cannot be copied"):
        load_model(module, preprocessing=at("24"))


def test_classes_come_from_the_files_head(tmp_path: Path) -> None:
    trained = load_model(TINY, weights="random", model_args=SMALL)
    import_module("safetensors.torch").save_file(trained.module.state_dict(), tmp_path / "w.safetensors")
    shape = {key: value for key, value in SMALL.items() if key != "num_classes"}
    model = load_model(TINY, weights=tmp_path / "w.safetensors", model_args=shape)
    assert model.weights_sha256 == trained.weights_sha256
    assert model.notes == ("num_classes=5 was read from the head in w.safetensors",)
    with pytest.raises(InputError, match=r"num_classes=N"):
        load_model(TINY, weights=tmp_path / "w.safetensors", model_args=shape | {"num_classes": 9})
    with pytest.raises(InputError, match="another architecture"):
        load_model("deit_tiny_patch16_224", weights=tmp_path / "w.safetensors")


def test_position_embeddings_follow_the_image_size(tmp_path: Path) -> None:
    trained = load_model(TINY, weights="random", model_args=SMALL)
    import_module("safetensors.torch").save_file(trained.module.state_dict(), tmp_path / "w.safetensors")
    model = load_model(TINY, weights=tmp_path / "w.safetensors", model_args=SMALL, preprocessing=at("64x32"))
    assert model.module.get_parameter("pos_embed").shape[1] == 1 + 8
    assert torch.equal(model.module.get_parameter("cls_token"), trained.module.get_parameter("cls_token"))


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        (TINY, "225", r"not divided by its patch size 16\); 224 or 240 would work"),
        ("swin_tiny_patch4_window7_224", "226", "224 or 228 would work"),
        ("torchvision:vit_b_16", "225", "cannot be made for --image-size 225"),
        ("levit_128s", "225", "does not run at --image-size 225 .*; 224 or 256 would work"),
    ],
)
def test_image_size_the_model_cannot_have(spec: str, size: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(spec, weights="random", preprocessing=at(size))


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        ("vit_tiny_patch16_24", {}, "did you mean vit_tiny_patch16_224"),
        (f"{TINY}.nope", {}, "no weights tagged 'nope'; it has .*augreg_in21k"),
        ("torchvision:vit_b16", {}, "did you mean vit_b_16"),
        ("torchvision:fasterrcnn_resnet50_fpn", {}, "is unknown"),
        ("transformers:nowhere", {}, r"no config\.json"),
        (TINY, {"colour": 1}, "does not accept --model-args colour=1"),
        (TINY, {"in_chans": 4}, "takes 4 channels"),
        (TINY, {"num_heads": 0}, "does not accept --model-args num_heads=0"),
        (TINY, {"patch_size": 0}, "does not accept --model-args patch_size=0"),
        (TINY, {"act_layer": "gelu_of_tomorrow"}, "does not accept --model-args act_layer=gelu_of_tomorrow"),
        (TINY, {"depth": "deep"}, "does not accept --model-args depth=deep"),
        (TINY, {"img_size": "wide"}, "is not a size"),
        ("digits-vit", {"depth": 2}, "does not accept --model-args depth=2"),
        (__file__, {}, "is a path"),
    ],
)
def test_bad_model(spec: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_model(spec, weights="random", model_args=arguments)


def test_pretrained_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://hub.invalid")
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def refuse() -> nn.Module:
        assert import_module("huggingface_hub.constants").HF_HUB_OFFLINE
        raise OSError("no route")

    with pytest.raises(InputError, match=r"can't be had \(no route\); give them with --weights FILE"):
        fetch(refuse, "some_model")


def test_parse_model_args() -> None:
    given = parse_model_args(["num_classes=10", "norm=layer", "img_size=(64,32)", "fused=False"])
    assert given == {"num_classes": 10, "norm": "layer", "img_size": (64, 32), "fused": False}
    with pytest.raises(InputError, match="is not key=value"):
        parse_model_args(["num_classes"])


@pytest.mark.slow
def test_real_weights(data: Path) -> None:
    weights = data / "weights"
    in1k = load_model(TINY, weights=weights / f"{TINY}_in1k.safetensors")
    assert (in1k.classes, in1k.notes) == (1000, ())
    tiny_imagenet = load_model(TINY, weights=weights / f"{TINY}_tinyimagenet200.safetensors")
    assert (tiny_imagenet.classes, tiny_imagenet.class_names) == (200, None)
    cifar = {"img_size": 32, "patch_size": 4, "embed_dim": 128, "depth": 4, "num_heads": 4, "mlp_ratio": 2}
    small = load_model(TINY, weights=weights / "vit_cifar10_p4_d128_l4_h4.safetensors", model_args=cifar)
    assert (small.classes, small.input_shape) == (10, (3, 32, 32))
    with pytest.raises(InputError, match="another architecture"):
        load_model("vit_small_patch16_224", weights=weights / f"{TINY}_in1k.safetensors")

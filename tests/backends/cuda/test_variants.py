"""What is compiled ahead is what models launch; no kernel runs here."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from tests.backends.cuda.interpreter import MODULES

if find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

MODELS: dict[str, tuple[str, dict[str, tuple[int, ...]], dict[str, Any]]] = {
    "linear, batch 128": ("linear", {"x": (25216, 768), "w": (3072, 768), "bias": (3072,)}, {"gelu": True, "out_scale": 1.0}),
    "linear, adjusted": ("linear", {"x": (25216, 768), "w": (3072, 768), "bias": (3072,), "multiplier": (3072,), "offset": (3072,)}, {"gelu": True, "out_scale": 1.0}),
    "linear, batch 1": ("linear", {"x": (197, 768), "w": (768, 768), "bias": (768,), "residual": (197, 768)}, {}),
    "linear, one row": ("linear", {"x": (1, 768), "w": (1000, 768), "bias": (1000,)}, {"gelu": True, "out_scale": 1.0}),
    "linear, 192 wide": ("linear", {"x": (197, 192), "w": (768, 192), "bias": (768,)}, {"gelu": True, "out_scale": 1.0}),
    "normalize, 192 wide": ("normalize", {"x": (197, 192), "residual": (197, 192)}, {"eps": 1e-6, "scale": 1.0}),
    "normalize, 1024 wide": ("normalize", {"x": (197, 1024), "residual": (197, 1024)}, {"eps": 1e-6, "scale": 1.0}),
    "activation": ("activate", {"x": (197, 3072), "bias": (3072,)}, {"scale": 1.0}),
    "activation, adjusted": ("activate", {"x": (197, 3072), "bias": (3072,), "multiplier": (3072,), "offset": (3072,)}, {"scale": 1.0}),
    "attention, 197 keys": ("attention", {"q": (1, 197, 3, 64)}, {"out_scale": 1.0}),
    "attention, 577 keys": ("attention", {"q": (1, 577, 3, 64)}, {"out_scale": 1.0}),
    "attention, 577 keys, FP16": ("attention", {"q": (1, 577, 3, 64)}, {}),
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_what_models_launch_is_compiled_ahead(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constants, options and what is None are those of a variant."""
    name, shapes, more = MODELS[model]
    module = import_module(f"vitgraph.backends.cuda.kernels.{MODULES[name]}")
    launches = list[tuple[Any, ...]]()

    def launch(kernel: Any, _: Any, *arguments: Any, **constants: Any) -> None:
        absent = {key for key, value in zip(kernel.arg_names, arguments, strict=False) if value is None}
        launches.append((kernel, absent, constants))

    monkeypatch.setattr(module, "launch", launch)
    kinds = {
        "bias": torch.float32,
        "multiplier": torch.float32,
        "offset": torch.float32,
        "residual": torch.float16,
    } | dict.fromkeys("qkvw", torch.int8)
    kinds["x"] = torch.int8 if name == "linear" else torch.float16
    tensors = {key: torch.empty(shape, dtype=kinds[key], device="meta") for key, shape in shapes.items()}
    if name == "attention":
        tensors |= {"k": tensors["q"], "v": tensors["q"]}
        more = {"score_factor": 1.0, "probability_scale": 1.0, "value_scale": 1.0} | more
    elif name == "linear":
        tensors["scale"] = tensors["bias"]
    elif name == "normalize":
        tensors["weight"] = tensors["bias"] = torch.empty(shapes["x"][1], device="meta")
    getattr(module, name)(**tensors, **more)
    ((kernel, absent, constants),) = launches
    variants = import_module("vitgraph.backends.cuda.kernels.variants").variants(99 * 1024)
    assert any(
        each.kernel is kernel
        and {**each.constants, **each.options} == constants
        and {key for key, value in each.constexprs().items() if value is None} == absent
        for each in variants
    )

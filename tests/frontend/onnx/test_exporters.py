"""Files of torch's exporters: the numbers of ONNX Runtime, and the sites of the module."""

import importlib
import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.frontend.onnx.files import furthest
from vitgraph.analysis.attention import find_attentions
from vitgraph.analysis.sites import find_sites
from vitgraph.frontend.capture import capture
from vitgraph.frontend.from_onnx.open_onnx import open_onnx
from vitgraph.ir.program import Program
from vitgraph.passes.prepared import prepare


def _timm(name: str, **arguments: Any) -> nn.Module:
    made: nn.Module = timm.create_model(name, num_classes=5, **arguments)
    return made


def _vit() -> nn.Module:
    return _timm("vit_tiny_patch16_224", depth=2, img_size=64, embed_dim=48)


def _deit() -> nn.Module:
    return _timm("deit_tiny_distilled_patch16_224", depth=2, img_size=64, embed_dim=48)


def _swin() -> nn.Module:
    return _timm(
        "swin_tiny_patch4_window7_224", depths=(2, 2), num_heads=(2, 4), embed_dim=24, img_size=64, window_size=4
    )


def _vit_b() -> nn.Module:
    models: Any = importlib.import_module("torchvision.models")
    made: nn.Module = models.VisionTransformer(64, 16, 2, 3, 48, 96, num_classes=5)
    return made


MODELS: dict[str, Callable[[], nn.Module]] = {"vit": _vit, "deit": _deit, "swin": _swin, "torchvision": _vit_b}
IMAGES = torch.zeros(2, 3, 64, 64)


def _made(name: str) -> nn.Module:
    """The module with no zeros in its weights, so that every path of it counts."""
    module = MODELS[name]().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return module


def _export(module: nn.Module, path: Path, opset: int, dynamo: bool, dynamic: bool) -> Path:
    onnx: Any = torch.onnx
    export = onnx.export
    named: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"], "opset_version": opset}
    if dynamo:
        shapes = ({0: torch.export.Dim("batch")},) if dynamic else None
        export(module, (IMAGES,), str(path), dynamo=True, dynamic_shapes=shapes, external_data=False, **named)
    else:
        export(
            module, (IMAGES,), str(path), dynamo=False, dynamic_axes={"image": {0: "n"}} if dynamic else None, **named
        )
    return path


def _counted(program: Program) -> tuple[Any, ...]:
    """What is found in it, by kind."""
    sites = find_sites(program)
    return (
        Counter(site.role for site in sites.linears),
        len(find_attentions(program)),
        len(sites.fused_attentions),
        len(sites.norms),
        len(sites.residuals),
        Counter(str(node.target) for node in program.calls() if "gelu" in str(node.target)),
    )


def _hold(module: nn.Module, path: Path, batches: tuple[int, ...]) -> None:
    found = open_onnx(path)
    prepared = prepare(found)
    for batch in batches:
        assert furthest(found, path, batch) < 1e-4
        assert furthest(prepared, path, batch) < 1e-4
    assert _counted(prepared) == _counted(prepare(capture(module, IMAGES)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", MODELS)
def test_torchscript(name: str, dynamic: bool, tmp_path: Path) -> None:
    module = _made(name)
    _hold(module, _export(module, tmp_path / "m.onnx", 17, dynamo=False, dynamic=dynamic), (1, 3) if dynamic else (2,))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("opset", [14, 16, 18, 20])
def test_torchscript_in_other_opsets(opset: int, tmp_path: Path) -> None:
    """Before 17 a layer norm is written out; from 20 on GELU is an operator."""
    module = _made("vit")
    _hold(module, _export(module, tmp_path / "m.onnx", opset, dynamo=False, dynamic=True), (2,))


@pytest.mark.filterwarnings("ignore")
def test_module_paths_and_weights_keep_their_names(tmp_path: Path) -> None:
    module = _made("vit")
    found = prepare(open_onnx(_export(module, tmp_path / "m.onnx", 17, dynamo=False, dynamic=True)))
    own = prepare(capture(module, IMAGES))
    assert [site.path for site in find_sites(found).linears] == [site.path for site in find_sites(own).linears]
    weights = dict(module.named_parameters())
    named = [name for name, tensor in found.tensors().items() if name in weights and torch.equal(tensor, weights[name])]
    assert len(named) > 0.9 * len(weights)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None, reason="torch's newer exporter needs onnxscript")
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", MODELS)
def test_dynamo(name: str, dynamic: bool, tmp_path: Path) -> None:
    module = _made(name)
    _hold(module, _export(module, tmp_path / "m.onnx", 18, dynamo=True, dynamic=dynamic), (1, 3) if dynamic else (2,))

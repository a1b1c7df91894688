"""The smallest model of each timm module that holds transformers or hybrids goes into the dialect, unharmed.

The table was made once, by counting parameters on the meta device, for the first two thirds of the modules; further
down the alphabet the choice is by hand. `MORE` holds models whose attention the smallest of their module lacks.
"""

from typing import Any

import pytest
import torch

from tests.harness import outputs
from vitgraph.frontend.capture import capture
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.verify import check
from vitgraph.pass_manager.numerics import objection
from vitgraph.pass_manager.pass_contract import Effect
from vitgraph.pass_manager.pipeline import Pipeline
from vitgraph.passes.canonicalize.canonicalize import Canonicalize

FAMILIES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "iformer": "iformer_t",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "maxxvit": "test_coatnet",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3": "mobilenetv4_hybrid_medium",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "pit": "pit_ti_224",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "repvit": "repvit_m1",
    "shvit": "shvit_s1",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_ns_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "twins": "twins_svt_small",
    "visformer": "visformer_tiny",
    "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "vit_relpos_small_patch16_224",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "xcit": "xcit_nano_12_p16_224",
}
"""Smallest model by timm module."""

MORE = ("coat_lite_tiny", "eva02_tiny_patch14_224", "fastvit_sa12", "mobilevitv2_050", "test_maxvit")
"""Other attentions of the same modules."""

DYNAMIC = ("test_vit", "levit_128s", "test_coatnet", "swin_tiny_patch4_window7_224", "efficientvit_b0")

LARGE: dict[str, dict[str, Any]] = {"deepseek_vit_412m": {"depth": 2}}
"""Models made of one block over and over, with fewer of them."""


def make(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    import timm

    torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
    model = timm.create_model(name, **LARGE.get(name, {})).eval()
    configuration: Any = model.pretrained_cfg
    return model, tuple(configuration["input_size"])


def hold(model: torch.nn.Module, shape: tuple[int, ...], batch: int, dynamic: bool) -> None:
    """Capture, canonicalize, verify, compare with eager, read the text back and run what was read."""
    x = torch.randn(batch, *shape)
    with torch.no_grad():
        wanted = model(x)
    captured = capture(model, torch.randn(2, *shape) if dynamic else x, dynamic_batch=dynamic)
    assert objection(Effect.EXACT, wanted, captured.run(x)) is None
    program = Pipeline((Canonicalize(),)).run(captured)
    check(program, "canonicalize")
    found = program.run(x)
    assert objection(Canonicalize().declares(), wanted, found) is None
    text = show(program)
    twin = parse(text, program.tensors())
    assert show(twin) == text
    for ours, theirs in zip(outputs(found), outputs(twin.run(x)), strict=True):
        assert torch.equal(ours, theirs)
    assert show(Pipeline((Canonicalize(),)).run(program)) == text


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FAMILIES.values(), *MORE])
def test_canonicalize_keeps_every_family(name: str) -> None:
    model, shape = make(name)
    hold(model, shape, batch=1, dynamic=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", DYNAMIC)
def test_an_unknown_batch_works_at_any(name: str) -> None:
    model, shape = make(name)
    hold(model, shape, batch=3, dynamic=True)


@pytest.mark.slow
def test_each_model_is_of_its_module() -> None:
    import timm

    assert len(FAMILIES) >= 54
    wrong = [name for module, name in FAMILIES.items() if name not in timm.list_models(module=module)]
    assert not wrong

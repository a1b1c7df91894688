"""Text towers of CLIP and SigLIP: tokens in place of images, by the Python API, from INT8 to an engine."""

from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import vitgraph
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.program_file import load

PART: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 99,
    "max_position_embeddings": 16, "bos_token_id": 97, "eos_token_id": 98, "projection_dim": 16, "projection_size": 16,
}  # fmt: skip
TOWERS = {
    "CLIPTextModelWithProjection": ("CLIPText", "text_embeds"),
    "SiglipTextModel": ("SiglipText", "pooler_output"),
}


class TextTower(nn.Module):
    """Takes tokens `[B, 16]` and gives features `[B, 16]`."""

    num_classes = 0

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType]
        config, self.output = TOWERS[name]
        package = import_module("transformers")
        self.tower = getattr(package, name)(getattr(package, f"{config}Config")(**PART)).eval()

    def forward(self, tokens: Tensor) -> Tensor:
        return cast(Tensor, self.tower(input_ids=tokens)[self.output])


def tokens(count: int = 16) -> Tensor:
    """Texts of several lengths, each ended by the last token of the vocabulary."""
    drawn = torch.randint(0, 97, (count, 16), generator=torch.Generator().manual_seed(1))
    for row, text in enumerate(drawn):
        text[4 + row % 12 :] = 98
    return drawn


def nearness(one: Tensor, other: Tensor) -> float:
    return float(functional.cosine_similarity(one, other).min())


@pytest.mark.parametrize("name", TOWERS)
def test_quantized_by_tokens(name: str) -> None:
    tower = TextTower(name).eval()
    quantized = vitgraph.quantize(tower, tokens())
    with torch.no_grad():
        assert 0.995 < nearness(quantized(tokens(3)), tower(tokens(3))) < 1 - 1e-6
    linears = vitgraph.find_sites(quantized).linears
    assert {site.role for site in linears} >= {"q", "k", "v", "proj", "fc1", "fc2"}


def test_tokens_of_another_length_or_type_are_refused() -> None:
    tower = TextTower("CLIPTextModelWithProjection").eval()
    with pytest.raises(InputError, match=r"image 1 is \[12\], where \[16\] is wanted"):
        vitgraph.quantize(tower, [tokens(1)[0], tokens(1)[0, :12]])
    with pytest.raises(InputError, match=r"has shape \[16\], where \[C, H, W\]"):
        vitgraph.quantize(tower, [tokens(1)[0].float()])


def test_noise_stands_for_no_tokens(tmp_path: Path) -> None:
    program = capture(TextTower("CLIPTextModelWithProjection").eval(), tokens(2), dynamic_batch=True)
    with pytest.raises(InputError, match=r"data random: the model takes tokens; hand in a tensor \[N, 16\]"):
        vitgraph.quantize(program, "random")


@pytest.mark.slow
@pytest.mark.parametrize("name", TOWERS)
def test_to_an_engine(name: str, tmp_path: Path) -> None:
    tower, out = TextTower(name).eval(), tmp_path / "out"
    report = vitgraph.compile_model(
        tower, calibration_data=tokens(), target="a100", recipe="int8", batch="1:2:4", out=out
    )
    assert report.engine is not None
    assert report.engine["linears"]["int8"] == report.engine["linears"]["planned_int8"] >= 12
    attention = report.engine["attention"]
    assert attention["fused_int8"] == attention["fused"] == attention["sites"] == 2
    assert not report.violations
    program = load(out / "program" / "program.safetensors")
    with torch.no_grad():
        assert nearness(program.run(tokens(4)).float(), tower(tokens(4))) > 0.995

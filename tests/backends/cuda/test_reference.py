"""The references against vitgraph's own operators: what the kernels compute is what a program with Q/DQ pairs means."""

from typing import Any

import torch

from tests.backends.cuda.cases import codes, qkv_codes
from vitgraph.backends.cuda import reference
from vitgraph.ir.dialect import attention, dequantize, fake_quantize, quantize_values


def test_linear_is_that_of_dequantized_codes() -> None:
    x, w, bias, residual = codes("random", 9, 40), codes("random", 6, 40), torch.randn(6), torch.randn(9, 6).half()
    x_scale, w_scale, out_scale = torch.tensor(0.03), torch.rand(6) * 0.02 + 0.001, torch.tensor(0.1)
    exact = torch.nn.functional.linear(
        dequantize(x, x_scale).double(), dequantize(w, w_scale, 0).double(), bias.double()
    )
    wanted = torch.nn.functional.gelu(exact) + residual
    found = reference.linear(x, w, x_scale * w_scale, bias, gelu=True, residual=residual)
    torch.testing.assert_close(found.double(), wanted, rtol=2e-3, atol=1e-3)
    found = reference.linear(x, w, x_scale * w_scale, bias, gelu=True, residual=residual, out_scale=0.1)
    torch.testing.assert_close(found, quantize_values(wanted.float(), out_scale))


def test_normalize_is_a_layer_norm_of_the_sum() -> None:
    x, residual, weight, bias = torch.randn(5, 48).half(), torch.randn(5, 48).half(), torch.randn(48), torch.randn(48)
    found, total = reference.normalize(x, weight, bias, 1e-6, residual=residual, scale=0.05)
    assert torch.equal(total, x + residual)
    wanted = torch.nn.functional.layer_norm(total.double(), [48], weight.double(), bias.double(), 1e-6)
    torch.testing.assert_close(found, quantize_values(wanted.float(), torch.tensor(0.05)))


def test_activation_is_torchs_gelu() -> None:
    x, bias = torch.randn(5, 48).half(), torch.randn(48)
    wanted = torch.nn.functional.gelu(x + bias)
    torch.testing.assert_close(reference.activate(x, bias), wanted.half())
    assert torch.equal(reference.activate(x, bias, gelu=False, scale=0.5), quantize_values(x + bias, torch.tensor(0.5)))


def test_attention_is_vitgraphs() -> None:
    qkv = qkv_codes(2, 19, 3, 16)
    scales = torch.tensor([0.02, 0.03, 0.05]).double()
    q, k, v = (dequantize(part.transpose(1, 2), scale) for part, scale in zip(qkv.unbind(2), scales, strict=True))
    probability_scale = torch.tensor(1 / 127).double()
    exact = attention(q, k, v, None, 0.25, probability_scale, "int8").transpose(1, 2).reshape(38, 48)
    known: dict[str, Any] = {"score_factor": 0.02 * 0.03 * 0.25, "probability_scale": 1 / 127, "value_scale": 0.05}
    found = reference.attention(*qkv.unbind(2), **known)
    torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-3)
    found = reference.attention(*qkv.unbind(2), **known, out_scale=0.01)
    paired = fake_quantize(exact, torch.tensor(0.01).double())
    torch.testing.assert_close(found.double() * 0.01, paired)

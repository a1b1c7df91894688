import re

import pytest
from pydantic import ValidationError

from vitgraph.errors import InputError
from vitgraph.ir.packing import Packing
from vitgraph.targets.target import Target, all_targets, get_target, parse_target, target_names

NAMES = ("a100", "cpu", "h200", "orin-agx", "rtx-ada", "rtx-ampere", "rtx-blackwell", "rtx-turing", "vegeta")
CAPABILITIES = {"a100": "8.0", "orin-agx": "8.7", "rtx-turing": "7.5", "rtx-ampere": "8.6", "rtx-ada": "8.9"}
MINIMAL = """
name: toy
title: toy
device: toy
compute_capability: null
rates: {}
matmul: {types: [], source: toy}
quantized: {types: [], grouped: [], convolutions: [], lacks: {}, source: toy}
bandwidth_gb_s: null
power_w: null
sparse: null
attention_kernels: {}
builders: {}
unknown: {bandwidth_gb_s: toy, power_w: toy}
sources: {}
"""


def test_every_target_is_packaged() -> None:
    assert target_names() == NAMES
    assert tuple(target.name for target in all_targets()) == NAMES


@pytest.mark.parametrize("target", all_targets(), ids=lambda t: t.name)
def test_a_figure_is_known_or_says_why_not(target: Target) -> None:
    for field in ("bandwidth_gb_s", "power_w"):
        assert (getattr(target, field) is None) == (field in target.unknown)
    if any(rate.dense is None for rate in target.rates.values()):
        assert "rates" in target.unknown
    assert set(target.sources) >= {"rates"}
    assert target.builds_engines_here == (target.no_builder_here is None)


@pytest.mark.parametrize("target", all_targets(), ids=lambda t: t.name)
def test_a_gpu_says_what_its_estimates_need_and_from_where(target: Target) -> None:
    if target.compute_capability is None:
        assert target.chip is None
        return
    assert target.chip is not None
    assert f"{target.chip.multiprocessors} multiprocessors" in target.chip.source
    for value, word in ((target.chip.l2_gb_s, "L2, "), (target.chip.memory_pj_per_bit, "memory, ")):
        assert (value is not None) <= (word in target.chip.source)


@pytest.mark.parametrize("target", all_targets(), ids=lambda t: t.name)
def test_sparse_rates_go_with_sparse_kernels(target: Target) -> None:
    has_rate = any(rate.sparse is not None for rate in target.rates.values())
    unknown = all(rate.dense is None for rate in target.rates.values())  # as of what exists in simulation alone
    assert unknown or has_rate == target.supports_nm(2, 4)
    for rate in target.rates.values():
        assert rate.sparse is None or rate.dense is None or rate.sparse == pytest.approx(2 * rate.dense, rel=0.01)


@pytest.mark.parametrize(("name", "capability"), CAPABILITIES.items())
def test_capability_and_builder_spelling(name: str, capability: str) -> None:
    target = get_target(name)
    assert target.compute_capability == capability
    assert target.sm == "SM" + capability.replace(".", "")


def test_abilities_of_the_a100() -> None:
    target = get_target("a100")
    assert target.supports_nm(2, 4)
    assert not target.supports_nm(1, 4)
    assert target.supports_nm(2, 8, v=64)
    assert not target.supports_nm(2, 8)
    assert not target.supports_nm(1, 8, v=64)
    assert target.nm_refusal(Packing(2, 4), 64) is None
    assert target.nm_refusal(Packing(1, 4), 64) == "a100 runs no 1:4 pattern"


def test_a_target_says_which_k_its_sparse_kernels_take() -> None:
    target = get_target("a100")
    assert target.sparse is not None
    wide = target.model_copy(update={"sparse": target.sparse.model_copy(update={"k_multiple": 64})})
    assert wide.nm_refusal(Packing(2, 4), 192) is None
    assert wide.nm_refusal(Packing(2, 4), 96) == "a100 takes a K that is a multiple of 64, and 2:4 leaves 96"
    assert (
        wide.nm_refusal(Packing(2, 4, 2), 192)
        == "a100 takes a K that is a multiple of 128, and 4:8 in pairs leaves 192"
    )
    assert wide.nm_refusal(Packing(2, 8, v=64), 128) is None
    assert wide.nm_refusal(Packing(2, 8, v=64), 192) == "a100 takes a K that is a multiple of 64, and 64:2:8 leaves 96"
    assert target.builders["tensorrt_rtx"].role == "structural proxy"
    assert target.builders["tensorrt"].role == "deployable"
    kernel = target.int8_attention
    assert kernel is not None
    assert kernel.accepts(64, 197)
    assert kernel.accepts(32, 512)


@pytest.mark.parametrize(
    ("kind", "head_dim", "tokens", "why"),
    [
        ("int8", 24, 64, "head dim 24"),
        ("int8", 64, 577, "577 tokens, more than 512"),
        ("fp16", 8, 64, "under 12"),
        ("fp16", 320, 64, "over 256"),
        ("fp16", 64, 1, "fewer than 4"),
        ("fp32", 64, 197, "no fused fp32 attention"),
    ],
)
def test_attention_says_why_it_refuses(kind: str, head_dim: int, tokens: int, why: str) -> None:
    assert why in (get_target("a100").attention_refusal(kind, head_dim, tokens) or "")


def test_attention_refuses_a_value_dim_of_its_own() -> None:
    assert get_target("a100").attention_refusal("fp16", 64, 197, 64) is None
    assert "value dim 32" in (get_target("a100").attention_refusal("fp16", 64, 197, 32) or "")


def test_a_research_engine_has_patterns_and_no_invented_figures() -> None:
    target = get_target("vegeta")
    assert target.supports_nm(1, 4)
    assert target.supports_nm(2, 4)
    assert not target.supports_nm(4, 8)
    assert all(rate.dense is None and rate.sparse is None for rate in target.rates.values())
    assert "2302.08687" in target.sources["sparse"]
    assert "compile stops at ONNX" in (target.no_builder_here or "")


def test_turing_has_neither_sparsity_nor_bf16() -> None:
    target = get_target("rtx-turing")
    assert target.sparse is None
    assert not target.supports_type("bf16")
    assert target.attention("bf16") is None


def test_a_device_without_a_builder_says_so() -> None:
    assert "compile stops at ONNX" in (get_target("orin-agx").no_builder_here or "")


@pytest.mark.parametrize(("typo", "near"), [("a10", "a100"), ("rtx_ada", "rtx-ada"), ("orin", "orin-agx")])
def test_unknown_target_lists_near_misses(typo: str, near: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(repr(typo))}.*{near}"):
        get_target(typo)


def test_nothing_near_lists_all() -> None:
    with pytest.raises(InputError, match="known targets: a100, cpu"):
        get_target("zzzzzz")


def test_bad_files_are_refused() -> None:
    assert parse_target(MINIMAL, "toy").name == "toy"
    with pytest.raises(InputError, match=r"toy does not describe a target: power_w: Field required"):
        parse_target(MINIMAL.replace("power_w: null\n", ""), "toy")
    with pytest.raises(InputError, match="speed: Extra inputs"):
        parse_target(MINIMAL + "speed: 3\n", "toy")
    with pytest.raises(InputError, match="is not YAML"):
        parse_target("a: [", "toy")


def test_a_target_is_frozen() -> None:
    with pytest.raises(ValidationError):
        get_target("a100").name = "b100"  # pyright: ignore[reportAttributeAccessIssue]


def test_turing_compiles_no_fp32_product() -> None:
    assert not get_target("rtx-turing").supports_matmul("fp32")
    assert get_target("rtx-turing").supports_matmul("fp16")
    assert get_target("a100").supports_matmul("fp32")

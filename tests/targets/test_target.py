import re

import pytest
from pydantic import ValidationError

from vitgraph.errors import InputError
from vitgraph.ir.packing import Packing
from vitgraph.targets.target import all_targets, get_target, target_names
from vitgraph.targets.target_file import packaged

CAPABILITIES = {
    "a100": "8.0",
    "orin-agx": "8.7",
    "rtx-turing": "7.5",
    "rtx-ampere": "8.6",
    "l4": "8.9",
    "l40s": "8.9",
    "h100": "9.0",
    "thor": "11.0",
}


def test_every_device_is_a_target_by_its_name() -> None:
    assert "a100" in packaged("devices")
    assert target_names() == tuple(packaged("devices"))
    assert tuple(target.name for target in all_targets()) == target_names()


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


@pytest.mark.parametrize(("name", "sm"), [("orin-agx", "sm_87"), ("h100", "sm_90"), ("thor", "sm_110")])
def test_a_device_that_full_tensorrt_alone_builds_for_says_so(name: str, sm: str) -> None:
    target = get_target(name)
    assert list(target.builders) == ["tensorrt"]
    assert target.builders["tensorrt"].role == "deployable"
    assert (target.no_builder_here or "").startswith(f"{sm} is not among the capabilities TensorRT-RTX builds for")
    assert "compile stops at ONNX" in (target.no_builder_here or "")


@pytest.mark.parametrize("name", ["l4", "l40s", "rtx-ada"])
def test_ada_has_fp8_and_both_builders(name: str) -> None:
    target = get_target(name)
    assert target.product_refusal("fp8", "fp8") is None
    assert {flavour: builder.role for flavour, builder in target.builders.items()} == {
        "tensorrt_rtx": "deployable",
        "tensorrt": "deployable",
    }


def test_thor_says_which_rates_nobody_publishes() -> None:
    target = get_target("thor")
    assert not target.supports_type("tf32")
    assert set(target.unknown) == {"tf32", "int4"}
    assert target.supports_nm(2, 4)


@pytest.mark.parametrize(("typo", "near"), [("a10", "a100"), ("rtx_ada", "rtx-ada"), ("orin", "orin-agx")])
def test_unknown_target_lists_near_misses(typo: str, near: str) -> None:
    with pytest.raises(InputError, match=f"{re.escape(repr(typo))}.*{near}"):
        get_target(typo)


def test_nothing_near_lists_all() -> None:
    with pytest.raises(InputError, match="known targets: a100, cpu"):
        get_target("zzzzzz")


def test_a_target_is_frozen() -> None:
    with pytest.raises(ValidationError):
        get_target("a100").name = "b100"  # pyright: ignore[reportAttributeAccessIssue]


def test_turing_compiles_no_fp32_product() -> None:
    assert not get_target("rtx-turing").supports_matmul("fp32")
    assert get_target("rtx-turing").supports_matmul("fp16")
    assert get_target("a100").supports_matmul("fp32")


@pytest.mark.parametrize(
    ("kind", "sizes", "why"),
    [
        ("int8", {"queries": 1, "heads": 12}, "1 query, fewer than 2"),
        ("int8", {"queries": 2, "heads": 2, "matrices": 2}, None),
        ("int8", {}, None),
        ("fp16", {"queries": 1, "heads": 12, "matrices": 12}, None),
        ("fp16", {"queries": 197, "heads": 1, "matrices": 1}, "1 head of one image, fewer than 2"),
        ("fp16", {"queries": 197, "heads": 1, "matrices": 2}, None),
        ("fp16", {"queries": 197, "heads": 1, "matrices": None}, None),  # the batch is not known
    ],
)
@pytest.mark.parametrize("name", ["a100", "orin-agx", "l4", "rtx-turing"])
def test_queries_and_heads_belong_to_the_rules_of_attention(
    name: str, kind: str, sizes: dict[str, int | None], why: str | None
) -> None:
    assert get_target(name).attention_refusal(kind, 64, 197, 64, **sizes) == why


@pytest.mark.parametrize(
    ("name", "images", "why"),
    [
        ("a100", 2, "1 head, fewer than 2"),
        ("rtx-ampere", 2, "1 head, fewer than 2"),
        ("l4", 2, None),
        ("l4", 1, "1 head of one image, fewer than 2"),
    ],
)
def test_one_head_in_int8_is_a_matter_of_the_capability(name: str, images: int, why: str | None) -> None:
    said = get_target(name).attention_refusal("int8", 64, 197, 64, queries=197, heads=1, matrices=images)
    assert said == why

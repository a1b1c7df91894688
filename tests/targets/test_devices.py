"""What holds of every device's file and every capability's; a new one needs its file and no change here."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import pytest
import yaml

from vitgraph.reading import TARGET, read_text
from vitgraph.targets.target import Target, all_targets, parse_target
from vitgraph.targets.target_file import packaged

FIGURES = ("bandwidth_gb_s", "memory_gb", "power_w")
SHARED = ("matmul", "quantized", "sparse", "attention_kernels", "builders", "no_builder_here")
LONG = 12
"""From so many words on, a sentence stands in one file only."""
UNSOURCED = """
name: toy
title: toy
device: toy
capability: sm_89
rates: {fp16: {dense: 1, sparse: 2}, int8: {dense: null, sparse: null}}
bandwidth_gb_s: 100
memory_gb: null
power_w: 10
unknown: {}
sources: {rates: INT8 figures, power_w: ""}
"""


def lacking(target: Target) -> list[str]:
    """The figures without a source, and the missing figures without a reason."""
    found = [
        f"{name} has no {what}"
        for name in FIGURES
        for what, told in (("reason", target.unknown), ("source", target.sources))
        if (getattr(target, name) is None) == (what == "reason") and not told.get(name)
    ]
    for kind, rate in target.rates.items():
        if rate.dense is None and not {kind, "rates"} & set(target.unknown):
            found.append(f"{kind} has no reason")
        if rate.dense is not None and kind.upper() not in target.sources.get("rates", ""):
            found.append(f"{kind} has no source")
    return found


def raw_files() -> dict[str, Any]:
    """Every packaged file as it is written, before layers are merged."""
    return {
        f"{folder}/{name}": yaml.safe_load(read_text(file, TARGET))
        for folder in ("devices", "capabilities")
        for name, file in packaged(folder).items()
    }


def clauses(content: Any) -> Iterator[str]:
    """The texts of a file but for where its figures are from, cut at semicolons, every number written as one sign."""
    if isinstance(content, dict):
        for key, value in cast(dict[str, Any], content).items():
            if key not in ("sources", "chip"):  # devices may well have a data sheet in common
                yield from clauses(value)
    elif isinstance(content, str):
        yield from (re.sub(r"[\d.]+", "#", part).strip() for part in content.split(";"))


def repeated(files: dict[str, Any]) -> list[str]:
    """Long clauses that stand in more than one file."""
    counts = Counter(clause for content in files.values() for clause in set(clauses(content)))
    return [clause for clause, count in counts.items() if count > 1 and len(clause.split()) >= LONG]


@pytest.mark.parametrize("target", all_targets(), ids=lambda t: t.name)
def test_every_figure_has_a_source_or_a_reason(target: Target) -> None:
    assert lacking(target) == []
    assert set(target.unknown) & set(target.rates) == set()
    assert target.builds_engines_here == (target.no_builder_here is None)


def test_a_device_without_a_source_is_noticed() -> None:
    assert lacking(parse_target(UNSOURCED, "toy")) == [
        "bandwidth_gb_s has no source",
        "memory_gb has no reason",
        "power_w has no source",
        "fp16 has no source",
        "int8 has no reason",
    ]


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
    for rate in target.rates.values():  # data sheets round either: the L40S's prints 362.05 and 733
        assert rate.sparse is None or rate.dense is None or rate.sparse == pytest.approx(2 * rate.dense, rel=0.015)


def test_a_file_is_named_as_what_it_describes() -> None:
    for place, content in raw_files().items():
        folder, _, name = place.partition("/")
        assert name == (
            content["name"] if folder == "devices" else f"sm_{content['compute_capability'].replace('.', '')}"
        )


def test_what_kernels_can_do_stands_with_the_capability() -> None:
    devices = {place: content for place, content in raw_files().items() if place.startswith("devices/")}
    assert [place for place, content in devices.items() if set(content) & set(SHARED)] == []


def test_a_sentence_stands_in_one_file() -> None:
    assert repeated(raw_files()) == []


def test_a_sentence_in_two_files_is_noticed() -> None:
    told = "sm_{} is refused by the builder because that is what it does to capabilities it was not made for"
    files = {f"capabilities/sm_{n}": {"lacks": {"fp8": told.format(n)}} for n in (80, 86)}
    assert len(repeated(files)) == 1
    assert repeated({"capabilities/sm_80": files["capabilities/sm_80"], "devices/toy": {"title": "toy"}}) == []

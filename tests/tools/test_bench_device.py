"""`vitgraph bench` of a device that pretends: two clocks, memory, kernels, traces; what does not apply is null with a reason."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.backends.tensorrt.fake_runtime import plan_of
from tests.tools.conftest import Cli
from tests.tools.pretended_backend import engines_run, pretended_installed
from vitgraph.tools.bench_rounds import by_clock, take_turns


@pytest.fixture(autouse=True)
def backends() -> Generator[None]:
    with pretended_installed():
        yield


@pytest.fixture
def program(cli: Cli) -> str:
    """A small program whose batch is open."""
    ran = cli("opt", "digits-vit", "--batch", "1:8:64", "--pipeline", "canonicalize", "-o", "p.safetensors")
    assert ran.status == 0, ran.err
    return "p.safetensors"


def test_watches_take_turns() -> None:
    seen, ticks = list[str](), iter(range(100))
    first = by_clock(lambda: seen.append("a"), lambda: float(next(ticks)))
    times = take_turns([first, lambda: seen.append("b") or 7.0], rounds=3, warm_up=0)  # type: ignore[func-returns-value]
    assert "".join(seen) == "abbaab"
    assert times == [[1.0] * 3, [7.0] * 3]


def test_a_device_is_timed_by_its_own_clock_beside_one_that_has_none(cli: Cli, program: str) -> None:
    ran = cli(
        "bench", program, "--backend", "pretended,eager", "--batch", "2,64", "--rounds", "4", "--warm-up", "0", "--json"
    )
    assert ran.status == 0, ran.err
    found = ran.json
    assert found["measured_on"] == "Pretended GPU and this CPU"
    assert found["card"] == {
        "name": "Pretended GPU", "compute_capability": "8.0", "driver": "580.1", "memory_mib": 1024, "torch": "2.0", "cuda": "13.0",
    }  # fmt: skip
    device, cpu, refused, _ = found["results"]
    assert device["device_median_ms"] == 2.5, (
        "of the turns 0.001, 0.002, 0.003 and 0.004; the run that made it ready is not counted"
    )
    assert (device["device_p10_ms"], device["device_p90_ms"]) == (1.3, 3.7)
    assert device["device_images_per_second"] == 800
    assert (device["device_ratio_to_first"], device["ratio_to_first"]) == (1, 1)
    assert device["device_memory_mib"] >= 1
    assert device["p10_ms"] <= device["median_ms"] <= device["p90_ms"]
    assert device["images_per_second"] > 0
    assert cpu["device_median_ms"] is None
    assert cpu["device_why"] == "eager runs on the CPU: nothing is transferred"
    assert refused["median_ms"] is None
    assert "memory does not hold a batch of 64" in refused["why"]


def test_text_has_a_table_of_the_device(cli: Cli, program: str) -> None:
    out = cli("bench", program, "--backend", "pretended", "--rounds", "4", "--warm-up", "0").out
    assert "On the device, without transfers:" in out
    assert "Pretended GPU, driver 580.1, CUDA 13.0, torch 2.0." in out
    cpu = cli("bench", program, "--backend", "eager", "--rounds", "1").out
    assert "On the device" not in cpu


def test_kernels_are_told_by_site(cli: Cli, program: str) -> None:
    words = ("bench", program, "--backend", "pretended,eager", "--rounds", "1", "--profile")
    device, cpu = cli(*words, "--json").json["profile"]
    assert device["kernels"][0] == {"site": "blocks.0.mlp.fc1", "kernel": "gemm", "calls": 2, "us": 3.0, "share": 0.75}
    assert device["us"] == 4.0
    assert (cpu["kernels"], cpu["why"]) == (None, "eager does not tell its kernels")
    out = cli(*words).out
    (row,) = [line.split() for line in out.splitlines() if line.startswith("blocks.0.mlp.fc1 ")]
    assert row == ["blocks.0.mlp.fc1", "gemm", "2", "3", "75.0", "%"]


def test_a_trace_is_one_for_chrome(cli: Cli, program: str) -> None:
    words = ("bench", program, "--backend", "eager", "--rounds", "1", "--trace", "t.json")
    assert cli(*words, "--json").json["trace"] == "t.json"
    names = {each.get("name") for each in json.loads(Path("t.json").read_text())["traceEvents"]}
    assert "p.safetensors in eager, batch 1" in names
    again = cli(*words)
    assert again.status == 2
    assert "t.json exists" in " ".join(again.err.split())


def test_an_engine_is_timed_in_all_its_sizes(cli: Cli) -> None:
    Path("engine.plan").write_bytes(plan_of(layers=[{"Name": "_gemm_1", "LayerType": "gemm"}]))
    with engines_run():
        ran = cli("bench", "engine.plan", "--backend", "trt", "--batch", "2,17", "--rounds", "2", "--profile", "--json")
    assert ran.status == 0, ran.err
    small, large = ran.json["results"]
    assert (small["batch"], large["batch"]) == (2, 17)
    assert small["device_median_ms"] > 0
    assert large["device_images_per_second"] > 0
    assert small["execution"]["settings"]["profiles"] == "1:4:8"
    assert [each["kernel"] for each in ran.json["profile"][0]["kernels"]] == ["_gemm_1"]


def test_an_engine_that_is_not_what_was_planned_ends_with_1(cli: Cli, program: str) -> None:
    ran = cli("bench", program, "--backend", "broken", "--rounds", "1")
    assert ran.status == 1
    assert "pretended" not in ran.err
    assert "blocks.0.mlp.fc1: planned int8 gemm, found fp16 (it fell back)" in ran.err
    assert "On the device" in ran.out, "it is timed all the same"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--backend", "pretended"], "is no folder that `vitgraph compile` wrote"),
        (["--backend", "eager"], "is no folder that `vitgraph compile` wrote"),
    ],
)
def test_latency_is_recorded_of_compilations_alone(cli: Cli, program: str, words: list[str], says: str) -> None:
    ran = cli("bench", program, *words, "--record")
    assert ran.status == 2
    assert says in " ".join(ran.err.split())

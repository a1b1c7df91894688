"""Properties of the estimates: nothing bigger is faster, nothing sparse beats its pattern, nothing better is slower."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitgraph.cost.roofline import BOUNDS, Roofline, roofline
from vitgraph.cost.shares import FITTED
from vitgraph.cost.workload import BITS, DENSE, Attention, Gemm, Zeros
from vitgraph.ir.packing import SPARSE, Packing
from vitgraph.targets.target import Target, all_targets, get_target

TARGETS = [target.name for target in all_targets() if not isinstance(roofline(target), str)]
sizes = st.integers(1, 5000)
kinds = st.sampled_from(["fp16", "int8"])


def line_of(name: str = "a100") -> Roofline:
    line = roofline(get_target(name))
    assert isinstance(line, Roofline)
    return line


def moved(gemm: Gemm, kind: str) -> float:
    return (gemm.m * gemm.k + gemm.k * gemm.n + gemm.m * gemm.n) * gemm.count * BITS[kind] / 8


def ms(line: Roofline, gemm: Gemm, kind: str, zeros: Zeros = DENSE) -> float:
    return line.gemm(gemm, kind, moved(gemm, kind), zeros).ms


def test_every_target_with_a_gpu_has_a_roofline() -> None:
    assert [target.name for target in all_targets() if target.compute_capability is not None] == TARGETS
    assert "a100" in TARGETS
    assert "cpu" not in TARGETS


def test_a_processor_has_none_and_says_why() -> None:
    why = roofline(get_target("cpu"))
    assert why == "depend on the processor; vitgraph bench measures them"


@pytest.mark.parametrize("missing", [{"chip": None}, {"bandwidth_gb_s": None}])
def test_a_target_that_lacks_a_figure_has_none(missing: dict[str, None]) -> None:
    target = get_target("a100").model_copy(update=missing)
    assert roofline(target) == "the number of multiprocessors or the bandwidth is not published"


@given(sizes, sizes, sizes, st.integers(1, 20), st.sampled_from(TARGETS), kinds)
def test_time_grows_with_every_size(m: int, n: int, k: int, more: int, target: str, kind: str) -> None:
    line, gemm = line_of(target), Gemm(m, n, k)
    for grown in (Gemm(m + more, n, k), Gemm(m, n + more, k), Gemm(m, n, k + more), Gemm(m, n, k, 1 + more)):
        assert ms(line, grown, kind) >= ms(line, gemm, kind)


@given(sizes, sizes, sizes, st.sampled_from([(2, 4), (1, 4)]), st.sampled_from(TARGETS), kinds)
def test_zeros_never_gain_more_than_the_hardware_promises(
    m: int, n: int, k: int, pattern: tuple[int, int], target: str, kind: str
) -> None:
    line, gemm = line_of(target), Gemm(m, n, k)
    assert ms(line, gemm, kind) <= 2 * ms(line, gemm, kind, Zeros(Packing(*pattern)))


@given(sizes, sizes, sizes, st.floats(1, 4), kinds)
def test_better_hardware_is_never_slower(m: int, n: int, k: int, better: float, kind: str) -> None:
    line, gemm = line_of(), Gemm(m, n, k)
    faster_memory = replace(line, bandwidth=line.bandwidth * better)
    rate = line.target.rates[kind]
    rates = {**line.target.rates, kind: rate.model_copy(update={"dense": (rate.dense or 0) * better})}
    faster_cores = replace(line, target=line.target.model_copy(update={"rates": rates}))
    assert ms(faster_memory, gemm, kind) <= ms(line, gemm, kind)
    assert ms(faster_cores, gemm, kind) <= ms(line, gemm, kind)


@given(st.integers(1, 64), st.integers(1, 1000), st.integers(0, 20))
def test_attention_grows_and_fusing_it_pays(heads: int, tokens: int, more: int) -> None:
    line = line_of()

    def fused(heads: int, tokens: int) -> float:
        size = 4.0 * heads * tokens * 64 * 2
        return line.fused_attention(Attention(heads, tokens, tokens, 64, 64), "fp16", size).ms

    assert fused(heads, tokens) <= fused(heads + more, tokens)
    assert fused(heads, tokens) <= fused(heads, tokens + more)
    parts = line.unfused_attention(Attention(heads, tokens, tokens, 64, 64), "fp16", 4.0 * heads * tokens * 64 * 2)
    assert fused(heads, tokens) < sum(part.ms for part in parts)


def test_a_tile_more_costs_a_wave() -> None:
    line = line_of()
    full = Gemm(128 * 108, 128, 4096)  # a tile of 128 x 128 for each multiprocessor
    assert ms(line, Gemm(full.m + 1, full.n, full.k), "fp16") > 1.1 * ms(line, full, "fp16")


def test_what_bounds() -> None:
    line = line_of()
    assert line.gemm(Gemm(8192, 8192, 8192), "fp16", 4e8).bound == "arithmetic"
    assert line.move(1e9).bound == "memory"
    assert line.move(1.0).bound == "launch"
    assert BOUNDS == ("arithmetic", "memory", "launch")


@pytest.mark.parametrize(
    ("target", "kind", "zeros", "skipped"),
    [
        ("a100", "int8", Zeros(Packing(2, 4)), Zeros(Packing(2, 4))),
        ("a100", "int8", Zeros(Packing(1, 4)), Zeros(Packing(2, 4))),  # a sparser pattern obeys 2:4 too
        ("a100", "int8", Zeros(Packing(3, 4)), DENSE),
        ("a100", "int8", Zeros(Packing(4, 8)), DENSE),
        ("a100", "int8", Zeros(Packing(2, 8, v=64)), DENSE),  # no kernel here gathers columns
        ("a100", "int4", Zeros(SPARSE[4]), Zeros(SPARSE[4])),
        ("a100", "int4", Zeros(Packing(2, 4)), DENSE),  # the hardware wants pairs
        ("a100", "int8", Zeros(SPARSE[4]), DENSE),
        ("a100", "fp32", Zeros(Packing(2, 4)), DENSE),  # no sparse rate
        ("rtx-turing", "int8", Zeros(Packing(2, 4)), DENSE),
        ("a100", "fp16", Zeros(side=32, kept=0.5), Zeros(side=32, kept=0.5)),
        ("a100", "fp16", Zeros(side=32, kept=1.0), DENSE),
    ],
)
def test_which_zeros_a_target_can_skip(target: str, kind: str, zeros: Zeros, skipped: Zeros) -> None:
    assert line_of(target).usable(kind, zeros) == skipped


def test_a_type_without_units_runs_in_a_wider_one() -> None:
    assert line_of("a100").runs_in("fp8") == "fp16"
    assert line_of("rtx-turing").runs_in("bf16") == "fp16"
    assert line_of("rtx-turing").runs_in("tf32") == "fp32"
    assert line_of("h200").runs_in("int4") == "int8"


def test_what_is_refused() -> None:
    assert line_of("orin-agx").refusal("tf32") == "tf32: no rate for this type is published for the Orin GPU"
    assert line_of("rtx-turing").refusal("tf32") == "tf32: the builder has no product in fp32 for rtx-turing"
    assert line_of("a100").refusal("tf32") is None


def test_energy_stays_under_power_and_over_idle() -> None:
    line = line_of()
    found = line.gemm(Gemm(8192, 8192, 8192), "fp16", 4e8)
    assert found.mj is not None
    assert 0.11 * 400 < found.mj / found.ms < 400
    unknown: Target = line.target.model_copy(update={"power_w": None})
    assert replace(line, target=unknown).move(1.0).mj is None


@pytest.mark.parametrize("name", ["launch_us", "wave_us", "sparse_launch_us"])
def test_every_cost_beside_the_peak_counts(name: str) -> None:
    """A negative control: a share that nothing reads would change nothing."""
    line, gemm = line_of(), Gemm(4096, 4096, 4096)
    dearer = replace(line, shares=replace(FITTED, **{name: 10 * getattr(FITTED, name)}))
    assert ms(dearer, gemm, "fp16", Zeros(Packing(2, 4))) > ms(line, gemm, "fp16", Zeros(Packing(2, 4)))

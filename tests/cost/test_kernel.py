"""One kernel: how it grows with a batch, and whether its zeros pay."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.cost.test_roofline import line_of
from vitgraph.cost.kernel import Kernel, linear, refusal, total
from vitgraph.cost.roofline import Estimate
from vitgraph.cost.workload import DENSE, Attention, Gemm, Zeros, two_of_four
from vitgraph.ir.packing import Packing

TWO_OF_FOUR = Zeros(Packing(2, 4))
ATTENTION = Kernel("a", "attention", "fp16", Attention(12, 197, 197, 64, 64), 4 * 197 * 768 * 2)


@given(st.integers(1, 64), st.integers(0, 64))
def test_a_batch_takes_longer_and_less_than_so_many_times_one(batch: int, more: int) -> None:
    line = line_of()
    kernels = (linear("l", 197, 768, 768, "int8", TWO_OF_FOUR), ATTENTION, Kernel("n", "moves", "fp16", None, 6e5),
               Kernel("m", "matmul", "fp16", Gemm(64, 64, 197, 12), 6e5))  # fmt: skip
    for kernel in kernels:
        assert kernel.estimate(line, batch).ms <= kernel.estimate(line, batch + more).ms
        assert kernel.estimate(line, batch).ms <= batch * kernel.estimate(line, 1).ms * (1 + 1e-9)


def test_a_weight_is_read_once_whatever_the_batch() -> None:
    kernel = replace(linear("l", 1, 4096, 4096, "fp16"), moved=0.0)
    assert kernel.estimate(line_of(), 16).ms == kernel.estimate(line_of(), 1).ms  # bound by memory, or by one tile


def test_does_the_mask_buy_time_here() -> None:
    small, large = linear("s", 197, 192, 192, "int8", TWO_OF_FOUR), linear("l", 8192, 4096, 4096, "int8", TWO_OF_FOUR)
    line = line_of()
    assert small.estimate(line).ms > small.estimate(line, zeros=DENSE).ms
    assert large.estimate(line).ms < large.estimate(line, zeros=DENSE).ms
    assert small.built(line) == small.estimate(line, zeros=DENSE)
    assert large.built(line) == large.estimate(line)
    assert large.estimate(line_of("rtx-turing")) == large.estimate(line_of("rtx-turing"), zeros=DENSE)


def test_the_pattern_that_each_type_has() -> None:
    assert str(two_of_four("fp16").packing) == str(two_of_four("int8").packing) == "2:4"
    assert str(two_of_four("int4").packing) == "4:8 in pairs"


def test_in_another_type() -> None:
    kernel = linear("l", 197, 768, 768, "fp16")
    assert kernel.in_type("int8", TWO_OF_FOUR) == linear("l", 197, 768, 768, "int8", TWO_OF_FOUR)
    assert ATTENTION.in_type("int8").weight_bits == 0


def test_attention_is_fused_where_the_target_has_a_kernel() -> None:
    line = line_of()
    long = replace(ATTENTION, kind="int8", work=Attention(12, 577, 577, 64, 64))
    assert long.estimate(line) == replace(long, kind="fp16").estimate(line)  # none of 8 bits over 512 tokens
    assert replace(ATTENTION, kind="tf32").estimate(line).ms > 2 * ATTENTION.estimate(line).ms  # three kernels


def test_a_sum_is_bound_by_what_most_of_its_time_goes_to() -> None:
    parts = [Estimate(1.0, 2.0, "memory"), Estimate(0.7, 1.0, "launch"), Estimate(0.6, 1.0, "launch")]
    assert total(parts) == Estimate(2.3, 4.0, "launch")
    assert total([*parts, Estimate(0.1, None, "memory")]).mj is None
    assert total([]) == Estimate(0, 0, "arithmetic")


def test_kernels_that_only_move_need_no_rate() -> None:
    line = line_of("orin-agx")
    moves = Kernel("n", "moves", "tf32", None, 6e5)
    assert refusal([moves], line) is None
    assert refusal([moves, linear("l", 1, 8, 8, "tf32")], line) is not None

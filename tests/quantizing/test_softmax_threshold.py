"""The threshold of a softmax is the one its attention's output feels least."""

import torch

from tests.quantizing.test_calibration import Rows
from vitgraph.ir import dialect
from vitgraph.ir.parser import parse
from vitgraph.quantizing.scales import LEVELS
from vitgraph.quantizing.softmax_threshold import IMAGES, softmax_thresholds

TEXT = """
x: f32[N, 2, 64, 16] = input()
a: f32[N, 2, 64, 16] = vitgraph.attention.default(x, x, x, None, 0.25)
return_(a)
"""


def error(x: torch.Tensor, top: float) -> float:
    p = dialect.probabilities(x, x, None, 0.25)
    step = top / LEVELS
    rounded = (p / step).round().clamp(max=LEVELS) * step
    return float((rounded @ x - p @ x).square().sum())


def test_none_of_the_tried_is_better() -> None:
    program = parse(TEXT)
    x = torch.randn(4, 2, 64, 16) * 0.3  # a flat softmax: no probability comes near one
    (found,) = softmax_thresholds(program, program.calls(), [1.0], Rows(x))
    least = min(error(x, 2.0 ** (-i / 3)) for i in range(13))
    assert abs(error(x, found) - least) <= 1e-6 * least
    assert error(x, found) < 0.8 * error(x, 1.0)  # the largest probability is no good threshold


def test_a_biased_attention_counts_its_bias() -> None:
    text = TEXT.replace("a: f32", 'b: f32[1, 2, 64, 64] = constant("b")\na: f32').replace("None, 0.25", "b, 0.25")
    x = torch.randn(2, 2, 64, 16)
    sharp = torch.eye(64).expand(1, 2, 64, 64) * 50  # each token looks at itself alone
    program = parse(text, {"b": sharp})
    (found,) = softmax_thresholds(program, program.calls(), [1.0], Rows(x))
    assert found == 1.0


def test_it_stops_after_enough_images() -> None:
    program = parse(TEXT)
    seen = list[int]()
    images = Rows(torch.randn(IMAGES + 40, 2, 64, 16))
    softmax_thresholds(program, program.calls(), [1.0], images, lambda what, done, total: seen.append(done))
    assert seen[-1] == IMAGES

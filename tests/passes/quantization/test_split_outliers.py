import pytest
import torch

from tests.harness import body, ledger_findings, run
from tests.passes.quantization.test_smooth_quant import AFTER_GELU, Noise
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten
from vitgraph.ir.nm_keep import nm_keep
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.quantization.split_outliers import SplitOutliers
from vitgraph.passes.sparsity.nm_mask import NmMask
from vitgraph.quantizing.calibration import observe_channels


def loud(factor: float = 100.0) -> Program:
    """fc1's row 5 is far larger than the others."""
    drawn = parse(AFTER_GELU).tensors()
    weight = drawn["fc1.weight"].detach().clone()
    weight[5] *= factor
    return parse(AFTER_GELU, {**drawn, "fc1.weight": weight})


def test_the_loud_channel_is_copied_and_nothing_else_changes() -> None:
    program, images = loud(), Noise(4, 8)
    given = Context(calibration=images)
    split = run(SplitOutliers(extra=16), program, given)
    assert body(show(split)) == body(show(parse(AFTER_GELU.replace("16", "32").replace('.weight"', '.weight_split"'))))
    assert ledger_findings(given) == [{"site": "fc2", "split": "1 channel(s) into 17 copies"}]
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(split.run(x), program.run(x), rtol=1e-4, atol=1e-4)


def test_each_copy_carries_its_share() -> None:
    split = run(SplitOutliers(extra=16), loud(), Context(calibration=Noise(4, 8)))
    columns = split.tensors()["fc2.weight_split"].detach()
    torch.testing.assert_close(columns[:, 16:], columns[:, 5:6].expand(8, 16))
    torch.testing.assert_close(columns[:, 5] * 17, loud().tensors()["fc2.weight"].detach()[:, 5])


def test_extra_channels_go_where_the_range_per_copy_is_largest() -> None:
    program = loud()
    weight = program.tensor("fc1.weight").detach().clone()
    weight[9] = weight[5] / 2
    twice = parse(AFTER_GELU, {**program.tensors(), "fc1.weight": weight})
    split = run(SplitOutliers(extra=7, ratio=1.5), twice, Context(calibration=Noise(4, 8)))
    (seen,) = observe_channels(twice, twice.calls(aten.gelu.default), Noise(4, 8))
    kept = split.tensors()["fc1.weight_split"].detach()[16:]
    copies = {row: 1 + int((kept == weight[row]).all(1).sum()) for row in (5, 9)}
    assert sum(copies.values()) == 2 + 7
    ranges = [float(seen.largest[row]) / n for row, n in copies.items()]
    assert max(ranges) < 2.1 * min(ranges)


def test_where_nothing_stands_out_nothing_is_done() -> None:
    program = parse(AFTER_GELU)
    assert str(run(SplitOutliers(), program, Context(calibration=Noise(4, 8)))) == str(program)


def test_an_activation_that_others_read_stays_as_wide_as_it_is() -> None:
    program = parse(AFTER_GELU.replace("return_(add)", "return_([add, gelu])"), loud().tensors())
    assert str(run(SplitOutliers(), program, Context(calibration=Noise(4, 8)))) == str(program)


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        SplitOutliers().run(parse(AFTER_GELU), Context())


def test_copies_would_stand_in_groups_of_their_own() -> None:
    """fc2 with N:M zeros, under a mask or as they came: its row gets no longer, and the reason is told."""
    program = loud()
    weight = program.tensor("fc2.weight").detach()
    came = parse(AFTER_GELU, {**program.tensors(), "fc2.weight": weight * nm_keep(weight.abs(), Packing(2, 4))})
    for each in (came, run(NmMask(only=("fc2",)), program)):
        given = Context(calibration=Noise(4, 8))
        assert show(run(SplitOutliers(), each, given)) == show(each)
        assert [refusal.site for refusal in given.refusals] == ["fc2"]
        assert "N:M zeros" in given.refusals[0].why

"""Reconstruction: nearer to the model in floating point, on the grid, resumable, the same every time."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from tests.harness import body, ledger_findings, run
from tests.passes.quantization.test_quantize import Noise, block
from vitgraph.analysis.segments import Segment, run_segment
from vitgraph.errors import InputError
from vitgraph.ir import dialect
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline
from vitgraph.passes.quantization.fitting import as_quantized, in_floating_point, without_pairs
from vitgraph.passes.quantization.reconstruct import Reconstruct
from vitgraph.quantizing.fisher import weights_at

BLOCK = block().replace("o: f32", 'b2: f32[32] = weight("proj.bias")\no: f32').replace("w2, None)", "w2, b2)")
STEPS: dict[str, Any] = {"iterations": 40, "batch": 4}


def context(scratch: Path | None = None) -> Context:
    return Context(calibration=Noise((5, 32), count=48), scratch=scratch)


def coarse(text: str = BLOCK) -> tuple[Program, Program]:
    """The block in floating point, and quantized with weights of a twenty-fourth of the steps, so that there is work to do."""
    program = parse(text)
    quantized = pipeline("quantize").run(program, context())
    for node in quantized.calls(dialect.fake_quantize):
        if node.args[2] == 0:
            name = str(node.args[1].target)  # type: ignore[union-attr]
            scale = quantized.constant_node(node, name, quantized.tensor(name) * 24)
            node.update_arg(1, scale)
    quantized.clean()
    return program, quantized


def error(program: Program, wanted: Program) -> float:
    x = torch.randn(16, 5, 32, generator=torch.Generator().manual_seed(9))
    return float((program.run(x) - wanted.run(x)).norm() / wanted.run(x).norm())


def test_it_comes_nearer() -> None:
    """On images that it did not see, too."""
    wanted, quantized = coarse()
    given = context()
    fitted = run(Reconstruct(iterations=300, batch=8), quantized, given)
    assert error(fitted, wanted) < 0.97 * error(quantized, wanted)
    assert all(found["error"] < 0.9 * found["error_before"] for found in ledger_findings(given))


def test_the_ledger_says_how_far_the_output_is_from_floating_point() -> None:
    """Of the last part, which ends in the output: both programs on the images, before fitting and after."""
    wanted, quantized = coarse()
    given, pixels = context(), Noise((5, 32), count=48).pixels
    fitted = run(Reconstruct(**STEPS), quantized, given)
    clean = without_pairs(quantized)
    (importance,) = weights_at(clean, clean.output.all_input_nodes, given.images, 48)
    for key, program in (("error_before", quantized), ("error", fitted)):
        measured = float((importance * (program.run(pixels) - wanted.run(pixels)).square()).mean())
        assert ledger_findings(given)[-1][key] == pytest.approx(measured, rel=1e-3)


def test_the_graph_stays_and_reads_fitted_weights_and_biases() -> None:
    _, quantized = coarse()
    fitted = show(run(Reconstruct(**STEPS), quantized, context()))
    renamed = re.sub(r'(weight\("[\w.]+)"\)', r'\1_fitted")', show(quantized))
    assert body(fitted) == body(show(parse(renamed)))


def test_choosing_up_or_down_comes_nearer() -> None:
    _, quantized = coarse()
    given = context()
    run(Reconstruct(weights="round", iterations=300, batch=8), quantized, given)
    assert all(found["error"] < 0.97 * found["error_before"] for found in ledger_findings(given))


def test_biases_alone() -> None:
    _, quantized = coarse()
    given = context()
    fitted = run(Reconstruct(weights="keep", **STEPS), quantized, given)
    assert all(found["error"] <= found["error_before"] for found in ledger_findings(given))
    for before, after in zip(_weights(quantized), _weights(fitted), strict=True):
        assert torch.equal(before[0], after[0])


@pytest.mark.parametrize("weights", ["tune", "round"])
def test_every_weight_ends_on_its_grid(weights: Literal["tune", "round"]) -> None:
    _, quantized = coarse()
    fitted = run(Reconstruct(weights=weights, **STEPS), quantized, context())
    pairs = [node for node in fitted.calls(dialect.fake_quantize) if node.args[2] == 0]
    assert len(pairs) == 2
    for pair in pairs:
        values, scale = (fitted.tensor(str(arg.target)) for arg in pair.args[:2])  # type: ignore[union-attr]
        steps = values / scale.unsqueeze(1)
        assert (steps - steps.round()).abs().max() < 1e-3
        torch.testing.assert_close(dialect.fake_quantize(values, scale, 0), values)


def test_rounding_goes_up_or_down_and_no_further() -> None:
    _, quantized = coarse()
    fitted = run(Reconstruct(weights="round", **STEPS), quantized, context())
    for before, after in zip(_weights(quantized), _weights(fitted), strict=True):
        steps = (after[0] - before[0]) / before[1].unsqueeze(1)
        assert steps.abs().max() < 1.0 + 1e-3


def _weights(program: Program) -> list[list[torch.Tensor]]:
    pairs = [node for node in program.calls(dialect.fake_quantize) if node.args[2] == 0]
    return [[program.tensor(str(arg.target)).detach() for arg in pair.args[:2]] for pair in pairs]  # type: ignore[union-attr]


def test_a_mask_stays_true() -> None:
    text = BLOCK.replace(
        "o: f32",
        'keep: bool[32, 32] = constant("proj.mask")\nwm: f32[32, 32] = vitgraph.mask.default(w2, keep)\no: f32',
    ).replace("linear.default(m, w2, b2)", "linear.default(m, wm, b2)")
    keep = torch.arange(32).expand(32, 32) % 4 < 2
    program = parse(text, {**parse(text).tensors(), "proj.mask": keep})
    quantized = pipeline("quantize").run(program, context())
    fitted = run(Reconstruct(**STEPS), quantized, context())
    integers = pipeline("materialize").run(fitted).tensors()
    (weight,) = [
        tensor for name, tensor in integers.items() if name.startswith("proj.weight") and tensor.dtype == torch.int8
    ]
    assert bool((weight[~keep] == 0).all())
    assert bool((weight[keep] != 0).any())


def test_the_same_every_time_and_another_seed_is_another() -> None:
    _, quantized = coarse()
    first, second, other = (run(Reconstruct(seed=seed, **STEPS), quantized, context()) for seed in (0, 0, 1))
    for name, tensor in first.tensors().items():
        assert torch.equal(tensor, second.tensors()[name]), name
    assert any(not torch.equal(tensor, other.tensors()[name]) for name, tensor in first.tensors().items())


def test_finished_segments_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, quantized = coarse()
    whole = run(Reconstruct(**STEPS), quantized, context(tmp_path))
    files = list(tmp_path.iterdir())
    assert files
    monkeypatch.setattr(Reconstruct, "_fit", _never)
    again = run(Reconstruct(**STEPS), quantized, context(tmp_path))
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name


def test_other_options_or_weights_start_afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, quantized = coarse()
    run(Reconstruct(**STEPS), quantized, context(tmp_path))
    monkeypatch.setattr(Reconstruct, "_fit", _never)
    with pytest.raises(Exception, match="fitted again"):
        run(Reconstruct(iterations=41, batch=4), quantized, context(tmp_path))
    changed = parse(BLOCK, {**parse(BLOCK).tensors(), "proj.bias": torch.ones(32)})
    with pytest.raises(Exception, match="fitted again"):
        run(Reconstruct(**STEPS), pipeline("quantize").run(changed, context()), context(tmp_path))


def _never(*_: Any) -> None:
    raise AssertionError("fitted again")


def test_without_pairs_it_says_so() -> None:
    given = context()
    program = parse(BLOCK)
    assert str(run(Reconstruct(), program, given)) == str(program)
    (refusal,) = given.refusals
    assert "run the pass quantize first" in refusal.why


def test_without_images_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match="--calibration-data"):
        run(Reconstruct(), parse(BLOCK))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ("weight_format=int4", "tune"),
        ("weight_format=int4", "round"),
        ("weight_format=int4 activation_format=float group=8", "tune"),
        ("weight_format=fp8 activation_format=fp8", "tune"),
    ],
)
def test_weights_of_other_formats_end_on_their_grid(options: str, weights: Literal["tune", "round"]) -> None:
    wanted = parse(BLOCK)
    quantized = pipeline(f"quantize{{{options}}}").run(wanted, context())
    given = context()
    fitted = run(Reconstruct(weights=weights, iterations=100, batch=8), quantized, given)
    pairs = [node for node in fitted.calls(dialect.fake_quantize) if node.args[2] is not None]
    assert len(pairs) == 2
    for pair in pairs:
        values, scale = (fitted.tensor(str(arg.target)) for arg in pair.args[:2])  # type: ignore[union-attr]
        torch.testing.assert_close(dialect.fake_quantize(values, scale, *pair.args[2:]), values)
    if "int4" in options:
        assert all(found["error"] < found["error_before"] for found in ledger_findings(given))


def test_fp8_has_no_up_and_down() -> None:
    quantized = pipeline("quantize{weight_format=fp8 activation_format=fp8}").run(parse(BLOCK), context())
    with pytest.raises(InputError, match="weights=round: fp8 has no equal steps; take tune"):
        run(Reconstruct(weights="round", **STEPS), quantized, context())


@pytest.mark.parametrize("rule", ["nearest", "bit"])
@pytest.mark.parametrize("coded", [False, True])
def test_divisors_are_rounded_with_plain_operators_alike(rule: str, coded: bool) -> None:
    """`torch.vmap` has no rule for the operator; values and gradients are those it has."""
    text = """
x: f32[N, 6] = input()
s: f32[] = constant("s")
y: f32[N, 6] = vitgraph.log2_quantize.default(x, {scale}, '{rule}', -3, 4)
return_(y)
""".format(scale="s" if coded else "None", rule=rule)
    program = parse(text, {"s": torch.tensor(0.05)})
    (node,) = program.calls(dialect.log2_quantize)
    segment = Segment(next(iter(program.graph.nodes)), node, (node,))
    found, wanted = (torch.rand(4, 6).mul(20).requires_grad_() for _ in range(2))
    with torch.no_grad():
        wanted.copy_(found)
    plain = run_segment(program, segment, found.unsqueeze(1), as_quantized(segment)).squeeze(1)
    whole = dialect.log2_quantize(wanted, program.tensor("s") if coded else None, rule, -3, 4)
    assert torch.equal(plain, whole)
    for value in (plain, whole):
        torch.autograd.backward(value.sum())
    assert found.grad is not None
    assert wanted.grad is not None
    assert torch.equal(found.grad, wanted.grad)


def test_the_teacher_has_no_divisors_of_powers_of_two() -> None:
    text = """
x: f32[N, 6] = input()
y: f32[N, 6] = vitgraph.log2_quantize.default(x, None, 'nearest', -3, 4)
return_(y)
"""
    x = torch.rand(2, 6) + 1
    torch.testing.assert_close(without_pairs(parse(text)).run(x), x)
    assert len(in_floating_point(parse(text))) == 1

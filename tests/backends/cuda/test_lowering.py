"""What programs lower to: the whole plan of the embedded example as text, and torch's steps with reasons for what no kernel computes."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.backends.cuda.lowered_models import lowered_digits
from tests.backends.operator_cases import CASES, batch_for, build
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.lowering import lower_program
from vitgraph.backends.cuda.plan_check import check_plan
from vitgraph.backends.cuda.plan_file import plan_from_json, plan_to_json
from vitgraph.backends.cuda.plan_text import show_plan
from vitgraph.backends.cuda.twin import Twin
from vitgraph.errors import InputError
from vitgraph.pass_manager.numerics import flatten_outputs

HERE = Path(__file__).parent
NUMBER = re.compile(r"=\d+(\.\d+(e-?\d+)?|e-?\d+)(?=[,)])")
"""Scales, which are no whole numbers: their last digits are the processor's that calibrated."""
KERNELS = {
    "int8": {"linear": 16, "attention": 4, "normalize": 9, "torch": 30},
    "sparse-int8": {"sparse linear": 16, "activate": 16, "attention": 4, "normalize": 9, "torch": 30},
}

UNSAFE = ("div_towards_zero",)
"""Ends the process for some divisors; `canonicalize` writes it in a form that does not."""

UNUSUAL = (
    "s: f32[] = constant('s'); w: f32[40, 48] = weight('w'); ws: f32[40] = constant('w_scale'); x: f32[N, 6, 48] = input(); "
    "f = vitgraph.fake_quantize.default(x, s); g = vitgraph.fake_quantize.default(w, ws, 0); y = aten.linear.default(f, g)  # fc; "
    "t = aten.softplus.default(y, 1, 20.0); k: (f32[1], i64[1]) = aten.topk.default(t, 3); i = operator.getitem(k, 0); o = aten.mean.dim(i, [1])"
)


@pytest.mark.parametrize("recipe", KERNELS)
def test_plan_of_digits(recipe: str) -> None:
    plan = lowered_digits(recipe).plan
    assert plan.violations() == []
    assert plan.counts() == KERNELS[recipe]
    assert NUMBER.sub("=#", show_plan(plan)) == (HERE / f"plan_of_digits_{recipe.replace('-', '_')}.txt").read_text()


def test_sites_say_what_became_of_them() -> None:
    sites = {site.path: site for site in lowered_digits("sparse-int8").plan.sites}
    assert len(sites) == 22
    assert sites["blocks.0.mlp.fc1"].format == "int8 2:4"
    assert sites["blocks.0.mlp.fc1"].epilogue == ("bias", "gelu", "multiplier", "offset", "quantize")
    assert sites["head"].kernel == "torch"
    assert sites["head"].why


def test_what_no_kernel_computes_is_torchs_with_a_reason() -> None:
    program = build(UNUSUAL)
    lowered = lower_program(program)
    assert set(lowered.plan.counts()) <= {"torch", "activate"}
    (site,) = lowered.plan.sites
    assert (site.path, site.kernel, site.why) == ("fc", "torch", "its program has no INT8 weight and input")
    batch = batch_for(program, 3)
    found = Twin(lowered.plan, lowered.tensors).run(batch)
    torch.testing.assert_close(found, program.run(batch), rtol=2e-2, atol=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_operator_lowers(case: str) -> None:
    """And the plan comes back from its file, and passes the check of files."""
    program = build(CASES[case])
    lowered = lower_program(program)
    assert lowered.plan.violations() == []
    text = json.dumps(plan_to_json(lowered.plan), allow_nan=False)
    read = Lowered(plan_from_json(json.loads(text)), lowered.tensors)
    assert read.plan == lowered.plan
    if case in UNSAFE:
        with pytest.raises(InputError, match="not run"):
            check_plan(read, case)
        return
    check_plan(read, case)
    batch = batch_for(program, 3)
    if len(program.inputs) == 1:
        found = Twin(lowered.plan, lowered.tensors).compute(batch)
        wanted = flatten_outputs(program.run(batch))[0]
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2, equal_nan=True)


def test_captured_programs_are_refused() -> None:
    program = build("x: f32[2, 4] = input(); y: f32[2, 4] = aten.relu.default(x)")
    program.form = "captured"
    with pytest.raises(InputError, match="canonicalize"):
        lower_program(program)

"""From any batch to one."""

import torch

from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import load_model
from vitgraph.ir.batch import Batch
from vitgraph.ir.fixed_batch import fix_batch
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.tensor_type import TensorType
from vitgraph.ir.verify import verify
from vitgraph.passes import pipeline

TEXT = """
# program: sizes
# form: captured
x: f32[N, 4] = input()
n: int[N] = aten.sym_size.int(x, 0)
m: int[4*N] = operator.mul(n, 4)
flat: f32[4*N] = aten.reshape.default(x, [m])
y: f32[N, 4] = aten.reshape.default(flat, [n, 4])
return_(y)
"""


def test_sizes_become_numbers() -> None:
    program = parse(TEXT)
    fixed = fix_batch(program, 3)
    assert verify(fixed) == {}
    assert "aten.reshape.default(x, [12])" in show(fixed)
    assert "sym_size" not in show(fixed)
    assert "N" not in show(fixed).partition("x:")[2]
    assert "int[4*N]" in show(program), "the program itself stays for any batch"
    x = torch.randn(3, 4)
    assert torch.equal(fixed.run(x), program.run(x))


def test_a_model_gives_the_same_as_one_captured_so() -> None:
    model = load_model("digits-vit")
    x = torch.randn(2, 1, 24, 24)
    steps = pipeline("canonicalize,fold-constants,fuse-attention")
    fixed = fix_batch(steps.run(capture_model(model, Batch(1, 2, 8))), 2)
    assert torch.equal(fixed.run(x), steps.run(capture_model(model, Batch(2, 2, 2))).run(x))
    assert fixed.input_types() == [TensorType(torch.float32, (2, 1, 24, 24))]


def test_a_fixed_program_stays_as_it_is() -> None:
    program = capture_model(load_model("digits-vit"))
    assert show(fix_batch(program, 1)) == show(program)

"""A quotient of whole numbers that could end the process is refused in files, and canonicalize writes none."""

import pytest
import torch
from torch import Tensor

from tests.passes.canonicalize.capturing import Said, hold_to_torch
from vitgraph.errors import InputError
from vitgraph.ir.dialect import aten
from vitgraph.ir.divisors import is_safe
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program_file import load, save
from vitgraph.ir.verify import check_read

HEAD = '# form: captured\nx: {0}[4] = input()\nd: {0}[4] = constant("d")\nn: {0}[4] = aten.neg.default(x)\n'


def read(call: str, divisor: tuple[int, ...] = (1, 2, -3, 0), kind: str = "i64") -> None:
    dtype = {"i64": torch.int64, "i32": torch.int32, "i8": torch.int8, "f32": torch.float32}[kind]
    text = HEAD.format(kind) + f"q: {kind}[4] = {call}\nreturn_(q)"
    check_read(parse(text, {"d": torch.tensor(divisor, dtype=dtype)}), "t")


TENSOR = 'aten.div.Tensor_mode(x, {}, rounding_mode="{}")'
NUMBER = 'aten.div.Scalar_mode(x, {}, rounding_mode="{}")'


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (TENSOR.format("d", "trunc"), "i64"),
        (TENSOR.format("n", "floor"), "i64"),
        (NUMBER.format(-2, "trunc"), "i32"),
        (NUMBER.format(-1, "floor"), "i32"),
        (TENSOR.format("n", "trunc"), "i8"),
        (TENSOR.format("n", "trunc"), "f32"),
        ("aten.floor_divide.default(x, n)", "i64"),
        ("aten.remainder.Tensor(x, n)", "i64"),
    ],
)
def test_quotients_that_end_nothing_are_read(call: str, kind: str) -> None:
    read(call, kind=kind)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (TENSOR.format("n", "trunc"), "i64"),
        (TENSOR.format("n", "trunc"), "i32"),
        (NUMBER.format(-1, "trunc"), "i64"),
        ('aten.divide.Tensor_mode(x, n, rounding_mode="trunc")', "i64"),
    ],
)
def test_quotients_that_may_end_the_process_are_refused(call: str, kind: str) -> None:
    with pytest.raises(InputError, match="may be -1"):
        read(call, kind=kind)


def test_a_constant_that_holds_it_is_refused() -> None:
    with pytest.raises(InputError, match="may be -1"):
        read(TENSOR.format("d", "trunc"), (1, 2, -1, 3))


def least(x: Tensor) -> Tensor:
    """Whole numbers, every second one the least there is."""
    far = torch.full_like(x, -(2**63), dtype=torch.int64)
    return torch.where(x > 0, far, (x * 9).long())


CASES: dict[str, Said] = {
    "floor": lambda m, x: least(x) // ((x * 2).long().abs() * 2 - 1),
    "towards zero": lambda m, x: torch.div((x * 9).long(), (x * 2).long().abs() * 2 - 1, rounding_mode="trunc"),
    "by the number": lambda m, x: least(x) // -1,
    "remainder": lambda m, x: least(x) % ((x * 2).long().abs() * 2 - 1),
    "of 32 bits": lambda m, x: (x * 9).int() // ((x * 2).int().abs() * 2 - 1),
}


@pytest.mark.parametrize("name", CASES)
def test_a_users_quotient_is_torchs_and_is_read_back(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = hold_to_torch(CASES[name])
    for node in program.calls(aten.div.Tensor_mode):
        assert is_safe(program, node.args[1], node.meta["type"].dtype)
    save(program, file := tmp_path_factory.mktemp("p") / "p.safetensors")
    assert show(load(file)) == show(program)

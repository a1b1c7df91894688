"""The list of operators that a graph from a file may call."""

import operator

import pytest

from vitgraph.ir.dialect import ATEN, INTEGER, OWN
from vitgraph.ir.file_operators import ATEN_NAMES, find_operator
from vitgraph.ir.operator_schema import writes
from vitgraph.passes.canonicalize.canonicalize import RULES


def test_the_dialect_is_on_the_list() -> None:
    assert all(find_operator(str(target)) is target for target in [*ATEN, *OWN])
    assert [find_operator(f"operator.{target.__name__}") for target in INTEGER] == list(INTEGER)
    assert find_operator("operator.getitem") is operator.getitem


def test_what_canonicalize_rewrites_is_on_the_list() -> None:
    aten = [target for target in RULES if str(target).startswith("aten.") and not writes(target)]
    absent = {str(target) for target in aten if str(target).split(".")[1] not in ATEN_NAMES}
    unsafe = {"aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default", "aten.rrelu.default"}
    assert absent == unsafe, "memory that nothing has written, and random numbers, are left out on purpose"


@pytest.mark.parametrize(
    "spelling",
    ["aten.from_file.default", "aten._print.default", "aten.add_.Tensor", "aten.add.out", "aten.empty.memory_format", "aten.rand.default",
     "aten.bernoulli.default", "aten.normal_functional.default", "aten.__class__.mro", "aten.linear.__call__", "aten.linear", "aten.linear.default.x",
     "aten.nothing.default", "aten.linear.nothing", "aten.split.str", "aten.copy.Dict_str", "aten.sparse_coo_tensor.indices",
     "aten._local_scalar_dense.default", "aten.set_.source_Storage", "vitgraph.x.default", "vitgraph.attention.x", "prims.add.default",
     "aten.native_batch_norm.default", "aten._batch_norm_no_update.default", "aten._scaled_dot_product_flash_attention_for_cpu.default",
     "aten.to.prim_dtype", "aten.to.prim_Device", "aten.index.Tensor_hacked_twin", "aten.index_put.hacked_twin",
     "operator.attrgetter", "operator.itemgetter", "operator.methodcaller", "operator.call", "operator.pow", "operator.lshift", "operator.__builtins__",
     "eval", "os.system", "operator", ""],
)  # fmt: skip
def test_what_is_not_on_the_list(spelling: str) -> None:
    with pytest.raises(ValueError, match=r"operator|tensors|TorchScript"):
        find_operator(spelling)

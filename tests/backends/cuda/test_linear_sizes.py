"""Which sizes of linears a plan has, each once."""

from dataclasses import replace

import pytest

from tests.backends.cuda.lowered_models import lowered_digits
from vitgraph.backends.cuda.linear_sizes import linear_sizes
from vitgraph.errors import InputError
from vitgraph.ir.tensor_type import TensorType


def test_sites_of_one_size_are_one_and_batches_are_apart() -> None:
    plan = lowered_digits("sparse-int8").plan
    sizes = linear_sizes(plan, [1, 8])
    linears = [site.path for site in plan.sites if site.kind == "linear" and site.kernel != "torch"]
    for batch in (1, 8):
        used = [path for size in sizes for each in size.used if each.batch == batch for path in each.sites]
        assert set(linears) <= set(used)
        assert len(used) == len(set(used)), "each site once"
    keys = [(size.padded, size.n, size.k) for size in sizes]
    assert len(keys) == len(set(keys))
    fc1 = next(size for size in sizes if "blocks.0.mlp.fc1" in size.used[0].sites and size.used[0].batch == 8)
    assert fc1.rows == 8 * linear_sizes(plan, [1])[0].rows
    assert {f"blocks.{at}.mlp.fc1" for at in range(4)} <= set(fc1.used[0].sites)


def test_batches_that_are_one_size_once_padded_share_it() -> None:
    """37 tokens: the head alone, on one row an image, is the same for one image and two."""
    (head,) = [each for each in linear_sizes(lowered_digits("int8").plan, [1, 2]) if "head" in each.used[0].sites]
    assert [used.batch for used in head.used] == [1, 2]
    assert head.rows == 1


def test_a_plan_of_one_batch_size_has_no_other() -> None:
    plan = lowered_digits("int8").plan
    name = plan.inputs[0]
    kind = plan.buffers[name].type
    fixed = replace(plan.buffers[name], type=TensorType(kind.dtype, (4, *kind.shape[1:])))
    plan = replace(plan, buffers={**plan.buffers, name: fixed})
    with pytest.raises(InputError, match=r"--batch 1,4: .* was compiled for a batch of 4"):
        linear_sizes(plan, [1, 4])


def test_a_plan_without_linears_is_refused() -> None:
    plan = replace(lowered_digits("int8").plan, steps=())
    with pytest.raises(InputError, match="has no linear to time"):
        linear_sizes(plan, [1])

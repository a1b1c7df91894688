"""torch's shorthands are taken apart at capture, and what they say stays the same."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.passes.canonicalize.capturing import Said, canonical, hold_to_torch
from vitgraph.frontend.decompositions import SHORTHANDS
from vitgraph.ir.operator_schema import opname

aten: Any = torch.ops.aten
CASES: dict[str, Said] = {
    "absolute": lambda m, x: torch.absolute(x),
    "concat": lambda m, x: torch.concat([x, x]),
    "float_power": lambda m, x: torch.float_power(x.abs(), 2.0).float(),
    "true_divide": lambda m, x: torch.true_divide(x, m.two),
    "block_diag": lambda m, x: aten.block_diag.default([x[0, 0], x[0, 1]]),
    "channel_shuffle": lambda m, x: F.channel_shuffle(x, 2),
    "column_stack": lambda m, x: torch.column_stack([x[0, 0], x[0, 1]]),
    "diag": lambda m, x: torch.diag(x[0, 0]),
    "diag of a vector": lambda m, x: torch.diag(x[0, 0, 0]),
    "diag_embed": lambda m, x: torch.diag_embed(x),
    "diff": lambda m, x: x.diff(),
    "hstack": lambda m, x: torch.hstack([x, x]),
    "meshgrid": lambda m, x: torch.meshgrid(x[0, 0, 0], x[0, 0, 1], indexing="ij")[0],
    "rot90": lambda m, x: x.rot90(1, (2, 3)),
    "take_along_dim": lambda m, x: torch.take_along_dim(x, x.argmax(-1, keepdim=True), -1),
    "addr": lambda m, x: torch.addr(x[0, 0, :, :6], x[0, 0, :, 0], x[0, 1, :, 1]),
    "cosine_similarity": lambda m, x: F.cosine_similarity(x, x.flip(-1), 1),
    "count_nonzero": lambda m, x: x.relu().count_nonzero(-1),
    "kron": lambda m, x: torch.kron(x[0, 0], x[0, 1]),
    "linalg_cross": lambda m, x: aten.linalg_cross.default(x[..., :3], x.flip(-1)[..., :3]),
    "linalg_vecdot": lambda m, x: aten.linalg_vecdot.default(x, x.flip(-1)),
    "logaddexp": lambda m, x: torch.logaddexp(x, x.flip(-1)),
    "nanmean": lambda m, x: x.nanmean(-1),
    "pairwise_distance": lambda m, x: F.pairwise_distance(x, x.flip(-1)),
    "trace": lambda m, x: x[0, 0].trace(),
    "heaviside": lambda m, x: torch.heaviside(x, m.two),
    "logit": lambda m, x: torch.logit(x.sigmoid(), 0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_gives_what_torch_gives(name: str) -> None:
    hold_to_torch(CASES[name])


def test_names_are_operators_of_torch() -> None:
    assert [name for name in SHORTHANDS if not hasattr(aten, name)] == []


def test_a_graph_without_shorthands_is_not_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("decompositions are asked for")

    monkeypatch.setattr(torch.export, "default_decompositions", never)
    (node,) = canonical(lambda m, x: x.relu()).calls()
    assert opname(node.target) == "relu"
    with pytest.raises(Exception, match="decompositions are asked for"):
        canonical(CASES["hstack"])

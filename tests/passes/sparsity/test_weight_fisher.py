"""The Fisher information of weights, against gradients taken image by image."""

import pytest
import torch

from tests.passes.sparsity.test_nm_mask import MLP, Mixed
from vitgraph.analysis.sites import find_sites
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes.sparsity import weight_fisher as subject
from vitgraph.passes.sparsity.weight_fisher import block_width, weight_fisher
from vitgraph.quantizing.fisher import gradients


def blocks(program: Program, images: Mixed) -> dict[str, torch.Tensor]:
    sites = find_sites(program).linears[:2]
    return {s.path: each for s, each in weight_fisher(program, sites, 4, images, Context().progress)}


def test_blocks_are_the_mean_of_the_gradients_outer_products() -> None:
    program, images = parse(MLP), Mixed(8, count=10)
    found = blocks(program, images)["blocks.0.fc1"]
    assert found.shape == (12, 1, 8, 8)
    (node, *_) = (site.node for site in find_sites(program).linears)
    wanted, at = torch.zeros(12, 8, 8), 0
    for _, (g,) in gradients(program, [node], images, len(images)):
        for row in g:
            weight_gradient = row.unsqueeze(1) * images.pixels[at]
            wanted += weight_gradient.unsqueeze(2) * weight_gradient.unsqueeze(1)
            at += 1
    torch.testing.assert_close(found[:, 0], wanted / 10)


def test_a_weight_that_the_output_does_not_see_has_none() -> None:
    program = parse(MLP)
    with torch.no_grad():
        program.tensor("fc2.weight")[:, 5] = 0
    found = blocks(program, Mixed(8, count=10))["blocks.0.fc1"]
    assert bool((found[5] == 0).all())
    assert bool((found[4] != 0).any())


def test_in_several_runs_where_room_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    program, images = parse(MLP), Mixed(8, count=10)
    wanted = blocks(program, images)
    monkeypatch.setattr(subject, "_ROOM", 1)
    for path, each in blocks(program, images).items():
        assert torch.equal(each, wanted[path])


def test_widths_hold_whole_groups() -> None:
    assert [block_width(k, 4) for k in (192, 768, 12, 20, 4)] == [32, 32, 12, 20, 4]
    assert block_width(80, 40) == 40
    assert block_width(27, 9) == 27

"""The budget arithmetic, by hand and for the paper's models, and what uniform and ERK make of a budget."""

from functools import cache

import pytest
import torch

from tests.levels_model import COST, SPACE
from vitgraph.cost.paper_counts import elsa_flops
from vitgraph.cost.products import find_products
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import load_model
from vitgraph.ir.packing import Packing
from vitgraph.ir.parser import parse
from vitgraph.ir.program import Program
from vitgraph.passes import pipeline
from vitgraph.passes.prepared import prepare
from vitgraph.searching.levels import LevelCost, Space, erk, find_space, flops, milliseconds, read_budget, uniform
from vitgraph.targets.target import get_target


@cache
def digits() -> Program:
    return prepare(
        capture_model(load_model("digits-vit", weights="random"))
    )  # the trained ones hold zeros of their own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "layers", "dense", "half", "quarter", "budget"),
    [
        ("deit_base_patch16_224", 48, 17.57, 9.20, 5.02, 6.06),
        ("swin_base_patch4_window7_224", 96, 15.44, 8.04, 4.34, 5.32),
    ],
)
def test_flops_of_the_papers_models(
    name: str, layers: int, dense: float, half: float, quarter: float, budget: float
) -> None:
    program = prepare(capture_model(load_model(name, weights=None)))
    space, refused = find_space(program, get_target("vegeta"))
    cost = flops(program, space)
    assert (len(space.layers), refused) == (layers, [])
    assert [str(each) for each in space.layers[0].levels] == ["1:4", "2:4", "4:4"]
    costs = [cost.of((place,) * layers) for place in (2, 1, 0)]
    assert [round(each / 1e9, 2) for each in costs] == [dense, half, quarter]
    assert round(read_budget("2.9x", space, cost).limit / 1e9, 2) == budget


def test_a_choice_costs_what_the_masked_program_does() -> None:
    program = digits()
    space, _ = find_space(program, get_target("vegeta"))
    choice = tuple(index % 3 for index in range(len(space.layers)))
    steps = [
        f"nm-mask{{n={level.n} m={level.m} only=[{layer.path}]}}"
        for layer, level in zip(space.layers, space.patterns(choice), strict=True)
        if level.n < level.m
    ]
    masked = pipeline(",".join(steps)).run(program)
    assert flops(program, space).of(choice) == elsa_flops(masked, find_products(masked))
    assert flops(program, space).of(space.dense) != elsa_flops(masked, find_products(masked))


def test_levels_are_those_of_the_target() -> None:
    program = digits()
    half, quarter = (find_space(program, get_target(name))[0] for name in ("a100", "vegeta"))
    assert {str(level) for layer in half.layers for level in layer.levels} == {"2:4", "4:4"}
    assert {str(level) for layer in quarter.layers for level in layer.levels} == {"1:4", "2:4", "4:4"}
    assert [layer.role for layer in half.layers[:4]] == ["qkv", "proj", "fc1", "fc2"]
    with pytest.raises(InputError, match="rtx-turing multiplies no N:M zeros"):
        find_space(program, get_target("rtx-turing"))


def test_selected_like_any_site_and_refused_with_a_reason() -> None:
    program = digits()
    space, _ = find_space(program, get_target("a100"), only=["fc1"], skip=["blocks.0.*"])
    assert [layer.path for layer in space.layers] == [f"blocks.{index}.mlp.fc1" for index in (1, 2, 3)]
    masked = pipeline("nm-mask{only=[fc1]}").run(program)
    space, refused = find_space(masked, get_target("a100"))
    assert {each.site for each in refused} == {f"blocks.{index}.mlp.fc1" for index in range(4)}
    assert "masked" in refused[0].why
    with pytest.raises(InputError, match="no linear can take a level"):
        find_space(masked, get_target("a100"), only=["fc1"])


def test_a_weight_that_the_model_does_not_train_is_refused() -> None:
    program = digits()
    names = {f"blocks.{index}.mlp.fc1.weight" for index in range(3)}
    space, refused = find_space(program, get_target("a100"), only=["fc1"], parameters=names)
    assert {layer.weight for layer in space.layers} == names
    assert [(each.site, "made of others" in each.why) for each in refused] == [("blocks.3.mlp.fc1", True)]


ODD = """
# form: canonical
x: f32[1, 5, 6] = input()
w: f32[8, 6] = weight("w")
h: f32[1, 5, 8] = aten.linear.default(x, w)
a: f32[1, 5, 8] = aten.gelu.default(h)
v: f32[8, 8] = weight("v")
y: f32[1, 5, 8] = aten.linear.default(a, v)
z: f32[1, 5, 8] = aten.linear.default(a, v)
s: f32[1, 5, 8] = aten.add.Tensor(y, z)
t: f32[1, 5, 8] = aten.gelu.default(s)
return_(t)
"""


def test_whole_groups_and_weights_of_their_own() -> None:
    tensors = {"w": torch.nn.Parameter(torch.ones(8, 6)), "v": torch.nn.Parameter(torch.ones(8, 8))}
    with pytest.raises(InputError, match=r"K = 6 holds no whole groups of 4") as told:
        find_space(parse(ODD, tensors), get_target("a100"), only=["k>=1"])
    assert "no linear" in str(told.value)


ONE_MODULE = """
# form: canonical
x: f32[1, 5, 8] = input()
w: f32[16, 8] = weight("w")
h: f32[1, 5, 16] = aten.linear.default(x, w)  # mlp
a: f32[1, 5, 16] = aten.gelu.default(h)  # mlp
v: f32[8, 16] = weight("v")
y: f32[1, 5, 8] = aten.linear.default(a, v)  # mlp
t: f32[1, 5, 8] = aten.relu.default(y)  # mlp
return_(t)
"""


def test_linears_of_one_module_are_told_apart_by_their_role() -> None:
    program = parse(ONE_MODULE, {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in (("w", (16, 8)), ("v", (8, 16)))})  # fmt: skip
    space, refused = find_space(program, get_target("a100"))
    assert [layer.path for layer in space.layers] == ["mlp:fc1", "mlp:fc2"]
    assert refused == []
    cost = milliseconds(program, space, get_target("a100"), 1, "fp16")
    assert cost.of(space.dense) > cost.fixed


def test_linears_that_no_selector_tells_apart_are_refused() -> None:
    twins = ONE_MODULE.replace("return_(t)", 'u: f32[8, 8] = weight("u")\nz: f32[1, 5, 8] = aten.linear.default(t, u)  # mlp\ns: f32[1, 5, 8] = aten.relu.default(z)\nreturn_(s)')  # fmt: skip
    shapes = (("w", (16, 8)), ("v", (8, 16)), ("u", (8, 8)))
    program = parse(twins, {name: torch.nn.Parameter(torch.ones(shape)) for name, shape in shapes})
    with pytest.raises(InputError, match="no selector tells it from another linear of its module"):
        find_space(program, get_target("a100"), only=["fc2"])


def test_budgets() -> None:
    dense = COST.of(SPACE.dense)
    assert dense == 1000 + 10 * (64 + 256 + 64 + 256)
    assert read_budget("2x", SPACE, COST).limit == dense / 2
    assert read_budget("0.005M", SPACE, COST).limit == 5000
    with pytest.raises(InputError, match=r"at most 2\.84 times less"):
        read_budget("2.9x", SPACE, COST)


def test_uniform_is_the_densest_level_within_the_limit() -> None:
    half = COST.of((1, 1, 1, 1))
    assert uniform(SPACE, COST, half) == (1, 1, 1, 1)
    assert uniform(SPACE, COST, half - 1) == (0, 0, 0, 0)
    assert uniform(SPACE, COST, 1e9) == SPACE.dense


def test_erk_keeps_more_of_small_layers_and_never_goes_over() -> None:
    for limit in range(int(COST.of(SPACE.sparsest)), int(COST.of(SPACE.dense)) + 200, 100):
        choice = erk(SPACE, COST, limit)
        assert COST.of(choice) <= limit
        assert choice[0] >= choice[1]
        assert (choice[0], choice[1]) == (choice[2], choice[3])
    assert erk(SPACE, COST, 1e9) == SPACE.dense
    assert erk(SPACE, COST, COST.of((1, 0, 1, 0))) == (1, 0, 1, 0)


def test_milliseconds_by_the_cost_model() -> None:
    program, target = digits(), get_target("a100")
    space, _ = find_space(program, target)
    cost = milliseconds(program, space, target, 256, "fp16")
    from vitgraph.cost.estimates import compare_forms
    from vitgraph.cost.fusion import find_kernels

    whole = compare_forms(find_kernels(program), 256, [target])["fp16"]["a100"]
    assert whole is not None
    assert cost.of(space.dense) == pytest.approx(whole, rel=1e-3)
    assert cost.of(space.sparsest) <= cost.of(space.dense)
    vegeta = get_target("vegeta")
    with pytest.raises(InputError, match="a budget in ms needs an estimate, and vegeta has none"):
        milliseconds(program, find_space(program, vegeta)[0], vegeta, 1, "fp16")


def test_dense_is_the_last_level_even_where_nothing_fits_but_one() -> None:
    space = Space(SPACE.layers[:1])
    assert space.patterns(space.dense) == (Packing(4, 4),)
    assert dict(space.neighbours((1,), 1)) == {0: (2,)}
    assert dict(space.neighbours((2,), 1)) == {}
    assert LevelCost("ms", 1.0, ((1.0, 2.0, 3.0),)).of((2,)) == 4.0

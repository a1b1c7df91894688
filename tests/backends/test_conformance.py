"""One suite for every backend that runs on a CPU: each operator, each batch size, each mistake, against the graph itself."""

from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.operator_cases import CASES, batch_for, build
from vitgraph.backends import all_backends, find_backend
from vitgraph.backends.onnx.lowering import RULES
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir import dialect
from vitgraph.ir.program import Program
from vitgraph.ir.verify import verify
from vitgraph.pass_manager.numerics import measure
from vitgraph.passes import pipeline
from vitgraph.runtime.backend import Backend, Runner
from vitgraph.targets.target import get_target

ON_CPU = ("eager", "ort")
TOLERANCE = 5e-6  # absolute and relative: single operators on numbers of about one


@pytest.fixture(params=ON_CPU)
def backend(request: pytest.FixtureRequest) -> Backend:
    return find_backend(str(request.param))


def agree(program: Program, backend: Backend, batch: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    with backend.load(program, get_target("cpu")) as runner:
        found = runner.run(batch)
    torch.testing.assert_close(found, program.run(batch), rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_operator_gives_what_the_graph_gives(case: str, backend: Backend) -> None:
    program = build(CASES[case])
    assert verify(program) == {}
    for size in (1, 3, 8) if "N" in str(program.input_types()[0]) else (2,):
        agree(program, backend, batch_for(program, size))


def test_comparison_can_fail() -> None:
    program, other = build(CASES["gelu"]), build(CASES["gelu_tanh"])
    with find_backend("ort").load(other) as runner:
        found = runner.run(batch_for(program))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found, program.run(batch_for(program)), rtol=TOLERANCE, atol=TOLERANCE)


def test_every_operator_of_the_dialect_has_a_case_and_a_lowering() -> None:
    seen = {node.target for lines in CASES.values() for node in build(lines).calls()}
    wanted: set[Any] = {*dialect.ATEN, *dialect.OWN, *dialect.INTEGER}  # pyright: ignore[reportUnknownMemberType]
    assert wanted - seen == set()
    assert wanted - set(RULES) == set()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    axis=st.integers(-2, 1),
    shift=st.integers(-7, 7),
    seed=st.integers(0, 100),
)
def test_layout_of_any_shape(shape: list[int], axis: int, shift: int, seed: int) -> None:
    rank, count = len(shape), torch.Size(shape).numel()
    order = [rank - 1, *range(rank - 1)]
    program = build(
        f"x: f32[{', '.join(map(str, shape))}] = input(); r = aten.roll.default(x, [{shift}], [{axis}]); "
        f"p = aten.permute.default(r, {order}); f = aten.flip.default(p, [{axis}]); "
        f"d = aten.pad.default(f, [1, 2]); s = aten.slice.Tensor(d, -1, 1, -2); y = aten.reshape.default(s, [{count}])"
    )
    agree(program, find_backend("ort"), batch_for(program, seed=seed), tolerance=0.0)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    ceil=st.booleans(),
    out=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_pooling_of_any_shape(
    size: tuple[int, int], kernel: int, stride: int, ceil: bool, out: tuple[int, int]
) -> None:
    image = f"x: f32[1, 2, {size[0]}, {size[1]}] = input()"
    window = f"[{kernel}, {kernel}], [{stride}, {stride}], [{kernel // 2}, {kernel // 2}]"
    for call in (
        f"aten.max_pool2d.default(x, {window}, [1, 1], {ceil})",
        f"aten.avg_pool2d.default(x, {window}, {ceil}, False)",
        f"aten.adaptive_avg_pool2d.default(x, [{out[0]}, {out[1]}])",
    ):
        program = build(f"{image}; y = {call}")
        agree(program, find_backend("ort"), batch_for(program))


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 9), heads=st.integers(1, 3), tokens=st.integers(1, 9), dim=st.integers(1, 9))
def test_attention_of_any_shape(batch: int, heads: int, tokens: int, dim: int) -> None:
    width = heads * dim
    program = build(
        f"w: f32[{3 * width}, {width}] = weight('w'); x: f32[N, {tokens}, {width}] = input(); "
        f"l = aten.linear.default(x, w); r = aten.reshape.default(l, [-1, {tokens}, 3, {heads}, {dim}]); "
        "p = aten.permute.default(r, [2, 0, 3, 1, 4]); q = aten.select.int(p, 0, 0); k = aten.select.int(p, 0, 1); "
        "v = aten.select.int(p, 0, 2); a = vitgraph.attention.default(q, k, v, None, 0.3); "
        f"t = aten.permute.default(a, [0, 2, 1, 3]); y = aten.reshape.default(t, [-1, {tokens}, {width}])"
    )
    agree(program, find_backend("ort"), batch_for(program, batch))


def test_a_wrong_batch_is_an_input_error(backend: Backend) -> None:
    program = build(CASES["linear"])
    with backend.load(program) as runner:
        for wrong in (torch.zeros(2, 5, 9), torch.zeros(3, 5, 8), torch.zeros(5, 8), torch.zeros(2, 5, 8).double()):
            with pytest.raises(InputError, match="but the batch is"):
                runner.run(wrong)
        assert runner.run(torch.zeros(2, 5, 8)).shape == (2, 5, 16)


def test_two_inputs_are_an_input_error(backend: Backend) -> None:
    program = build("x: f32[2] = input(); z: f32[2] = input(); y = aten.add.Tensor(x, z)")
    with pytest.raises(InputError, match="2 inputs"):
        backend.load(program)


def test_runners_are_of_the_protocol(backend: Backend) -> None:
    with backend.load(build(CASES["relu"])) as runner:
        assert isinstance(runner, Runner)


def test_first_of_several_outputs_is_given(backend: Backend) -> None:
    program = build("x: f32[2, 5, 8] = input(); y = aten.topk.default(x, 3)")
    batch = batch_for(program)
    with backend.load(program) as runner:
        assert torch.equal(runner.run(batch), batch.topk(3).values)


def test_unknown_backend_lists_near_misses() -> None:
    with pytest.raises(InputError, match="did you mean eager"):
        find_backend("eagre")
    with pytest.raises(InputError, match="there are eager"):
        find_backend("xyz")


def test_other_packages_offer_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("planted", "vitgraph.backends.eager:Eager", "vitgraph.backends")
    own = EntryPoint("ort", "elsewhere:Ort", "vitgraph.backends")

    def offered(group: str) -> list[EntryPoint]:
        return [point, own] if group == "vitgraph.backends" else []

    monkeypatch.setattr("vitgraph.backends.entry_points", offered)
    all_backends.cache_clear()
    try:
        assert find_backend("planted").name == "eager"
        assert all_backends()["ort"].startswith("vitgraph."), "another package may not take over a name"
    finally:
        all_backends.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dynamic_batch"),
    [
        ("vit_tiny_patch16_224", False),
        ("vit_tiny_patch16_224", True),
        ("swin_tiny_patch4_window7_224", True),
        ("efficientvit_b1", False),
    ],
)
def test_whole_models(name: str, dynamic_batch: bool) -> None:
    import timm

    model = timm.create_model(name, pretrained=False).eval()  # pyright: ignore[reportUnknownMemberType, reportPrivateImportUsage]
    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    captured = capture(model, batch, name=name, dynamic_batch=dynamic_batch)
    program = pipeline("canonicalize,fold-constants").run(captured)
    with find_backend("ort").load(program) as runner, torch.no_grad():
        assert measure(model(batch), runner.run(batch)).relative_l2 < 1e-5
        if dynamic_batch:
            assert measure(model(batch[:1]), runner.run(batch[:1])).relative_l2 < 1e-5

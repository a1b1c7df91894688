"""What a new backend must pass: each operator, each batch size, each mistake, against the graph itself.

The suite takes every backend of the registry that runs models here, those of installed packages among them: a package's author runs
this file with the package installed, `python -m pytest tests/backends/test_conformance.py -k NAME`. One that can't work here is skipped
with its reason; the plugin's in tests/plugin passes with the others.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.operator_cases import CASES, batch_for, build
from tests.planted import installed
from vitgraph.backends import all_backends, find_backend, find_builder
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

TOLERANCE = 5e-6  # absolute and relative: single operators on numbers of about one


@dataclass(frozen=True)
class Deviation:
    """What is known of a runtime that does not compute an operator as the graph says: how far off, how often, and why."""

    tolerance: float
    share: float
    why: str


DEVIATIONS = {
    ("openvino", "to"): Deviation(1e-3, 1.0, "keeps FP32 where the graph rounds to FP16 and back"),
    ("openvino", "fake_quantize_fp8"): Deviation(0.13, 0.02, "rounds to FP8 by way of FP16: near ties, one step"),
    ("openvino", "attention_fp8"): Deviation(0.13, 0.02, "rounds to FP8 by way of FP16: near ties, one step"),
}

NO_REFERENCE = {
    "tensorrt": "runs engines, which are held to their contract",
    "torch-compile": "computes in FP16 what programs do in other types; it is there to be timed",
}
"""Backends that are not asked for a program's numbers."""


def runners() -> Mapping[str, Backend]:
    """All backends that run models by name, the test plugin's among them."""
    found = dict[str, Backend]()
    with installed():
        for name in all_backends():
            with suppress(InputError):  # one that only builds; and two of the plugin's, broken on purpose
                found[name] = find_backend(name)
    return found


RUNNERS = runners()


@pytest.fixture(params=RUNNERS)
def backend(request: pytest.FixtureRequest) -> Backend:
    return working(str(request.param))


def working(name: str) -> Backend:
    """The backend of this name; where it can't work here, or runs no programs, the test is skipped with the reason."""
    if why := RUNNERS[name].refusal(None):
        pytest.skip(f"{name}: {why}")
    if why := NO_REFERENCE.get(name):
        pytest.skip(f"{name}: {why}")
    return RUNNERS[name]


def agree(program: Program, backend: Backend, batch: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    with backend.load(program, get_target("cpu")) as runner:
        found = runner.run(batch)
    torch.testing.assert_close(found, program.run(batch), rtol=tolerance, atol=tolerance, equal_nan=True)


def agree_but(deviation: Deviation, program: Program, backend: Backend, batch: torch.Tensor) -> None:
    """The two are no further apart than is known, and no more of their values differ."""
    agree(program, backend, batch, deviation.tolerance)
    with backend.load(program) as runner:
        close = torch.isclose(runner.run(batch), program.run(batch), rtol=TOLERANCE, atol=TOLERANCE)
    assert float((~close).double().mean()) <= deviation.share


@pytest.mark.parametrize("case", CASES)
def test_operator_gives_what_the_graph_gives(case: str, backend: Backend) -> None:
    program = build(CASES[case])
    assert verify(program) == {}
    known = DEVIATIONS.get((backend.name, case))
    for size in (1, 3, 8) if "N" in str(program.input_types()[0]) else (2,):
        if known is None:
            agree(program, backend, batch_for(program, size))
        else:
            agree_but(known, program, backend, batch_for(program, size))


@pytest.mark.parametrize(("name", "case"), DEVIATIONS)
def test_a_deviation_that_is_gone_is_struck_from_the_list(name: str, case: str) -> None:
    program, backend = build(CASES[case]), working(name)
    with pytest.raises(AssertionError):
        agree(program, backend, batch_for(program, 8))


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


@pytest.mark.parametrize("name", RUNNERS)
@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    axis=st.integers(-2, 1),
    shift=st.integers(-7, 7),
    seed=st.integers(0, 100),
)
def test_layout_of_any_shape(name: str, shape: list[int], axis: int, shift: int, seed: int) -> None:
    rank, count = len(shape), torch.Size(shape).numel()
    order = [rank - 1, *range(rank - 1)]
    program = build(
        f"x: f32[{', '.join(map(str, shape))}] = input(); r = aten.roll.default(x, [{shift}], [{axis}]); "
        f"p = aten.permute.default(r, {order}); f = aten.flip.default(p, [{axis}]); "
        f"d = aten.pad.default(f, [1, 2]); s = aten.slice.Tensor(d, -1, 1, -2); y = aten.reshape.default(s, [{count}])"
    )
    agree(program, working(name), batch_for(program, seed=seed), tolerance=0.0)


@pytest.mark.parametrize("name", RUNNERS)
@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    ceil=st.booleans(),
    out=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_pooling_of_any_shape(
    name: str, size: tuple[int, int], kernel: int, stride: int, ceil: bool, out: tuple[int, int]
) -> None:
    image = f"x: f32[1, 2, {size[0]}, {size[1]}] = input()"
    window = f"[{kernel}, {kernel}], [{stride}, {stride}], [{kernel // 2}, {kernel // 2}]"
    for call in (
        f"aten.max_pool2d.default(x, {window}, [1, 1], {ceil})",
        f"aten.avg_pool2d.default(x, {window}, {ceil}, False)",
        f"aten.adaptive_avg_pool2d.default(x, [{out[0]}, {out[1]}])",
    ):
        program = build(f"{image}; y = {call}")
        agree(program, working(name), batch_for(program))


@pytest.mark.parametrize("name", RUNNERS)
@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 9), heads=st.integers(1, 3), tokens=st.integers(1, 9), dim=st.integers(1, 9))
def test_attention_of_any_shape(name: str, batch: int, heads: int, tokens: int, dim: int) -> None:
    width = heads * dim
    program = build(
        f"w: f32[{3 * width}, {width}] = weight('w'); x: f32[N, {tokens}, {width}] = input(); "
        f"l = aten.linear.default(x, w); r = aten.reshape.default(l, [-1, {tokens}, 3, {heads}, {dim}]); "
        "p = aten.permute.default(r, [2, 0, 3, 1, 4]); q = aten.select.int(p, 0, 0); k = aten.select.int(p, 0, 1); "
        "v = aten.select.int(p, 0, 2); a = vitgraph.attention.default(q, k, v, None, 0.3); "
        f"t = aten.permute.default(a, [0, 2, 1, 3]); y = aten.reshape.default(t, [-1, {tokens}, {width}])"
    )
    agree(program, working(name), batch_for(program, batch))


def test_is_found_by_its_own_name_and_says_what_it_runs(backend: Backend) -> None:
    with installed():
        assert type(find_backend(backend.name)) is type(backend)
    assert backend.source in ("model.onnx", "program", "cuda")


def test_says_what_it_takes(backend: Backend) -> None:
    with backend.load(build(CASES["linear"])) as fixed, backend.load(build(CASES["sizes"])) as open_batch:
        assert (fixed.batch_size, fixed.input_shape, fixed.input_dtype) == (2, (2, 5, 8), torch.float32)
        assert open_batch.batch_size is None
        assert open_batch.input_shape[0] is None


def test_one_thread_gives_the_same_numbers_again(backend: Backend) -> None:
    program = build(CASES["linear"])
    batch = batch_for(program)
    with backend.load(program, threads=1) as runner, backend.load(program, threads=1) as other:
        first = runner.run(batch)
        assert torch.equal(first, runner.run(batch)), "the first answer may not be overwritten by the next"
        assert torch.equal(first, other.run(batch))


def test_an_answer_is_not_overwritten_by_the_next(backend: Backend) -> None:
    program = build(CASES["relu"])
    batch = batch_for(program)
    with backend.load(program) as runner:
        first = runner.run(batch)
        kept = first.clone()
        runner.run(batch + 1)
        assert torch.equal(first, kept)


def test_what_was_executed_names_types(backend: Backend) -> None:
    program = build(CASES["linear"])
    with backend.load(program) as runner:
        runner.run(batch_for(program))
        found = runner.execution(2)
    assert found is None or set(found.linears.values()) <= {"int8", "fp32", "fp16", "bf16", "unknown"}


def test_a_wrong_batch_is_an_input_error(backend: Backend) -> None:
    program = build(CASES["linear"])
    with backend.load(program) as runner:
        for wrong in (
            torch.zeros(2, 5, 9),
            torch.zeros(3, 5, 8),
            torch.zeros(5, 8),
            torch.zeros(2, 5, 8).double(),
            torch.zeros(0, 5, 8),
        ):
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


def test_a_backend_of_the_other_kind_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed():
        monkeypatch.setitem(cast(Any, all_backends()), "builder", "planted_backends:PlantedBuilder")
        with pytest.raises(InputError, match=r"builder builds engines and runs no model; .*: eager, ort, openvino, "):
            find_backend("builder")
    with pytest.raises(InputError, match=r"ort runs models and builds no engine; .*: tensorrt, cuda$"):
        find_builder("ort")


def test_a_package_that_is_broken_is_an_input_error() -> None:
    with installed():
        with pytest.raises(InputError, match=r"planted-missing can't be loaded from planted_backends:NoSuchClass"):
            find_backend("planted-missing")
        with pytest.raises(InputError, match="neither runs models nor builds engines"):
            find_backend("planted-neither")


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

"""The runner of engines on bindings that pretend: what is asked, in which order, and what each refusal is told as."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.backends.pretended_card import FACTS, PretendedCard
from tests.backends.tensorrt.fake_runtime import CudaGraphStrategy, FakeBindings, answer_to, plan_of
from vitgraph.backends.tensorrt.engine_runner import EngineRunner
from vitgraph.backends.tensorrt.loading import load_engine
from vitgraph.errors import InputError
from vitgraph.runtime.accelerator import CardFacts

LAYER = {
    "Name": "_gemm_1", "LayerType": "gemm", "TacticName": "t", "Metadata": "[ONNX Layer: blocks.0.fc1/MatMul]",
    "Inputs": [{"Name": "x", "Datatype": "Int8", "Dimensions": [1, 8]}, {"Name": "w", "Datatype": "Int8", "Dimensions": [8, 8]}],
    "Outputs": [{"Name": "y", "Datatype": "Half", "Dimensions": [1, 8]}],
}  # fmt: skip
FALLEN = {**LAYER, "Inputs": [{"Name": "x", "Datatype": "Half", "Dimensions": [1, 8]}]}
PLANNED = {
    "compute_capabilities": ["8.0"],
    "planned": {"linears": [{"module": "blocks.0.fc1", "node": "blocks.0.fc1/MatMul", "type": "int8"}], "attentions": []},
}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Kernels are kept in a folder of the test's own."""
    monkeypatch.setenv("VITGRAPH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tensorrt"


class Bench:
    """A folder with an engine, a card, and bindings."""

    def __init__(self, folder: Path, facts: CardFacts = FACTS) -> None:
        self.folder, self.card = folder, PretendedCard(facts)
        self.bindings = FakeBindings(self.card)

    def load(self, plan: bytes, listing: dict[str, Any] | None = None) -> EngineRunner:
        (self.folder / "engine.plan").write_bytes(plan)
        if listing is not None:
            (self.folder / "engine.json").write_text(json.dumps(listing))
        return load_engine(self.folder, self.card, lambda flavour: self.bindings)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    (tmp_path / "out").mkdir()
    return Bench(tmp_path / "out")


def images(count: int) -> torch.Tensor:
    return torch.arange(6.0 * count).reshape(count, 3, 2)


def test_it_gives_what_the_engine_gives_for_any_batch_in_its_profile(bench: Bench) -> None:
    with bench.load(plan_of()) as runner:
        assert (runner.batch_size, runner.input_shape, runner.input_dtype) == (None, (None, 3, 2), torch.float32)
        for count in (1, 3, 8, 3):
            assert torch.equal(runner.run(images(count)), answer_to(images(count)))
    (engine,) = bench.bindings.engines
    assert [context.shape[0] for context in engine.contexts] == [1, 3, 8], "one context for each size"


def test_a_batch_above_the_most_runs_in_even_pieces(bench: Bench) -> None:
    with bench.load(plan_of()) as runner:
        assert torch.equal(runner.run(images(17)), answer_to(images(17)))
        launch = runner.resident(images(17))
        bench.card.seconds(launch)
    (engine,) = bench.bindings.engines
    assert sorted(context.shape[0] for context in engine.contexts) == [5, 6]


def test_a_resident_batch_stays_where_it_is(bench: Bench) -> None:
    with bench.load(plan_of()) as runner:
        launch = runner.resident(images(4))
        runner.accelerator.seconds(launch)
        (context,) = bench.bindings.engines[0].contexts
        answer = bench.card.memory[context.addresses["answer"]]
        assert torch.equal(answer, answer_to(images(4)))
        assert context.runs == 2, "once to be made ready, and once as it was asked"


def test_the_profile_whose_best_is_nearest_is_taken(bench: Bench) -> None:
    with bench.load(plan_of(profiles=[[1, 1, 8], [4, 8, 8]])) as runner:
        for count in (2, 7):
            assert torch.equal(runner.run(images(count)), answer_to(images(count)))
    assert [context.profile for context in bench.bindings.engines[0].contexts] == [0, 1]


def test_a_batch_below_the_least_is_filled_up_and_not_timed(bench: Bench) -> None:
    with bench.load(plan_of(profiles=[[4, 4, 8]])) as runner:
        assert torch.equal(runner.run(images(3)), answer_to(images(3)))
        with pytest.raises(InputError, match=r"takes batches of 4 to 8, not 3; compile with --batch 1:3:3"):
            runner.resident(images(3))


def test_pieces_that_no_profile_takes_are_refused(bench: Bench) -> None:
    with (
        bench.load(plan_of(profiles=[[7, 8, 8]])) as runner,
        pytest.raises(InputError, match=r"takes batches of 7 to 8, not 9 \(2 pieces of about 5\)"),
    ):
        runner.run(images(9))


def test_an_engine_of_a_fixed_batch_takes_no_other(bench: Bench) -> None:
    with bench.load(plan_of(shape=[2, 3, 2], profiles=[[2, 2, 2]])) as runner:
        assert runner.batch_size == 2
        assert torch.equal(runner.run(images(2)), answer_to(images(2)))
        with pytest.raises(InputError, match=r"takes torch.float32 \[2, 3, 2\]"):
            runner.run(images(3))
        with pytest.raises(InputError, match=r"but the batch is torch.float16"):
            runner.run(images(2).half())


@pytest.mark.parametrize(
    ("bits", "says"),
    [
        (2, "it was built for compute capability 8.0, and this GPU has 9.0; compile for a target of that capability"),
        (1, "another version of TensorRT-RTX built it"),
        (4, "the GPU's driver is too old for it"),
        (8, "the CUDA runtime is too old for it"),
        (16, "the GPU's memory does not hold it"),
        (32, "it is no whole engine of TensorRT-RTX"),
        (64, "CUDA's driver or runtime is not installed as it should be"),
        (0, "tensorrt_rtx 1.7.1 refuses it without a reason"),
    ],
)
def test_an_engine_that_is_not_valid_here_says_why_in_a_line(tmp_path: Path, bits: int, says: str) -> None:
    bench = Bench(tmp_path, replace(FACTS, compute_capability="9.0"))
    with pytest.raises(InputError) as error:
        bench.load(plan_of(validity=[2, bits]))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert bench.bindings.engines == [], "nothing is loaded that is not valid"


def test_every_reason_is_told(bench: Bench) -> None:
    with pytest.raises(InputError, match=r"another version .*; the GPU's driver is too old"):
        bench.load(plan_of(validity=[2, 5]))


def test_one_that_runs_below_its_best_runs_with_a_warning(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vitgraph"), bench.load(plan_of(validity=[1, 0])) as runner:
        assert torch.equal(runner.run(images(2)), answer_to(images(2)))
    assert "slower than one that is built for it" in caplog.text


@pytest.mark.parametrize(
    ("described", "says"),
    [
        ({"unloadable": "the plan is damaged"}, "can't be loaded by tensorrt_rtx 1.7.1: the plan is damaged"),
        ({"unloadable": "Cuda failure: out of memory"}, "the GPU's memory does not hold it; run smaller batches"),
        ({"no_context": "OutOfMemory"}, "the GPU's memory does not hold it"),
        ({"no_context": "no stream"}, "can't be made ready to run by tensorrt_rtx 1.7.1: no stream"),
        ({"fails": "a kernel fell over"}, "a batch of 2 is refused by tensorrt_rtx 1.7.1: a kernel fell over"),
        ({"unbindable": "answer"}, "tensor answer is refused"),
        ({"type": "FP4"}, "its tensor image is FP4, which torch has no tensors of"),
        ({"tensors": {"a": "INPUT", "b": "INPUT", "c": "OUTPUT"}}, "has 2 inputs; a runner takes models of one"),
        ({"tensors": {"image": "INPUT"}}, "gives nothing"),
        ({"shape": [-1, 3, -1]}, "a runner takes models of which the batch alone is open"),
    ],
)
def test_what_fails_is_one_line(bench: Bench, described: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as error, bench.load(plan_of(**described)) as runner:
        runner.run(images(2))
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_memory_that_runs_out_later_is_one_line_too(bench: Bench) -> None:
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
        bench.card.full = True
        with pytest.raises(InputError, match=r"the GPU's memory does not hold a batch of 8; run smaller") as error:
            runner.run(images(8))
        assert "\n" not in str(error.value)
        assert torch.equal(runner.run(images(2)), answer_to(images(2))), "what is ready still runs"


def test_kernels_are_kept_and_taken_in_the_next_time(bench: Bench, cache: Path) -> None:
    for turn, count in enumerate((2, 5)):
        with bench.load(plan_of()) as runner:
            runner.run(images(count))
            assert runner.execution(count).settings["kernel cache"] == ("reused" if turn else "new")
    (file,) = cache.iterdir()
    assert file.read_bytes().endswith(b"\nkernels [2, 5]")


@pytest.mark.parametrize("facts", [replace(FACTS, driver="590.2"), replace(FACTS, name="Another GPU")])
def test_kernels_of_another_driver_or_gpu_are_left_alone(bench: Bench, cache: Path, facts: CardFacts) -> None:
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
    other = Bench(bench.folder, facts)
    with other.load(plan_of()) as runner:
        runner.run(images(2))
        assert runner.execution(2).settings["kernel cache"] == "new"
    assert len(list(cache.iterdir())) == 2


def test_kernels_of_another_version_are_left_alone(bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("1.7.1", "1.8.0"):
        monkeypatch.setattr(FakeBindings, "__version__", version)
        with bench.load(plan_of()) as runner:
            runner.run(images(2))
            assert runner.execution(2).settings["kernel cache"] == "new"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b'{"format": 1}\nkernels [9]', b"\xff\xfe\x00", b"[" * 9999])
def test_a_damaged_cache_is_told_and_written_anew(
    bench: Bench, cache: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    with caplog.at_level(logging.WARNING, "vitgraph"), bench.load(plan_of()) as runner:
        assert torch.equal(runner.run(images(2)), answer_to(images(2)))
        assert runner.execution(2).settings["kernel cache"] == "new"
    assert "is damaged" in caplog.text
    assert file.read_bytes() == whole


def test_one_flipped_byte_is_seen(bench: Bench, cache: Path) -> None:
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes().replace(b"[2]", b"[3]"))
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
        assert runner.execution(2).settings["kernel cache"] == "new"


def test_a_cache_that_can_not_be_written_is_told_and_no_more(
    bench: Bench, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.parent.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "vitgraph"), bench.load(plan_of()) as runner:
        assert torch.equal(runner.run(images(2)), answer_to(images(2)))
    assert "are not kept" in caplog.text


def test_nothing_is_kept_where_nobody_wants_it(bench: Bench, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITGRAPH_CACHE", "")
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
    assert not cache.exists()


def test_full_tensorrt_has_no_validity_and_no_cache_and_is_captured_by_the_card(bench: Bench, cache: Path) -> None:
    bench.bindings = FakeBindings(bench.card, rtx=False)
    with bench.load(plan_of(magic=b"ftrt")) as runner:
        for count in (2, 2, 17):
            assert torch.equal(runner.run(images(count)), answer_to(images(count)))
        assert runner.execution(2).settings["CUDA graph"] == "recorded once"
        assert runner.execution(2).settings["runtime"] == "tensorrt 1.7.1"
    assert bench.card.captures == 3
    assert bench.bindings.engines[0].contexts[0].config is None
    assert not cache.exists()


def test_one_that_can_not_be_captured_runs_without(bench: Bench) -> None:
    bench.bindings, bench.card.uncapturable = FakeBindings(bench.card, rtx=False), "waits for the CPU\nat …"
    with bench.load(plan_of(magic=b"ftrt")) as runner:
        assert torch.equal(runner.run(images(2)), answer_to(images(2)))
        assert runner.execution(2).settings["CUDA graph"] == "none: waits for the CPU"


def test_rtx_records_graphs_by_itself(bench: Bench) -> None:
    with bench.load(plan_of()) as runner:
        runner.run(images(2))
    (context,) = bench.bindings.engines[0].contexts
    assert context.config is not None
    assert context.config.cuda_graph_strategy == CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    assert bench.card.captures == 0


def test_a_runtime_that_is_not_installed_is_named(bench: Bench) -> None:
    def missing(flavour: str) -> Any:
        raise ImportError(flavour)

    for magic, says in ((b"vtrt", "TensorRT-RTX, which is not installed"), (b"ftrt", "full TensorRT, which may have")):
        (bench.folder / "engine.plan").write_bytes(plan_of(magic=magic))
        with pytest.raises(InputError, match=says):
            load_engine(bench.folder, bench.card, missing)
    with pytest.raises(InputError, match=r"holds no engine\.plan"):
        load_engine(bench.folder / "nothing", bench.card, missing)


def test_the_loaded_engine_is_held_to_its_plan(bench: Bench) -> None:
    with bench.load(plan_of(layers=[LAYER]), PLANNED) as runner:
        assert runner.violations == ()
        executed = runner.execution(1)
        assert executed.summary() == "1 of 1 linears in int8"
        assert executed.settings["engine check"] == "1 layers held to its plan"


def test_one_that_fell_back_on_the_device_is_a_violation(bench: Bench) -> None:
    with bench.load(plan_of(layers=[FALLEN]), PLANNED) as runner:
        (violation,) = runner.violations
        assert (violation.site, violation.planned) == ("blocks.0.fc1", "int8 gemm")
        assert runner.execution(1).linears == {"blocks.0.fc1": "fp16"}


def test_a_plan_for_another_capability_than_it_was_built_for_is_a_violation(bench: Bench) -> None:
    with bench.load(plan_of(mask=8, layers=[LAYER]), PLANNED) as runner:
        (violation,) = runner.violations
        assert (violation.site, violation.found) == ("engine.plan", "for 8.9")


@pytest.mark.parametrize(
    ("described", "listing", "says"),
    [
        ({}, PLANNED, "its inspector tells no layers"),
        ({"inspected": '{"Layers": ["a"]}'}, PLANNED, "built without layer details"),
        ({"inspected": "no JSON"}, PLANNED, "not held to its plan: the inspector's answer"),
        ({"layers": [LAYER]}, None, "no engine.json with one lies beside it"),
        ({"layers": [LAYER]}, {"layers": []}, "no engine.json with one lies beside it"),
    ],
)
def test_a_check_that_can_not_be_done_says_so(
    bench: Bench, described: dict[str, Any], listing: dict[str, Any] | None, says: str
) -> None:
    with bench.load(plan_of(**described), listing) as runner:
        assert runner.violations == ()
        assert says in runner.execution(1).settings["engine check"]


def test_a_damaged_listing_is_an_input_error(bench: Bench) -> None:
    with pytest.raises(InputError, match="its part `planned` is not what"):
        bench.load(plan_of(), {**PLANNED, "planned": {"linears": [{"module": 1}]}})


def test_layers_are_timed_by_site(bench: Bench) -> None:
    other = {**LAYER, "Name": "copy", "LayerType": "copy", "Metadata": ""}
    with bench.load(plan_of(layers=[LAYER, other]), PLANNED) as runner:
        found = runner.kernel_times(images(2))
    assert [(each.name, each.site) for each in found] == [("_gemm_1", "blocks.0.fc1"), ("copy", "")]
    assert [each.seconds for each in found] == [pytest.approx(0.00025)] * 2
    assert bench.bindings.engines[0].contexts[-1].config.cuda_graph_strategy == CudaGraphStrategy.DISABLED  # type: ignore[union-attr]

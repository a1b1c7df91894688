"""What real TensorRT-RTX says of engines on a machine without a GPU, and what is told of a machine before an engine is looked at."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.backends.onnx_vit import Vit, write_vit
from tests.backends.pretended_card import PretendedCard
from tests.backends.tensorrt.test_engine import engine
from vitgraph.backends import choose, find_backend, load_backend
from vitgraph.backends.tensorrt import loading
from vitgraph.backends.tensorrt.backend import TensorRT, build_engine, unbuildable_why
from vitgraph.backends.tensorrt.loading import load_engine, unrunnable_why
from vitgraph.backends.tensorrt.plan_header import capabilities, judge_capability
from vitgraph.errors import InputError
from vitgraph.targets.target import get_target

NO_RTX = unbuildable_why(get_target("a100"))
needs_rtx = pytest.mark.skipif(NO_RTX is not None, reason=f"no engine here: {NO_RTX}")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A real one, for sm_80."""
    file = write_vit(Vit(depth=1), tmp_path_factory.mktemp("plan") / "m.onnx")
    return build_engine(file, get_target("a100")).plan


@needs_rtx
def test_the_header_says_what_it_was_built_for(plan: bytes) -> None:
    assert capabilities(plan) == ("8.0",)


@needs_rtx
@without_gpu
@pytest.mark.parametrize("cut", [None, 100, 40, 4])
def test_without_a_driver_the_real_runtime_refuses_in_one_line(plan: bytes, tmp_path: Path, cut: int | None) -> None:
    """Once the question is past whether there is a GPU."""
    (tmp_path / "engine.plan").write_bytes(plan[:cut])
    with pytest.raises(InputError) as error:
        load_engine(tmp_path, PretendedCard())
    assert "engine.plan: " in str(error.value)
    assert "\n" not in str(error.value)


@needs_rtx
@without_gpu
def test_without_a_gpu_there_is_nothing_to_load_it_on(plan: bytes, tmp_path: Path) -> None:
    (tmp_path / "engine.plan").write_bytes(plan)
    with pytest.raises(InputError, match=r"no CUDA device is here|without CUDA"):
        load_engine(tmp_path)
    assert "engines are built all the same" in str(TensorRT().refusal(None))


def hopper() -> tuple[int, int]:
    return 9, 0


def ada() -> tuple[int, int]:
    return 8, 9


def nothing() -> None:
    """No reason."""


@pytest.mark.parametrize(
    ("flavours", "capability", "says"),
    [
        ((), ada, "no TensorRT is installed"),
        (("tensorrt_rtx",), hopper, "this GPU has compute capability 9.0, and TensorRT-RTX runs on 7.5, 8.0"),
        (("tensorrt_rtx",), ada, None),
        (("tensorrt_rtx", "tensorrt"), hopper, None),
    ],
)
def test_what_no_engine_can_run_on_is_told_before_one_is_read(
    monkeypatch: pytest.MonkeyPatch, flavours: tuple[str, ...], capability: Callable[[], object], says: str | None
) -> None:
    monkeypatch.setattr(loading, "installed_flavours", lambda: flavours)
    monkeypatch.setattr(loading, "missing_card", nothing)
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    found = unrunnable_why()
    assert found is None if says is None else says in str(found)


def test_a_program_is_no_engine() -> None:
    from tests.backends.operator_cases import CASES, build

    with pytest.raises(InputError, match="runs engines; `vitgraph compile` builds one"):
        TensorRT().load(build(CASES["gelu"]))


def test_it_builds_and_another_measures_while_there_is_no_engine_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitgraph.backends.tensorrt.loading.unrunnable_why", nothing)
    assert [each.name for each in choose("tensorrt") if each is not None] == ["ort", "tensorrt"]


def test_its_short_name_is_known() -> None:
    assert find_backend("trt").name == "tensorrt"
    with pytest.raises(InputError, match="there is no backend 'trx'"):
        load_backend("trx")


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (0x02, ("8.0",)),
        (0x06, ("8.0", "8.6")),
        (0x7E, ("8.0", "8.6", "8.9", "12.0", "12.1", "later")),
        (0, ()),
    ],
)
def test_capabilities_are_bits(mask: int, found: tuple[str, ...]) -> None:
    made = b"vtrt".ljust(0x20, b"x") + mask.to_bytes(4, "little")
    assert capabilities(made) == found
    assert bool(judge_capability(engine(plan=made))) is ("8.0" not in found)


@pytest.mark.parametrize("other", [b"", b"vtrt", b"ftrt" + bytes(64)])
def test_of_other_plans_nothing_is_read(other: bytes) -> None:
    assert capabilities(other) is None
    assert judge_capability(engine(plan=other)) == ()

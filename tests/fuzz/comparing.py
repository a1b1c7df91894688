"""One module through the compiler, held to eager torch at every stage; the first thing that is not right is the verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.fuzz.apart import apart
from tests.fuzz.draft import OTHER_BATCHES, SAMPLE
from tests.fuzz.expected import ROUNDED_AT_ONE, Expected
from tests.fuzz.recipe import Input, Recipe
from tests.fuzz.stages import Found, stage
from tests.fuzz.verdict import Kind, Verdict
from vitgraph.backends import find_backend
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture
from vitgraph.ir.file_operators import find_operator
from vitgraph.ir.operator_schema import schema_of
from vitgraph.ir.parser import parse
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import load, save
from vitgraph.ir.verify import check
from vitgraph.pass_manager.numerics import flatten_outputs, objection, reorders_limit
from vitgraph.passes import pipeline

EXAMPLE = 7
"""The seed of the input that a module is captured with: another than the one compared on."""
PASSES = (
    "canonicalize",
    "fold-constants",
    "fold-batch-norm",
    "fuse-layer-norm",
    "fold-layer-scale",
    "fuse-attention",
    "softmax-check",
    "reassociate-linear-attention",
    "legalize",
)
"""The passes that leave a program's mathematics as it is, in the order of the recipes."""


def judge(recipe: Recipe, runtimes: Sequence[str] = ("ort",)) -> Verdict:
    """The verdict on a recipe's module."""
    return judge_module(recipe.build, recipe.input, runtimes)


def judge_module(make: Callable[[], nn.Module], given: Input, runtimes: Sequence[str] = ("ort",)) -> Verdict:
    """The verdict on a module that takes this input; it is lowered for these runtimes too."""
    try:
        expected = _expectations(make, given)
        program = _compiled(make, given, expected)
        for name in runtimes if all(each.is_finite and each.is_of_runtimes for each in expected) else ():
            if name == "ort":
                _hold_runtime(name, program, expected)
            else:
                apart(name, partial(_hold_runtime, name, program, expected))
    except Found as found:
        return found.verdict
    return Verdict(Kind.OK)


def _expectations(make: Callable[[], nn.Module], given: Input) -> list[Expected]:
    """On the sample; and on other batch sizes, where the batch is dynamic and the module well-posed with them."""
    batches = (None, *(OTHER_BATCHES if given.dynamic else ()))
    with stage("eager", otherwise=Kind.INVALID):
        found = [Expected.of(make, given.sample(SAMPLE, batch)) for batch in batches]
    if found[0] is None:
        raise Found(Kind.INVALID, "eager", "ill-posed")
    return [each for each in found if each is not None]


def _compiled(make: Callable[[], nn.Module], given: Input, expected: list[Expected]) -> Program:
    """The program at the end of all passes, held to eager on the way."""
    with stage("capture", InputError):
        program = capture(make(), given.sample(EXAMPLE), dynamic_batch=given.dynamic)
        check(program, "capture")
    _hold("captured", program, expected[:1])
    if _may_stand_in_a_file(program):
        _round_trips(program, expected[0])
    for name in PASSES:
        program = _pass(name, program, expected[0])
    _hold("all passes", program, expected)
    _round_trips(program, expected[0])
    return program


def _may_stand_in_a_file(program: Program) -> bool:
    """A captured program may hold operators that no file may call; it is refused there, by name."""
    try:
        for node in program.calls():
            if schema_of(node.target) is not None:
                find_operator(str(node.target))
    except ValueError:
        return False
    return True


def _pass(name: str, program: Program, expected: Expected) -> Program:
    """One pass: a valid graph, numbers as it declares, and eager's."""
    steps = pipeline(name)
    with stage(name):
        after = steps.run(program)
        check(after, f"pass {name!r}")
        if show(after) == show(program):
            return after
        found = after.run(expected.x)
    moved = objection(steps.passes[0].declares(), program.run(expected.x), found, reorders_limit(program, after))
    if moved:
        raise Found(Kind.WRONG, name, moved)
    _hold(name, after, [expected])
    return after


def _hold(name: str, program: Program, expected: list[Expected]) -> None:
    """The program gives what eager gives."""
    for each in expected:
        with stage(name):
            found = flatten_outputs(program.run(each.x.clone()))
        if why := each.difference(found):
            raise Found(Kind.WRONG, name, why)


def _round_trips(program: Program, expected: Expected) -> None:
    """Text and file read back to the same text, and to a program that gives the same bytes."""
    _same("text", program, lambda: parse(show(program), program.tensors()), expected)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.safetensors"
        _same("file", program, lambda: _saved(program, file), expected)


def _saved(program: Program, file: Path) -> Program:
    save(program, file)
    return load(file)


def _same(name: str, program: Program, again: Callable[[], Program], expected: Expected) -> None:
    """The same text, tensors of the same bytes, and eager's numbers; their last bits hang on where the tensors lie in memory."""
    with stage(name, otherwise=Kind.ROUND_TRIP):
        twin = again()
        ours, theirs = program.tensors(), twin.tensors()
        same = ours.keys() == theirs.keys() and all(_same_bytes(ours[each], theirs[each]) for each in ours)
        why = expected.difference(flatten_outputs(twin.run(expected.x)))
    if show(twin) != show(program):
        raise Found(Kind.ROUND_TRIP, name, f"is another {name}")
    if not same or why:
        raise Found(Kind.ROUND_TRIP, name, why or "holds other tensors")


def _same_bytes(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _hold_runtime(name: str, program: Program, expected: list[Expected]) -> None:
    """The lowered model gives in another runtime what eager gives, with all batch sizes."""
    lacks = (InputError,) if name == "openvino" else ()  # ONNX Runtime has computed the same file by then
    with stage(name, *lacks), find_backend(name).load(program, threads=1) as runner:
        for each in expected:
            found = _all_outputs(runner, each.x) if name == "ort" else [runner.run(each.x)]
            if why := each.first(len(found)).difference(found, ROUNDED_AT_ONE):
                raise Found(Kind.WRONG if name == "ort" else Kind.RUNTIME, name, why)


def _all_outputs(runner: Any, x: Tensor) -> list[Tensor]:
    """Every output of ONNX Runtime; a runner gives the first."""
    results = runner.session.run(None, {runner.session.get_inputs()[0].name: x.numpy()})
    return [torch.from_numpy(result) for result in results]  # pyright: ignore[reportUnknownMemberType]

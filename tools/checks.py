"""`--check` of `vitgraph bisect`: a metric with a bound, or a command that is handed the program."""

from __future__ import annotations

import math
import operator
import re
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from vitgraph.errors import InputError
from vitgraph.outputs.scratch import ScratchFolder

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.ir.program import Program
    from vitgraph.pass_manager.pipeline import Instrument

METRICS = ("verify", "numerics", "snr_db", "relative_l2", "cosine", "top1_agreement")
CHECK_HELP = (
    "What a good program passes: verify; numerics (each pass within its declared effect); snr_db>=20, relative_l2<=0.01, "
    "cosine>=0.99 or top1_agreement>=0.9 against the program before the passes; or a shell command with {} for the program's file."
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
_BOUND = re.compile(r"\s*([a-z0-9_]+)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True)
class Check:
    """A check, ready to judge programs; the instruments run after each pass and their objections count too."""

    judge: Callable[[Program], str | None]
    make_instruments: Callable[[], Sequence[Instrument]] = lambda: ()


def read_check(text: str, program: Program, probe: Sequence[Tensor]) -> Check:
    """Make the check that `text` says; `InputError` where it is neither a metric nor a command with `{}`."""
    from vitgraph.pass_manager.instruments import Compare, Verify

    if text in ("verify", "numerics"):
        return Check(lambda found: None, lambda: [Verify()] if text == "verify" else [Verify(), Compare()])
    bound = _BOUND.fullmatch(text)
    if bound is not None and bound[1] in METRICS[2:]:
        return Check(_metric(bound[1], bound[2], _number(bound[3], text), program, probe))
    if "{}" in text:
        return Check(lambda found: run_command(text, found))
    raise InputError(f"--check {text!r} is no metric and no command with {{}} in it{_hint(text)}; {CHECK_HELP}")


def _hint(text: str) -> str:
    word = (re.match(r"[\w]+", text) or [""])[0]
    if word in METRICS[2:]:
        return f" ({word} needs a bound, as in {word}>=0.9)"
    close = get_close_matches(word, METRICS, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _number(text: str, check: str) -> float:
    try:
        bound = float(text)
    except ValueError:
        bound = math.nan
    if not math.isfinite(bound):
        raise InputError(f"--check {check!r}: {text!r} is no bound; write a number, as in snr_db>=20")
    return bound


def _metric(
    name: str, compare: str, limit: float, program: Program, probe: Sequence[Tensor]
) -> Callable[[Program], str | None]:
    from vitgraph.ir.model_output import gives_features
    from vitgraph.pass_manager.numerics import flatten_outputs, measure, objection, snr_db
    from vitgraph.pass_manager.pass_contract import Effect

    if name == "top1_agreement" and gives_features(program):
        raise InputError(f"--check {name}: {program.name} gives features and no classes; take cosine>=0.99")
    reference = program.run(*probe)

    def judge(found: Program) -> str | None:
        try:
            outputs: Any = found.run(*probe)
        except Exception as error:  # noqa: BLE001  any operator may object in its own way
            return f"it can't be run: {str(error).splitlines()[0]}"
        if (shapes := objection(Effect.LOSSY, reference, outputs)) is not None:
            return shapes
        if name == "snr_db":
            pairs = zip(flatten_outputs(reference), flatten_outputs(outputs), strict=True)
            value = min(snr_db(a, b) for a, b in pairs)
        else:
            value = float(getattr(measure(reference, outputs), name))
        return None if _COMPARE[compare](value, limit) else f"{name} is {value:.4g}, not {compare} {limit:g}"

    return judge


def run_command(text: str, program: Program) -> str | None:
    """Save the program, run the command on it, and say what became of that; exit status 0 is good."""
    from vitgraph.ir.program_file import save

    with ScratchFolder() as folder:
        file = folder / "program.safetensors"
        save(program, file)
        line = text.replace("{}", shlex.quote(str(file)))
        done = subprocess.run(line, shell=True, check=False, capture_output=True, text=True)
    if done.returncode in (126, 127):
        raise InputError(f"--check {text!r} can't be run: {done.stderr.strip()}")
    if done.returncode < 0:
        raise InputError(f"--check {text!r} was killed by signal {-done.returncode}")
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    return None if done.returncode == 0 else f"the command exits {done.returncode}{': ' + last[0] if last else ''}"

"""What can be watched while a pipeline runs: validity, numbers, memory, the text of the graph, and the way it failed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from weakref import ref

from torch import Tensor

from vitgraph.errors import PassError
from vitgraph.ir.printer import show
from vitgraph.ir.program import Program
from vitgraph.ir.program_file import save
from vitgraph.ir.verify import check
from vitgraph.outputs.whole_file import write_whole
from vitgraph.pass_manager.not_finite import end_of_finite
from vitgraph.pass_manager.numerics import measure, objection, record, reorders_limit, site_snr
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass
from vitgraph.pass_manager.pipeline import show_pass
from vitgraph.runtime.memory import peak_rss_mb


class Quiet:
    """An instrument that does nothing; the others override what they need."""

    def before(self, step: Pass, program: Program, context: Context) -> None:
        """Do nothing."""

    def after(self, step: Pass, program: Program, context: Context, entry: dict[str, Any]) -> None:
        """Do nothing."""

    def failed(self, step: Pass, error: Exception) -> None:
        """Do nothing."""


class Verify(Quiet):
    """After each pass: is the graph valid, is the signature the same, did the pass write into a tensor it was given?"""

    def __init__(self) -> None:
        self._tensors = dict[str, tuple[ref[Tensor], int]]()
        self._signature = ""

    def before(self, step: Pass, program: Program, context: Context) -> None:
        """Remember the signature and the version of every tensor, without keeping those that the pass replaces in memory."""
        self._tensors = {name: (ref(tensor), tensor._version) for name, tensor in program.tensors().items()}
        self._signature = _signature(program)

    def after(self, step: Pass, program: Program, context: Context, entry: dict[str, Any]) -> None:
        """Raise `PassError` on any violation."""
        check(program, f"pass {step.name!r}")
        seen = ((name, alive(), version) for name, (alive, version) in self._tensors.items())
        written = [name for name, tensor, version in seen if tensor is not None and tensor._version != version]
        if written:
            raise PassError(f"pass {step.name!r} wrote into {', '.join(written[:5])}; a pass registers new tensors")
        if _signature(program) != self._signature:
            raise PassError(f"pass {step.name!r} changed the signature from {self._signature} to {_signature(program)}")


def _signature(program: Program) -> str:
    """Shapes and types of inputs and outputs."""
    outputs = program.output.args[0]
    listed = outputs if isinstance(outputs, list | tuple) else [outputs]
    types = [getattr(node, "meta", {}).get("type") for node in listed]
    return f"({', '.join(map(str, program.input_types()))}) -> ({', '.join(map(str, types))})"


_UNTOUCHED_DB = 20.0
"""What an output keeps at least that lost sites do not reach: a tenth of it is error."""


@dataclass
class Compare(Quiet):
    """After each pass: run the probe batch and hold the outputs to the declared effect; write the drift ledger.

    A lossy pass is judged site by site on clean inputs: every linear, convolution, attention and the output must keep
    the signal-to-noise ratio that the pass declares (`floor_db`). A site that does not is told, and is a fault
    unless the output keeps 20 dB with its error: a signal that reaches nothing may be lost.
    """

    _first: Any = None
    _outputs: Any = None
    _sites: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _seen: Program | None = None
    _limit: float = 0.0

    def before(self, step: Pass, program: Program, context: Context) -> None:
        """Run the reference, unless the last pass's run is still it."""
        if not context.probe:
            raise PassError("comparing numbers needs a probe batch; give the context one")
        if self._seen is not program:
            self._outputs, self._sites = record(program, list(context.probe))
            self._seen, self._first = program, self._outputs
        self._limit = reorders_limit(program)

    def after(self, step: Pass, program: Program, context: Context, entry: dict[str, Any]) -> None:
        """Raise `PassError` where the numbers moved further than declared, naming the site."""
        if not entry["changed"]:
            return
        outputs, sites = record(program, list(context.probe))
        drift: dict[str, Any] = measure(self._outputs, outputs).to_json()
        drift["since_start"] = measure(self._first, outputs).to_json()
        effect = step.declares()
        violation = objection(effect, self._outputs, outputs, max(self._limit, reorders_limit(program)))
        if violation is None and effect is Effect.LOSSY:
            ratios = site_snr(program, list(context.probe), self._outputs, self._sites)
            worst = min(ratios, key=lambda site: ratios[site])
            drift["worst_site"] = {"site": worst, "snr_db": round(ratios[worst], 2) if ratios[worst] < 1e9 else None}
            below = [site for site, ratio in ratios.items() if ratio < step.floor_db]
            if below:
                kept = site_snr(program, list(context.probe), self._outputs, self._sites, below)["output"]
                drift["below_floor"] = {"sites": below, "output_snr_db": round(kept, 2) if kept < 1e9 else None}
                if kept < max(step.floor_db, _UNTOUCHED_DB):
                    violation = (
                        f"declared lossy with a floor of {step.floor_db:g} dB, but {worst} keeps {ratios[worst]:.1f} dB"
                        + (f" and {len(below) - 1} more site(s) are below it" if len(below) > 1 else "")
                        + f", which leaves {kept:.1f} dB of the output"
                        + (f"; {step.under_floor}" if step.under_floor else "")
                    )
        entry["drift"] = drift
        if violation is not None:
            raise PassError(f"pass {step.name!r}: {violation}{end_of_finite(program, context.probe)}")
        self._outputs, self._sites = outputs, sites


class Memory(Quiet):
    """The peak resident memory of the process after each pass, in MB (ledger key `peak_rss_mb`)."""

    def after(self, step: Pass, program: Program, context: Context, entry: dict[str, Any]) -> None:
        """Write it down."""
        entry["peak_rss_mb"] = peak_rss_mb()


When = Literal["before", "after", "change"]


@dataclass
class Dump(Quiet):
    """Print the graph before, after, or after those passes that changed it; to a function or into a folder's files."""

    when: When
    only: frozenset[str] = frozenset()
    """Names of passes; empty for all."""
    write: Callable[[str], None] = lambda text: print(text, file=sys.stderr)
    folder: Path | None = None
    _count: int = 0

    def before(self, step: Pass, program: Program, context: Context) -> None:
        """Print if asked to."""
        self._count += 1
        if self.when == "before" and (not self.only or step.name in self.only):
            self._put("before", step, program)

    def after(self, step: Pass, program: Program, context: Context, entry: dict[str, Any]) -> None:
        """Print if asked to."""
        wanted = self.when == "after" or (self.when == "change" and entry["changed"])
        if wanted and (not self.only or step.name in self.only):
            self._put("after", step, program)

    def _put(self, moment: str, step: Pass, program: Program) -> None:
        if self.folder is None:
            self.write(f"# ---- {moment} {show_pass(step)}\n{show(program)}")
            return
        write_whole(self.folder / f"{self._count:02}-{moment}-{step.name}.txt", show(program).encode())


@dataclass
class Reproducer(Quiet):
    """When a pass fails: one file with the program it was given and the pass, so that `vitgraph opt FILE` fails again."""

    path: Path
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the pass worked with besides the program (target, calibration data): plain JSON."""
    _given: Program | None = None

    def before(self, step: Pass, program: Program, context: Context) -> None:
        """Keep the program as it is handed over."""
        self._given = program.copy()

    def failed(self, step: Pass, error: Exception) -> None:
        """Write the file."""
        if self._given is None:
            return
        given = self._given
        given.provenance["reproduce"] = {
            "pipeline": show_pass(step),
            "settings": self.settings,
            "error": f"{type(error).__name__}: {error}"[:2000],
        }
        save(given, self.path)

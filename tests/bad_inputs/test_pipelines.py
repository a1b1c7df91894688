"""Pipelines that can't be read, and passes with options out of their domain."""

from tests.bad_inputs.mistake import Mistake, each, hold
from tests.planted import MLP
from tests.tools.conftest import Cli

FILES = {"mlp.txt": MLP}


def _opt(name: str, pipeline: str, *says: str) -> Mistake:
    return Mistake(name, ("opt", "mlp.txt", "--pipeline", pipeline), says, FILES)


MISTAKES = [
    _opt("unknown pass", "no-such-pass", "no-such-pass"),
    _opt("unclosed brace", "canonicalize,nm-mask{n=2", "can't be read"),
    _opt("n over m", "canonicalize,nm-mask{n=5}", "n=5 m=4", "pass 'nm-mask' (2 of 2)"),
]


@each(MISTAKES)
def test_is_answered(mistake: Mistake, cli: Cli) -> None:
    hold(mistake, cli)

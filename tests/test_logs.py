"""`VITGRAPH_LOG` and the logger `vitgraph`."""

import logging
import os
import subprocess
import sys

import pytest

from vitgraph.errors import InputError
from vitgraph.logs import level_asked, set_level


def test_the_last_level_holds_and_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    for level in ("debug", "warning"):
        set_level(level)
    log = logging.getLogger("vitgraph.some.room")
    log.info("not told")
    log.warning("told once")
    assert capsys.readouterr().err == "vitgraph: WARNING: told once\n"


@pytest.mark.parametrize(("given", "level"), [("", None), (" INFO ", "info"), ("debug", "debug")])
def test_levels(given: str, level: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITGRAPH_LOG", given)
    assert level_asked() == level


def test_what_is_no_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITGRAPH_LOG", "5")
    with pytest.raises(InputError, match="VITGRAPH_LOG=5: it is one of debug"):
        level_asked()


@pytest.mark.parametrize(
    ("given", "told"), [("info", "vitgraph: INFO: heard"), ("loud", "VITGRAPH_LOG=loud"), ("", "")]
)
def test_a_script_hears_what_the_variable_asks_for(given: str, told: str) -> None:
    code = "import vitgraph, logging; logging.getLogger('vitgraph.x').info('heard')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "VITGRAPH_LOG": given},
    )
    assert told in done.stderr
    assert bool(told) == bool(done.stderr)

"""`vitgraph bisect` on the command line."""

from pathlib import Path

import pytest

from tests.planted import installed
from tests.tools.conftest import Cli


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        ("planted-invalid", "verify"),
        ("planted-invalid", "! grep -q clone {}"),
        ("planted-off", "numerics"),
        ("planted-off", "relative_l2<=0.005"),
        ("planted-loud", "numerics"),
        ("planted-loud", "snr_db>=20"),
    ],
)
def test_finds_a_planted_fault(planted: str, check: str, cli: Cli, mlp: Path) -> None:
    with installed():
        steps = f"canonicalize,planted-loud{{at=nowhere}},{planted},nm-mask{{only=[head]}}"
        if check.startswith(("relative", "snr")):
            steps = (
                f"canonicalize,planted-loud{{at=nowhere}},{planted}"  # a mask alone is further off than these bounds
            )
        found = cli("bisect", mlp, "--pipeline", steps, "--check", check, "--json").json
    assert found["pass"] == planted
    assert found["position"] == 3
    assert found["site"] == "fc2"


def test_text_answer_names_pass_and_site(cli: Cli, mlp: Path) -> None:
    with installed():
        ran = cli("bisect", mlp, "--pipeline", "planted-off{at=head}", "--check", "numerics")
    assert ran.status == 0
    assert "planted-off{at=head} (1 of 1)" in ran.out
    assert "site" in ran.out


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("false {}", "before any pass has run"),
        ("test -s {}", "nothing to find"),
        ("verify", "nothing to find"),
        ("no-such-program-anywhere {}", "can't be run"),
        ("snr_db>=loud", "is no bound"),
        ("snr_db", "needs a bound"),
        ("verifi", "did you mean verify"),
        ("true", "no metric"),
    ],
)
def test_says_when_there_is_nothing_to_search(check: str, message: str, cli: Cli, mlp: Path) -> None:
    ran = cli("bisect", mlp, "--pipeline", "canonicalize", "--check", check)
    assert ran.status == 2
    assert message in ran.err

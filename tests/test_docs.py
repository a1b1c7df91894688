"""Every example of README.md and docs/*.md is run.

A ```python block runs in one namespace per page; a ```console block runs its `$ vitgraph …` lines, in the same empty
folder, in the order of the page. After the language a block may say `exit=1` (the status its last command must end
with) or `skip=why` (one word or more to the end of the line: not run, and why not).
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
QUICK = {"writing-a-pass.md"}
"""Pages whose examples run with the quick tests too."""
BLOCK = re.compile(r"^```(python|console)[ \t]*([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """One fenced block of a page; `line` is where its text starts."""

    language: str
    line: int
    text: str
    exit_status: int = 0
    skip: str | None = None

    def commands(self) -> list[str]:
        """What follows `$ `, with lines that end in a backslash joined."""
        joined = self.text.replace("\\\n", " ")
        return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def examples_of(text: str) -> list[Example]:
    """The python and console blocks of a page, in order."""
    found: list[Example] = []
    for match in BLOCK.finditer(text):
        language, remark, body = match.groups()
        status = re.match(r"exit=(\d+)$", remark)
        skip = re.match(r"skip=(.+)$", remark)
        assert not remark or status or skip, f"cannot read the remark {remark!r} after ```{language}"
        line = text.count("\n", 0, match.start(3)) + 1
        found.append(Example(language, line, body, int(status[1]) if status else 0, skip[1] if skip else None))
    return found


def run_page(text: str, name: str, folder: Path) -> int:
    """Run the examples of a page in `folder` and return how many ran; the first that fails raises."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    ran = 0
    for example in examples_of(text):
        if example.skip is not None:
            continue
        if example.language == "python":
            exec(compile("\n" * (example.line - 1) + example.text, name, "exec"), namespace)  # noqa: S102 - our own pages
            ran += 1
            continue
        for command in example.commands():
            ran += run_command(command, f"{name}:{example.line}", folder, example.exit_status)
    return ran


def run_command(command: str, place: str, folder: Path, exit_status: int) -> int:
    """Run a `vitgraph` command line without a shell; other programs are left alone. Returns how many ran."""
    program, *arguments = shlex.split(command)
    if program != "vitgraph":
        return 0
    done = subprocess.run(
        [sys.executable, "-m", "vitgraph.tools.cli", *arguments],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
    )
    output = done.stdout + done.stderr
    assert done.returncode == exit_status, f"{place}: {command}: exit status {done.returncode}\n{output}"
    return 1


def marked(page: Path) -> ParameterSet:
    marks = () if page.name in QUICK else pytest.mark.slow
    return pytest.param(page, marks=marks, id=page.relative_to(ROOT).as_posix())


@pytest.mark.parametrize("page", [marked(page) for page in PAGES])
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page.read_text(encoding="utf-8"), str(page), tmp_path)


def test_pages_have_examples() -> None:
    assert {page.name for page in PAGES} >= QUICK
    examples = [example for page in PAGES for example in examples_of(page.read_text(encoding="utf-8"))]
    assert [example for example in examples if example.skip is None], "found no example that would be run"


PAGE = """
```python
x = 1
```
text
```console exit=1
$ vitgraph compile a \\
    -o b
printed
$ make demo
```
```python skip=needs a GPU
1 / 0
```
```sh
exit 1
```
"""


def test_reads_blocks() -> None:
    python, console, skipped = examples_of(PAGE)
    assert (python.language, python.line, python.text) == ("python", 3, "x = 1\n")
    assert (console.commands(), console.exit_status) == (["vitgraph compile a      -o b", "make demo"], 1)
    assert skipped.skip == "needs a GPU"


def test_counts_and_shares_the_namespace(tmp_path: Path) -> None:
    assert run_page("```python\nx = 1\n```\n\n```python\nassert x == 1\n```\n", "page", tmp_path) == 2


def test_wrong_example_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run_page("```python\n1 / 0\n```\n", "page", tmp_path)
    with pytest.raises(AssertionError, match="page:2: vitgraph no-such-command: exit status"):
        run_page("```console\n$ vitgraph no-such-command\n```\n", "page", tmp_path)
    with pytest.raises(AssertionError, match="cannot read the remark"):
        run_page("```python exit=one\n```\n", "page", tmp_path)

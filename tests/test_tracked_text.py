"""No tracked file names a place on somebody's machine, a host that a reader could not reach, or a thing by a banned word."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MACHINE_PATH = re.compile(r"(?<![\w.*)}\]/~-])/(?:work|tmp|home|root|opt|mnt|farm|Users)/\w")
URL_HOST = re.compile(r"https?://(?:[^/\s@]+@)?([A-Za-z0-9.-]+)")
PUBLIC_HOSTS = {
    "invalid",  # reserved by RFC 2606: nobody has it
    "apache.org",
    "arxiv.org",
    "choosealicense.com",
    "docs.python.org",
    "download.pytorch.org",
    "github.com",
    "huggingface.co",
    "keepachangelog.com",
    "nvidia.com",
    "onnx.ai",
    "onnxruntime.ai",
    "pypi.org",
    "python.org",
    "pytorch.org",
    "scikit-learn.org",
    "semver.org",
    "spdx.org",
    "w3.org",
}

BANNED = {
    r"behind": "producer or consumer, upstream or downstream",
    r"complaints?": "violation",
    r"giv(?:e|es|en|ing)(?: \w+){0,2} back": "return, release or restore",
    r"even(?:s|ed|ing)(?: \w+)? out": "equalize",
    r"t(?:ak(?:e|es|en|ing)|ook)(?: \w+){0,3} back": "fall back to FP16, drop or restore",
}
"""Words, as regular expressions, and what to say in their place; in no tracked file."""
BANNED_IN_PROSE = {
    r"masks? that pays?|paying": "profitable masks",
    r"rooms?": "package",
    r"portions?": "chunks",
}
"""The same for what users read: `PROSE`."""
PROSE = re.compile(r"docs/|[A-Z]+\.md$|benchmarks/README\.md$|vitgraph/compile/(?:recipes|templates)/")


def is_public(host: str) -> bool:
    parts = host.lower().split(".")
    return any(".".join(parts[i:]) in PUBLIC_HOSTS for i in range(len(parts)))


def violations(text: str, name: str) -> list[str]:
    """`file:line: what` for every machine path and every host that is not on the list."""
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        found += [f"{name}:{number}: machine path {match[0]}…" for match in MACHINE_PATH.finditer(line)]
        hosts = [match[1] for match in URL_HOST.finditer(line)]
        found += [f"{name}:{number}: unlisted host {host}" for host in hosts if not is_public(host)]
    return found


def banned_words(text: str, name: str) -> list[str]:
    """`file:line: what` for every banned word outside of code spans, where old names may be told."""
    words = {**BANNED, **BANNED_IN_PROSE} if PROSE.match(name) else BANNED
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        prose = re.sub(r"`[^`]*`", "", line)
        for word, instead in words.items():
            matches = re.finditer(rf"(?<![\w-])(?:{word})(?![\w-])", prose, re.IGNORECASE)
            found += [f"{name}:{number}: {match[0]!r}: say {instead}" for match in matches]
    return found


def tracked_texts() -> dict[str, str]:
    """Name and text of every tracked file that is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    texts: dict[str, str] = {}
    for name in filter(None, listed.stdout.split("\0")):
        file = ROOT / name
        if file.is_symlink() or not file.is_file() or b"\0" in (content := file.read_bytes()):
            continue
        texts[name] = content.decode("utf-8")
    return texts


def test_tracked_files_name_no_machine() -> None:
    texts = tracked_texts()
    assert "pyproject.toml" in texts
    texts.pop(Path(__file__).relative_to(ROOT).as_posix(), None)  # its negative controls are such names
    assert [line for name, text in texts.items() for line in violations(text, name)] == []


def test_tracked_files_use_the_words_of_the_field() -> None:
    texts = tracked_texts()
    texts.pop(Path(__file__).relative_to(ROOT).as_posix(), None)
    assert [name for name in texts if PROSE.match(name)][:2] == ["CHANGELOG.md", "CONTRIBUTING.md"]
    assert [line for name, text in texts.items() for line in banned_words(text, name)] == []


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("the linear behind it", "passes/x.py", True),
        ("# one complaint", "tests/x.py", True),
        ("INT8 is taken back there", "docs/x.md", True),
        ("it takes the site back", "README.md", True),
        ("description: ranges are evened out", "vitgraph/compile/recipes/x.yaml", True),
        ("<h2>Masks that pay</h2>", "vitgraph/compile/templates/x.j2", True),
        ("was `--keep-only-paying`", "docs/x.md", False),
        ("INT8 is taken back there", "passes/x.py", True),
        ("mushrooms, evenly; a back-end that takes it", "docs/x.md", False),
    ],
)
def test_tells_banned_words(text: str, name: str, found: bool) -> None:
    assert bool(banned_words(text, name)) is found


@pytest.mark.parametrize(
    "text",
    [
        "see /work/shared/x",
        'open("/tmp/model.onnx")',
        "cache=/home/me/models",
        "$ cd /root/project",
        "https://pypi.internal.example/simple",
        "http://localhost:8080/x",
        "http://10.0.0.1/simple",
    ],
)
def test_objects_to(text: str) -> None:
    assert violations(text, "planted")


@pytest.mark.parametrize(
    "text",
    [
        "../shared/data",
        "tests/tmp/x",
        "tmp_path / 'x'",
        "https://www.apache.org/licenses/",
        "a / b, 3/4",
        "docs/home/x",
    ],
)
def test_allows(text: str) -> None:
    assert violations(text, "planted") == []

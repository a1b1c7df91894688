"""No tracked file names a place on somebody's machine, or a host that a reader could not reach."""

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

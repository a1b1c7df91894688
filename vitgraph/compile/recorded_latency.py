"""Latency in the report of a compilation that is finished: what `vitgraph bench --record` measured on a GPU, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitgraph.compile.report import read_report, write_html
from vitgraph.errors import InputError
from vitgraph.outputs.destination import check_folder
from vitgraph.outputs.revised_folder import revised_folder
from vitgraph.outputs.whole_file import write_whole


def check_recordable(folders: Iterable[Path]) -> None:
    """`InputError` for anything but folders of compilations that are as vitgraph left them."""
    for folder in folders:
        if not folder.is_dir():
            raise InputError(
                f"--record: {folder} is no folder that `vitgraph compile` wrote; leave it out, or --record"
            )
        read_report(folder)
        check_folder(folder, force=True)


def record_latency(folder: Path, latency: dict[str, Any]) -> None:
    """Put it into `report.json` and `report.html` in place of what was there; both and the manifest change at once or not at all."""
    report = read_report(folder)
    report.latency, report.latency_why = latency, None
    with revised_folder(folder) as revised:
        write_whole(revised / "report.json", report.to_json().encode())
        (revised / "report.html").unlink(missing_ok=True)
        write_html(report, revised / "report.html")

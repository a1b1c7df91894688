"""What every adapter shares: it is handed a job, quantizes, and says how long that took and how much memory.

    python ADAPTER JOB.json     # in the environment of the peer; the answer is the last line on standard output

A job names `fp32`, the ONNX file to quantize; `calibration`, a `.npy` of pre-processed images `[images, C, H, W]`; `input`, the
file's input; `setting`, which of the adapter's settings; and `out`, the ONNX file to write.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

Job = dict[str, str]


def run(quantize: Callable[[Job], dict[str, Any]], packages: Sequence[str]) -> None:
    """Quantize under the clock and answer; what `quantize` returns are its settings. Importing the peer is not timed."""
    job: Job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    start, busy = time.perf_counter(), time.process_time()
    settings = quantize(job)
    answer = {
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - busy, 2),
        "peak_rss_mb": peak_rss_mb(),
        "settings": settings,
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(answer))


def peak_rss_mb() -> int | None:
    """Peak resident memory of this process in MB; getrusage would count the process that started it as well."""
    if platform.system() != "Linux":
        return None
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM"))

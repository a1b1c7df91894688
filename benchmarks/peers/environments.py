"""Make the environments that `benchmarks/quantization.py` runs its peers in: `.peers/NAME`, one virtual environment each.

    python benchmarks/peers/environments.py             # all: about 9 GB, most of it torch and CUDA for Model Optimizer
    python benchmarks/peers/environments.py ort nncf    # these; another run makes them again

The peers are no dependencies of vitgraph: their requirements exclude each other's and ours.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".peers"
REQUIREMENTS = {
    "nncf": ("nncf==3.4.0", "openvino==2026.4.1", "onnx==1.23.2", "onnxruntime==1.31.1"),
    "ort": ("onnxruntime==1.31.1", "onnx==1.23.2", "sympy"),
    "modelopt": ("nvidia-modelopt[onnx]==0.47.0", "timm==1.0.31", "requests"),
}


def python_of(name: str) -> Path:
    """The interpreter of a peer's environment, whether it was made or not."""
    return FOLDER / name / "bin" / "python"


def make(name: str) -> None:
    """Make the environment anew and install the peer; with uv where it is at hand, which is several times faster."""
    venv.create(FOLDER / name, clear=True, with_pip=True)
    python = str(python_of(name))
    tool = [sys.executable, "-m", "uv", "pip", "install", "--python", python] if find_spec("uv") else None
    subprocess.run([*(tool or [python, "-m", "pip", "install"]), *REQUIREMENTS[name]], check=True)


def main() -> None:
    """Those named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *REQUIREMENTS], metavar="nncf|ort|modelopt")
    for name in parser.parse_args().names or REQUIREMENTS:
        make(name)


if __name__ == "__main__":
    main()

"""What a backend is given to run: a compilation's folder, an ONNX file, or a saved program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vitgraph.errors import InputError

if TYPE_CHECKING:
    from vitgraph.ir.program import Program
    from vitgraph.runtime.backend import Backend, Runner

BACKEND_HELP = "`vitgraph doctor` lists them, those of other packages too."


def load_runner(path: Path, backend: Backend, threads: int = 0) -> Runner:
    """The model at `path`, ready to run; `InputError` where there is none or this backend can't run it."""
    why = backend.refusal(None)
    if why is not None:
        raise InputError(f"--backend {backend.name}: {why}")
    return backend.load(_pick(path, backend), threads=threads)


def _pick(path: Path, backend: Backend) -> Path | Program:
    """Of a folder what the backend runs of one, where it is there, and else what is."""
    from vitgraph.frontend.from_onnx.open_onnx import open_onnx
    from vitgraph.frontend.saved_programs import program_file, read_program

    if backend.source == "cuda" and any((each / "plan.json").is_file() for each in (path, path / "cuda")):
        return path
    if backend.source == "engine.plan":
        return _engine(path)
    if path.suffix == ".onnx" and path.is_file() and backend.source == "program":
        return open_onnx(path)
    file = path / "model.onnx" if path.is_dir() else path
    saved = program_file(path) if path.is_dir() else None
    if file.suffix == ".onnx" and file.is_file() and (saved is None or backend.source == "model.onnx"):
        return file
    if saved is None and (path.is_dir() or not path.is_file()):
        raise InputError(
            f"{path}: is no ONNX file such as model.onnx, no saved program, and no folder with either; `vitgraph compile` writes one"
        )
    return read_program(path)


def _engine(path: Path) -> Path:
    """A folder with an engine in it, or an engine's own file."""
    if (path / "engine.plan").is_file() or (path.is_file() and path.suffix in (".plan", ".engine")):
        return path
    raise InputError(
        f"{path}: is no engine such as engine.plan, and no folder with one; `vitgraph compile` leaves one where TensorRT builds"
    )

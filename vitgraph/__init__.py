"""vitgraph: Vision Transformers to TensorRT engines with sparse INT8 tactics, every step proven.

    from vitgraph import capture_model, load_model, read_pipeline

    program = capture_model(load_model("vit_tiny_patch16_224", weights="random"))
    fused = read_pipeline("canonicalize,fuse-attention").run(program)
    print(fused)

Names are loaded on first use, so that importing vitgraph does not import torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vitgraph.logs import follow_environment

if TYPE_CHECKING:
    from vitgraph.analysis.sites import find_sites as find_sites
    from vitgraph.compile.compiler import compile_model as compile_model
    from vitgraph.compile.report import Report as Report
    from vitgraph.compile.report import read_report as read_report
    from vitgraph.errors import CheckFailed as CheckFailed
    from vitgraph.errors import InputError as InputError
    from vitgraph.errors import PassError as PassError
    from vitgraph.errors import VitgraphError as VitgraphError
    from vitgraph.frontend.capture import capture as _capture
    from vitgraph.frontend.capture import capture_model as capture_model
    from vitgraph.frontend.models import load_model as load_model
    from vitgraph.images.image_set import open_images as open_images
    from vitgraph.ir.parser import parse as parse
    from vitgraph.ir.printer import show as show
    from vitgraph.ir.program import Program as Program
    from vitgraph.ir.program_file import load as load
    from vitgraph.ir.program_file import save as save
    from vitgraph.ir.verify import verify as _verify
    from vitgraph.pass_manager.instruments import Compare as Compare
    from vitgraph.pass_manager.instruments import Dump as Dump
    from vitgraph.pass_manager.instruments import Reproducer as Reproducer
    from vitgraph.pass_manager.instruments import Verify as Verify
    from vitgraph.pass_manager.pass_contract import Context as Context
    from vitgraph.pass_manager.pass_contract import Effect as Effect
    from vitgraph.pass_manager.pass_contract import Pass as Pass
    from vitgraph.pass_manager.pipeline import Pipeline as Pipeline
    from vitgraph.passes import pipeline as _pipeline
    from vitgraph.search.runner import SearchResult as SearchResult
    from vitgraph.search.runner import search_model as search_model
    from vitgraph.targets.target import Target as Target
    from vitgraph.targets.target import get_target as get_target

    capture_module, read_pipeline, verify_program = _capture, _pipeline, _verify  # `as` another name would be private

_HOME = {
    "capture_module": "frontend.capture:capture",
    "capture_model": "frontend.capture",
    "compile_model": "compile.compiler",
    "Context": "pass_manager.pass_contract",
    "Effect": "pass_manager.pass_contract",
    "Pass": "pass_manager.pass_contract",
    "PassError": "errors",
    "CheckFailed": "errors",
    "InputError": "errors",
    "VitgraphError": "errors",
    "open_images": "images.image_set",
    "Compare": "pass_manager.instruments",
    "Dump": "pass_manager.instruments",
    "Reproducer": "pass_manager.instruments",
    "Verify": "pass_manager.instruments",
    "load_model": "frontend.models",
    "read_pipeline": "passes:pipeline",
    "Pipeline": "pass_manager.pipeline",
    "Program": "ir.program",
    "load": "ir.program_file",
    "save": "ir.program_file",
    "Report": "compile.report",
    "read_report": "compile.report",
    "find_sites": "analysis.sites",
    "SearchResult": "search.runner",
    "search_model": "search.runner",
    "Target": "targets.target",
    "get_target": "targets.target",
    "parse": "ir.parser",
    "show": "ir.printer",
    "verify_program": "ir.verify:verify",
}
"""Each public name and where it lives: a module, and the name there where it is another (no name may be a module's)."""

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


follow_environment()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("vitgraph")
    if name not in _HOME:
        raise AttributeError(f"module 'vitgraph' has no attribute {name!r}")
    module, _, there = _HOME[name].partition(":")
    return getattr(import_module(f"vitgraph.{module}"), there or name)


def __dir__() -> list[str]:
    return __all__

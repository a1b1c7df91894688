"""vitgraph: Vision Transformers to TensorRT engines with sparse INT8 tactics, every step proven.

    from vitgraph import capture_model, load_model, read_pipeline

    program = capture_model(load_model("vit_tiny_patch16_224", weights="random"))
    fused = read_pipeline("canonicalize,fuse-attention").run(program)
    print(fused)

Names are loaded on first use, so that importing vitgraph does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitgraph.capture import capture as _capture
    from vitgraph.capture import capture_model as capture_model
    from vitgraph.compiler import compile_model as compile_model
    from vitgraph.contract import Context as Context
    from vitgraph.contract import Effect as Effect
    from vitgraph.contract import Pass as Pass
    from vitgraph.contract import PassError as PassError
    from vitgraph.errors import CheckFailed as CheckFailed
    from vitgraph.errors import InputError as InputError
    from vitgraph.errors import VitgraphError as VitgraphError
    from vitgraph.images.image_set import open_images as open_images
    from vitgraph.instruments import Compare as Compare
    from vitgraph.instruments import Dump as Dump
    from vitgraph.instruments import Reproducer as Reproducer
    from vitgraph.instruments import Verify as Verify
    from vitgraph.models import load_model as load_model
    from vitgraph.passes import pipeline as _pipeline
    from vitgraph.pipeline import Pipeline as Pipeline
    from vitgraph.program import Program as Program
    from vitgraph.program_file import load as load
    from vitgraph.program_file import save as save
    from vitgraph.report import Report as Report
    from vitgraph.report import read_report as read_report
    from vitgraph.sites import find_sites as find_sites
    from vitgraph.target import Target as Target
    from vitgraph.target import get_target as get_target
    from vitgraph.text import parse as parse
    from vitgraph.text import show as show
    from vitgraph.verify import verify as _verify

    capture_module, read_pipeline, verify_program = _capture, _pipeline, _verify  # `as` another name would be private

_HOME = {
    "capture_module": "capture:capture",
    "capture_model": "capture",
    "compile_model": "compiler",
    "Context": "contract",
    "Effect": "contract",
    "Pass": "contract",
    "PassError": "contract",
    "CheckFailed": "errors",
    "InputError": "errors",
    "VitgraphError": "errors",
    "open_images": "images.image_set",
    "Compare": "instruments",
    "Dump": "instruments",
    "Reproducer": "instruments",
    "Verify": "instruments",
    "load_model": "models",
    "read_pipeline": "passes:pipeline",
    "Pipeline": "pipeline",
    "Program": "program",
    "load": "program_file",
    "save": "program_file",
    "Report": "report",
    "read_report": "report",
    "find_sites": "sites",
    "Target": "target",
    "get_target": "target",
    "parse": "text",
    "show": "text",
    "verify_program": "verify:verify",
}
"""Each public name and where it lives: a module, and the name there where it is another (no name may be a module's)."""

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vitgraph' has no attribute {name!r}")
    module, _, there = _HOME[name].partition(":")
    return getattr(import_module(f"vitgraph.{module}"), there or name)


def __dir__() -> list[str]:
    return __all__

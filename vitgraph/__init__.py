"""vitgraph: Vision Transformers to TensorRT engines with sparse INT8 tactics, every step proven.

    import vitgraph

    q = vitgraph.quantize(model, loader)                        # an nn.Module and a DataLoader
    loss = criterion(q(images), labels)                         # it runs and trains as a module does
    vitgraph.compile_model(q, target="a100", out="out/model")   # engine, ONNX and report

Names are loaded on first use, so that importing vitgraph does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vitgraph.logs import follow_environment
from vitgraph.threads import wait_briefly

if TYPE_CHECKING:
    from vitgraph.analysis.attention import AttentionSite as AttentionSite
    from vitgraph.analysis.sites import LinearSite as LinearSite
    from vitgraph.analysis.sites import NormSite as NormSite
    from vitgraph.analysis.sites import ResidualSite as ResidualSite
    from vitgraph.analysis.sites import Sites as Sites
    from vitgraph.analysis.sites import find_sites as find_sites
    from vitgraph.api import quantize as quantize
    from vitgraph.api import sparsify as sparsify
    from vitgraph.compile.compiler import compile_model as compile_model
    from vitgraph.compile.recipe import Recipe as Recipe
    from vitgraph.compile.report import AccuracyPart as AccuracyPart
    from vitgraph.compile.report import EmbeddingPart as EmbeddingPart
    from vitgraph.compile.report import ModelPart as ModelPart
    from vitgraph.compile.report import Report as Report
    from vitgraph.compile.report import read_report as read_report
    from vitgraph.errors import CheckFailed as CheckFailed
    from vitgraph.errors import InputError as InputError
    from vitgraph.errors import MachineError as MachineError
    from vitgraph.errors import OutputError as OutputError
    from vitgraph.errors import PassError as PassError
    from vitgraph.errors import VitgraphError as VitgraphError
    from vitgraph.finetuning.recipe import Stage as Stage
    from vitgraph.finetuning.recipe import TrainingRecipe as TrainingRecipe
    from vitgraph.finetuning.request import DataSource as DataSource
    from vitgraph.finetuning.runner import TrainingResult as TrainingResult
    from vitgraph.finetuning.runner import train as train
    from vitgraph.frontend.capture import capture as _capture
    from vitgraph.frontend.capture import capture_model as capture_model
    from vitgraph.frontend.models import LoadedModel as LoadedModel
    from vitgraph.frontend.models import ModelFacts as ModelFacts
    from vitgraph.frontend.models import load_model as load_model
    from vitgraph.images.calibration_data import Images as Images
    from vitgraph.images.data_sources import Items as Items
    from vitgraph.images.image_set import ImageSet as ImageSet
    from vitgraph.images.image_set import open_images as open_images
    from vitgraph.images.preprocess import Preprocessing as Preprocessing
    from vitgraph.images.preprocess import PreprocessingOptions as PreprocessingOptions
    from vitgraph.ir.batch import Batch as Batch
    from vitgraph.ir.packing import Packing as Packing
    from vitgraph.ir.parser import parse as parse
    from vitgraph.ir.printer import Printable as Printable
    from vitgraph.ir.printer import show as show
    from vitgraph.ir.program import Program as Program
    from vitgraph.ir.program_file import load as load
    from vitgraph.ir.program_file import save as save
    from vitgraph.ir.tensor_type import Dim as Dim
    from vitgraph.ir.tensor_type import TensorType as TensorType
    from vitgraph.ir.verify import verify as _verify
    from vitgraph.pass_manager.findings import Finding as Finding
    from vitgraph.pass_manager.findings import findings_of as findings_of
    from vitgraph.pass_manager.instruments import Compare as Compare
    from vitgraph.pass_manager.instruments import Dump as Dump
    from vitgraph.pass_manager.instruments import Reproducer as Reproducer
    from vitgraph.pass_manager.instruments import Verify as Verify
    from vitgraph.pass_manager.pass_contract import Context as Context
    from vitgraph.pass_manager.pass_contract import Effect as Effect
    from vitgraph.pass_manager.pass_contract import Pass as Pass
    from vitgraph.pass_manager.pass_contract import Refusal as Refusal
    from vitgraph.pass_manager.pipeline import Instrument as Instrument
    from vitgraph.pass_manager.pipeline import Pipeline as Pipeline
    from vitgraph.passes import pipeline as _pipeline
    from vitgraph.searching.elsa import Elsa as Elsa
    from vitgraph.searching.evolution import Evolution as Evolution
    from vitgraph.searching.runner import SearchResult as SearchResult
    from vitgraph.searching.runner import search as search
    from vitgraph.targets.capability import AttentionKernel as AttentionKernel
    from vitgraph.targets.capability import BuilderSupport as BuilderSupport
    from vitgraph.targets.capability import MatmulRule as MatmulRule
    from vitgraph.targets.capability import ProductRule as ProductRule
    from vitgraph.targets.capability import SparseRule as SparseRule
    from vitgraph.targets.target import Chip as Chip
    from vitgraph.targets.target import Rate as Rate
    from vitgraph.targets.target import Target as Target
    from vitgraph.targets.target import get_target as get_target
    from vitgraph.training.distill import Schedule as Schedule
    from vitgraph.training.settings import Augmentation as Augmentation
    from vitgraph.training.settings import Compression as Compression
    from vitgraph.training.settings import Distillation as Distillation
    from vitgraph.training.settings import Optimization as Optimization
    from vitgraph.training.settings import Settings as Settings

    __version__: str
    capture_module, read_pipeline, verify_program = _capture, _pipeline, _verify  # `as` another name would be private

_HOME = {
    # what is called
    "capture_model": "frontend.capture",
    "capture_module": "frontend.capture:capture",
    "compile_model": "compile.compiler",
    "find_sites": "analysis.sites",
    "findings_of": "pass_manager.findings",
    "get_target": "targets.target",
    "load": "ir.program_file",
    "load_model": "frontend.models",
    "open_images": "images.image_set",
    "parse": "ir.parser",
    "quantize": "api",
    "read_pipeline": "passes:pipeline",
    "read_report": "compile.report",
    "save": "ir.program_file",
    "search": "searching.runner",
    "show": "ir.printer",
    "sparsify": "api",
    "train": "finetuning.runner",
    "verify_program": "ir.verify:verify",
    # what goes in and comes out
    "AccuracyPart": "compile.report",
    "AttentionKernel": "targets.capability",
    "AttentionSite": "analysis.attention",
    "Augmentation": "training.settings",
    "Batch": "ir.batch",
    "BuilderSupport": "targets.capability",
    "CheckFailed": "errors",
    "Chip": "targets.target",
    "Compare": "pass_manager.instruments",
    "Compression": "training.settings",
    "Context": "pass_manager.pass_contract",
    "DataSource": "finetuning.request",
    "Dim": "ir.tensor_type",
    "Distillation": "training.settings",
    "Dump": "pass_manager.instruments",
    "Effect": "pass_manager.pass_contract",
    "EmbeddingPart": "compile.report",
    "Elsa": "searching.elsa",
    "Evolution": "searching.evolution",
    "Finding": "pass_manager.findings",
    "ImageSet": "images.image_set",
    "Images": "images.calibration_data",
    "InputError": "errors",
    "Instrument": "pass_manager.pipeline",
    "Items": "images.data_sources",
    "LinearSite": "analysis.sites",
    "LoadedModel": "frontend.models",
    "MachineError": "errors",
    "MatmulRule": "targets.capability",
    "ModelFacts": "frontend.models",
    "ModelPart": "compile.report",
    "NormSite": "analysis.sites",
    "Packing": "ir.packing",
    "Optimization": "training.settings",
    "Pass": "pass_manager.pass_contract",
    "OutputError": "errors",
    "PassError": "errors",
    "Pipeline": "pass_manager.pipeline",
    "Preprocessing": "images.preprocess",
    "PreprocessingOptions": "images.preprocess",
    "Printable": "ir.printer",
    "ProductRule": "targets.capability",
    "Program": "ir.program",
    "Rate": "targets.target",
    "Recipe": "compile.recipe",
    "Refusal": "pass_manager.pass_contract",
    "Report": "compile.report",
    "Reproducer": "pass_manager.instruments",
    "ResidualSite": "analysis.sites",
    "Schedule": "training.distill",
    "SearchResult": "searching.runner",
    "Settings": "training.settings",
    "Sites": "analysis.sites",
    "SparseRule": "targets.capability",
    "Stage": "finetuning.recipe",
    "Target": "targets.target",
    "TensorType": "ir.tensor_type",
    "TrainingRecipe": "finetuning.recipe",
    "TrainingResult": "finetuning.runner",
    "Verify": "pass_manager.instruments",
    "VitgraphError": "errors",
}
"""Each public name and where it lives: a module, and the name there where it is another (no name may be a module's)."""

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


follow_environment()
wait_briefly()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vitgraph")
    if name not in _HOME:
        raise AttributeError(f"module 'vitgraph' has no attribute {name!r}")
    module, _, there = _HOME[name].partition(":")
    return getattr(import_module(f"vitgraph.{module}"), there or name)


def __dir__() -> list[str]:
    return __all__

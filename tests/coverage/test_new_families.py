"""A family that a new version of timm or transformers brings is in the table, or is named here with why it is not."""

from importlib import import_module
from typing import Any

from tests.coverage.known_families import TIMM, TRANSFORMERS
from tests.coverage.sources import MODELS

MAPPINGS = (
    "IMAGE_CLASSIFICATION", "IMAGE", "BACKBONE", "SEMANTIC_SEGMENTATION", "OBJECT_DETECTION", "DEPTH_ESTIMATION", "UNIVERSAL_SEGMENTATION",
    "INSTANCE_SEGMENTATION", "MASK_GENERATION",
)  # fmt: skip


def families(source: str) -> set[str]:
    """The families of the table's models of a source."""
    return {name.split("/")[1] for name in MODELS if name.startswith(source)}


def test_every_module_of_timm_is_known() -> None:
    timm: Any = import_module("timm")
    modules = set(timm.list_modules())
    assert len(modules) > 80
    assert modules - families("timm") - TIMM.keys() == set(), "new: put a small model in tests/coverage/timm_models.py"
    assert TIMM.keys() <= modules
    assert not TIMM.keys() & families("timm")


def test_every_vision_model_of_transformers_is_known() -> None:
    auto: Any = import_module("transformers.models.auto.modeling_auto")
    types = {kind for each in MAPPINGS for kind in getattr(auto, f"MODEL_FOR_{each}_MAPPING_NAMES")}
    assert len(types) > 100
    assert types - families("transformers") - TRANSFORMERS.keys() == set(), "new: put a small model into the table"
    assert TRANSFORMERS.keys() <= types
    assert not TRANSFORMERS.keys() & families("transformers")

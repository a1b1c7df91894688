"""All models of the coverage table, by `source/family` or `source/family/variant`."""

from __future__ import annotations

from tests.coverage import (
    timm_models,
    torchvision_models,
    transformers_dense_models,
    transformers_detectors,
    transformers_towers,
)
from tests.coverage.models import Model

MODELS: dict[str, Model] = {
    **{f"timm/{name}": model for name, model in timm_models.MODELS.items()},
    **{f"torchvision/{name}": model for name, model in torchvision_models.MODELS.items()},
    **{f"transformers/{name}": model for name, model in transformers_towers.MODELS.items()},
    **{f"transformers/{name}": model for name, model in transformers_dense_models.MODELS.items()},
    **{f"transformers/{name}": model for name, model in transformers_detectors.MODELS.items()},
}

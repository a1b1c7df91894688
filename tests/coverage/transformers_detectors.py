"""Detection transformers: those of `tests/detection_models.py`."""

from __future__ import annotations

from functools import partial

from tests.coverage.models import Model
from tests.detection_models import MODELS as DETECTORS
from tests.detection_models import SIZE, make_detector

_TYPES = {
    "deformable-detr-refined": "deformable_detr/refined",
    "deformable-detr-two-stage": "deformable_detr/two_stage",
}
MODELS = {
    _TYPES.get(name, name.replace("-", "_")): Model(partial(make_detector, name), (3, SIZE, SIZE)) for name in DETECTORS
}

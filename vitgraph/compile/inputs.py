"""The model and the images that a request names, opened: what a compilation and a search both begin with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitgraph.compile.request import DataRequest
from vitgraph.errors import InputError
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.ir.batch import Batch

if TYPE_CHECKING:
    from vitgraph.frontend.models import LoadedModel
    from vitgraph.frontend.saved_programs import SavedModel
    from vitgraph.images.data_sources import Data
    from vitgraph.images.image_set import ImageSet
    from vitgraph.images.tensor_images import What


@dataclass(frozen=True)
class Inputs:
    """A model, the batch sizes it is for, and images as it sees them."""

    model: LoadedModel | SavedModel
    batch: Batch
    calibration: ImageSet | None
    evaluation: ImageSet | None
    training: ImageSet | None


def open_inputs(request: ModelRequest, data: DataRequest, batch: Batch | None) -> Inputs:
    """Load the model and open all images; `InputError` names what is amiss."""
    from vitgraph.frontend.open_model import batch_for, open_model

    model = open_model(request)

    def images(source: Data | None, limit: int | None, what: What) -> ImageSet | None:
        from vitgraph.images.data_sources import open_data

        return None if source is None else open_data(source, model.preprocessing, limit, request.seed, what)

    opened = Inputs(
        model=model,
        batch=batch_for(model, batch),
        calibration=images(data.calibration, data.calibration_images, "calibration"),
        evaluation=images(data.evaluation, data.evaluation_images, "evaluation"),
        training=images(data.training, data.training_images, "calibration"),
    )
    if opened.evaluation is not None:
        opened.evaluation.check_labels(model.classes or 1_000_000)
    return opened


def check_fp32(model: LoadedModel | SavedModel, who: str, other: str = "") -> None:
    """Raise `InputError` where a saved program is no FP32 one any more, from which `who` starts; `other` is another remedy."""
    from vitgraph.frontend.saved_programs import SavedModel, lowered

    why = lowered(model.program) if isinstance(model, SavedModel) else None
    if why is not None:
        raise InputError(
            f"{model.name}: the program {why}, and {who} starts from FP32; give its model, or the FP32 program that it was made from{other}"
        )

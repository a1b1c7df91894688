"""The model and the images that a request names, opened: what a compilation and a search both begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitgraph.compile.request import DataRequest
from vitgraph.errors import InputError
from vitgraph.frontend.model_request import ModelRequest
from vitgraph.ir.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraph.frontend.models import LoadedModel, ModelFacts
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


def open_inputs(
    request: ModelRequest,
    data: DataRequest,
    batch: Batch | None,
    saved: SavedModel | None = None,
    shape: tuple[int, ...] | None = None,
) -> Inputs:
    """Load the model, unless `saved` stands for it, and open all images; `InputError` names what is amiss.

    `shape` is the (C, H, W) of the model's input, for a module that does not tell it; None takes that of the images.
    """
    import torch

    from vitgraph.frontend.open_model import batch_for, load, open_saved
    from vitgraph.images.class_names import match_classes
    from vitgraph.images.data_sources import open_data
    from vitgraph.images.variety import check_variety
    from vitgraph.ir.model_output import NO_CLASSES

    saved = saved or open_saved(request)
    opened = {} if saved is not None or shape is not None else _handed_in(request, data)
    first = next(iter(opened.values()), None)
    shape = shape or (None if first is None else first.image_shape)
    kind = torch.float32 if first is None else first.image_dtype
    model = saved or load(request, input_shape=shape, input_dtype=kind)

    def images(which: str, what: What) -> ImageSet | None:
        source: Data | None = getattr(data, which)
        if source is None:
            return None
        limit = getattr(data, f"{which}_images")
        found = opened.get(which) or open_data(
            source, model.preprocessing, limit, request.seed, what, model.input_shape
        )
        check_variety(found)
        return match_classes(found, model.class_names)

    inputs = Inputs(
        model=model,
        batch=batch_for(model, batch),
        calibration=images("calibration", "calibration"),
        evaluation=images("evaluation", "evaluation"),
        training=images("training", "calibration"),
    )
    if inputs.evaluation is not None and model.classes != NO_CLASSES:
        inputs.evaluation.check_labels(model.classes or 1_000_000)
    return inputs


def probe(images: ImageSet | None, model: ModelFacts, batch: Batch) -> Tensor:
    """A batch to compare numbers on: calibration images, or noise where there are none."""
    import torch

    from vitgraph.images.data_sources import open_data

    size = min(2, batch.most) if batch.dynamic else batch.best
    source = images or open_data("random", model.preprocessing, size, shape=model.input_shape)
    pixels, _ = next(iter(source.batches(size)))
    return torch.as_tensor(pixels[torch.arange(size) % pixels.shape[0]])


def _handed_in(request: ModelRequest, data: DataRequest) -> dict[str, ImageSet]:
    """Images in memory, for a module that does not tell the shape of its input: opened first, they tell it."""
    from vitgraph.frontend.models import tells_input
    from vitgraph.images.data_sources import open_data

    if tells_input(request.model, request.preprocessing):
        return {}
    for which in ("calibration", "training"):
        source: Data | None = getattr(data, which)
        if source is not None and not isinstance(source, str | Path):
            return {which: open_data(source, None, getattr(data, f"{which}_images"), request.seed)}
    return {}


def check_fp32(model: LoadedModel | SavedModel, who: str, other: str = "") -> None:
    """Raise `InputError` where a saved program is no FP32 one any more, from which `who` starts; `other` is another remedy."""
    from vitgraph.frontend.saved_programs import SavedModel, lowered

    why = lowered(model.program) if isinstance(model, SavedModel) else None
    if why is not None:
        raise InputError(
            f"{model.name}: the program {why}, and {who} starts from FP32; give its model, or the FP32 program that it was made from{other}"
        )

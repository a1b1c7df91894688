"""Which class of a model is meant by a folder's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vitgraph.images.image_set import ImageSet


def match_classes(images: ImageSet, names: Sequence[str] | None) -> ImageSet:
    """Number class folders as the model numbers its classes, where every folder bears the name of one.

    Other labels stay as they are: those of `labels.csv`, and those of folders by their numbers or their order.
    """
    if images.kind != "class folders" or images.classes is None or images.labels is None or names is None:
        return images
    index = {name: number for number, name in enumerate(names)}
    folders = images.class_names
    if len(index) < len(names) or not all(folder in index for folder in folders.values()):
        return images
    return replace(
        images,
        labels=tuple(index[folders[label]] for label in images.labels),
        class_names={index[folder]: folder for folder in folders.values()},
        classes=None,
    )

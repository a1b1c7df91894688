"""Which arguments of a compilation or a search are read from disk: an output that is replaced must not hold them.

Whether a word is a name or a file is answered as where it is read: a recipe `int8` is no folder of that name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_WORDS = {"pretrained", "random", "digits:train", "digits:test"}
"""Weights and images that are no files."""


def files_read(
    model: object, settings: Iterable[object], data: Iterable[object], model_args: Mapping[str, Any] | None
) -> tuple[Path, ...]:
    """Those that name something on disk.

    `settings` are targets, recipes and pipelines; `data` are weights, images and layers, files unless they are one of a few words.
    """
    found: list[object] = [model] if _is_saved(model) else []
    found += [
        each
        for each in settings
        if isinstance(each, Path) or (isinstance(each, str) and each.endswith((".yaml", ".yml")))
    ]
    found += [each for each in data if isinstance(each, Path) or (isinstance(each, str) and each not in _WORDS)]
    found += [
        each
        for each in (model_args or {}).values()
        if isinstance(each, Path) or (isinstance(each, str) and os.sep in each)
    ]
    return tuple(Path(each) for each in found if isinstance(each, str | Path) and os.path.lexists(each))


def _is_saved(model: object) -> bool:
    """Whether a program is read where `model` says; else that is a model's name."""
    from vitgraph.frontend.saved_programs import is_program

    return isinstance(model, Path) or (isinstance(model, str) and is_program(Path(model)))

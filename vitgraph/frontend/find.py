"""From what the user wrote to the source it names."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from vitgraph.digits import NAME
from vitgraph.frontend.from_code import FactorySource, GivenSource
from vitgraph.frontend.from_digits import DigitsSource
from vitgraph.frontend.from_timm import TimmSource
from vitgraph.frontend.from_torchvision import TorchvisionSource, list_names
from vitgraph.frontend.from_transformers import TransformersSource
from vitgraph.frontend.source import Source


def find_source(spec: str | nn.Module) -> Source:
    """Find the source a spec names; raise InputError, near misses listed, where there is none."""
    if isinstance(spec, nn.Module):
        return GivenSource(spec)
    family, colon, rest = spec.partition(":")
    if spec == NAME:
        return DigitsSource()
    if colon and family == "torchvision":
        return TorchvisionSource(rest)
    if colon and family == "transformers":
        return TransformersSource(Path(rest))
    if colon and family != "timm":
        return FactorySource(family, rest)
    return TimmSource(rest if colon else spec, also_known=[*(f"torchvision:{name}" for name in list_names()), NAME])

"""Reading a device's YAML file and the capability it names, in layers: each says only what differs from the one below.

    sm_80.yaml  <-  sm_86.yaml (extends: sm_80)  <-  sm_89.yaml (extends: sm_86)  <-  l4.yaml (capability: sm_89)

A mapping is merged key by key, any other value replaces the one below, and null takes an inherited key away (as in a JSON
merge patch, RFC 7386). A device writes the capability's name, or the capability itself, which may extend a packaged one.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, cast

from vitgraph.errors import InputError
from vitgraph.reading import TARGET, parse_yaml, read_text

Facts = dict[str, Any]


def packaged(folder: str) -> dict[str, Traversable]:
    """The YAML files of `devices` or `capabilities` by name, sorted."""
    files = resources.files("vitgraph.targets").joinpath(folder).iterdir()
    found = {file.name.removesuffix(".yaml"): file for file in files if file.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def read_device(text: str, origin: str) -> Facts:
    """The facts of a device's YAML text over those of its capability; `origin` names the file in an InputError."""
    device = _mapping(text, origin)
    if "capability" not in device:
        raise InputError(
            f"{origin} names no capability; write `capability: NAME` with one of {', '.join(packaged('capabilities'))}, "
            "or a mapping with its facts (docs/targets.md)"
        )
    below = _resolve(device.pop("capability"), origin)
    return _explained(merge(below, device))


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Facts:
    """The facts of two layers: mappings key by key, other values from above, and null takes away what is below.

    >>> merge({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": None, "z": 4}, "c": None})
    {'a': {'y': 2, 'z': 4}, 'b': 3, 'c': None}
    """
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        if isinstance(under, dict) and isinstance(value, dict):
            merged[key] = merge(cast(Facts, under), cast(Facts, value))
        elif value is None and key in below:
            del merged[key]
        else:
            merged[key] = value
    return merged


@cache
def _packaged_capability(name: str) -> Facts:
    origin = f"capability {name!r}"
    return _resolve(_mapping(read_text(packaged("capabilities")[name], TARGET), origin), origin)


def _resolve(capability: object, origin: str) -> Facts:
    """A capability's facts from its name, or from a mapping that may extend a packaged one."""
    if isinstance(capability, str):
        return _packaged_capability(_known(capability, origin))
    if not isinstance(capability, dict):
        raise InputError(
            f"{origin}: `capability` is neither a name nor a mapping; write one, such as `capability: sm_89`"
        )
    own = dict(cast(Facts, capability))
    base = own.pop("extends", None)
    return own if base is None else merge(_packaged_capability(_known(base, origin)), own)


def _known(name: object, origin: str) -> str:
    names = tuple(packaged("capabilities"))
    if isinstance(name, str) and name in names:
        return name
    near = get_close_matches(str(name), names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
    raise InputError(f"{origin}: unknown capability {name!r}; {hint} (or write its facts in place of the name)")


def _explained(facts: Facts) -> Facts:
    """The facts, with the reason why no engine is built here where full TensorRT alone builds one."""
    builders, capability = facts.get("builders"), facts.get("compute_capability")
    if not isinstance(builders, dict) or list(cast(Facts, builders)) != ["tensorrt"] or "no_builder_here" in facts:
        return facts
    sm = f"sm_{str(capability).replace('.', '')}"
    why = (
        f"{sm} is not among the capabilities TensorRT-RTX builds for, and full TensorRT builds only on the device; "
        "compile stops at ONNX and at build_on_device.sh, which builds the engine there"
    )
    return facts | {"no_builder_here": why}


def _mapping(text: str, origin: str) -> Facts:
    content: object = parse_yaml(text, origin)
    if not isinstance(content, dict):
        raise InputError(f"{origin} does not describe a target: it is no mapping with keys such as `name` and `rates`")
    return dict(cast(Facts, content))

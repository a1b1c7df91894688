"""The backends by name, each loaded when it is asked for.

Other packages offer backends through the entry-point group `vitgraph.backends`; an entry is a class without arguments.
"""

if __name__ != "vitgraph.backends":
    raise ImportError(f"import vitgraph.backends, not {__name__}")

from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from vitgraph.errors import InputError
from vitgraph.runtime.backend import Backend

OWN: Mapping[str, str] = {
    "eager": "vitgraph.backends.eager:Eager",
    "ort": "vitgraph.backends.ort:Ort",
}


@cache
def all_backends() -> Mapping[str, str]:
    """Name of every backend, vitgraph's own first, and where its class is (`module:Class`)."""
    others = {point.name: point.value for point in entry_points(group="vitgraph.backends")}
    return {**OWN, **{name: place for name, place in others.items() if name not in OWN}}


def find_backend(name: str) -> Backend:
    """A backend by its name; `InputError` lists near misses for a name that is not known."""
    place = all_backends().get(name)
    if place is None:
        close = get_close_matches(name.lower(), all_backends(), 3, 0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(all_backends())}"
        raise InputError(f"there is no backend {name!r}; {hint}")
    module, _, attribute = place.partition(":")
    backend: Backend = getattr(import_module(module), attribute)()
    return backend

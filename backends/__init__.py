"""The backends by name, each loaded when it is asked for.

Other packages offer backends through the entry-point group `vitgraph.backends`; an entry is a class without arguments.
"""

if __name__ != "vitgraph.backends":
    raise ImportError(f"import vitgraph.backends, not {__name__}")

from collections.abc import Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from vitgraph.errors import InputError
from vitgraph.runtime.backend import Backend, Builder

OWN: Mapping[str, str] = {
    "eager": "vitgraph.backends.eager:Eager",
    "ort": "vitgraph.backends.ort.backend:Ort",
    "openvino": "vitgraph.backends.openvino.backend:OpenVino",
    "tensorrt": "vitgraph.backends.tensorrt.backend:TensorRT",
    "cuda": "vitgraph.backends.cuda.backend:Cuda",
    "torch-compile": "vitgraph.backends.torch_compile.backend:TorchCompile",
}
SHORT: Mapping[str, str] = {"trt": "tensorrt"}
"""What a backend may be called besides its name."""
DEFAULT_RUNNER, DEFAULT_BUILDER = "ort", "tensorrt"
"""What measures a compilation and what builds its engine, where nobody asks for another."""


@cache
def all_backends() -> Mapping[str, str]:
    """Name of every backend, vitgraph's own first, and where its class is (`module:Class`)."""
    others = {point.name: point.value for point in entry_points(group="vitgraph.backends")}
    return {**OWN, **{name: place for name, place in others.items() if name not in OWN}}


def load_backend(name: str) -> Backend | Builder:
    """A backend of either kind by its name or its short one; `InputError` lists near misses for a name that is not known."""
    place = all_backends().get(SHORT.get(name, name))
    if place is None:
        close = get_close_matches(name.lower(), all_backends(), 3, 0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(all_backends())}"
        raise InputError(f"there is no backend {name!r}; {hint}")
    module, _, attribute = place.partition(":")
    try:
        found: object = getattr(import_module(module), attribute)()
    except (ImportError, AttributeError) as error:
        raise InputError(f"backend {name} can't be loaded from {place}: {error}; mend or remove its package") from error
    if not isinstance(found, Backend | Builder):
        raise InputError(f"backend {name} ({place}) neither runs models nor builds engines; see docs/backends.md")
    return found


def find_backend(name: str) -> Backend:
    """A backend that runs programs, by its name; `InputError` for one that only builds, or is not known."""
    backend = load_backend(name)
    if not isinstance(backend, Backend):
        raise InputError(f"backend {name} builds engines and runs no model; those that run models: {_able(runs=True)}")
    return backend


def find_builder(name: str) -> Builder:
    """A backend that builds engines, by its name; `InputError` for one that only runs, or is not known."""
    backend = load_backend(name)
    if not isinstance(backend, Builder):
        raise InputError(
            f"backend {name} runs models and builds no engine; those that build engines: {_able(runs=False)}"
        )
    return backend


def choose(name: str | None) -> tuple[Backend, Builder | None]:
    """What measures a compilation and what builds its engine: the defaults, or `name` for what it can do.

    No builder where `name` only runs: who asks for such a backend wants its numbers, not another's engine. One that does both
    builds, and the default measures where it can't run on this machine, or runs engines: there is none yet when accuracy is measured.
    """
    if name is None:
        return find_backend(DEFAULT_RUNNER), find_builder(DEFAULT_BUILDER)
    chosen = load_backend(name)
    builder = chosen if isinstance(chosen, Builder) else None
    runs = isinstance(chosen, Backend) and chosen.source != "engine.plan"
    runs = runs and (builder is None or chosen.refusal(None) is None)
    return chosen if isinstance(chosen, Backend) and runs else find_backend(DEFAULT_RUNNER), builder


def _able(runs: bool) -> str:
    """The names of all that run models, or of all that build engines, with commas between."""
    found = list[str]()
    for name in all_backends():
        with suppress(InputError):  # a package of somebody else's that can't be loaded
            backend = load_backend(name)
            able = isinstance(backend, Backend) if runs else isinstance(backend, Builder)
            found += [name] if able else []
    return ", ".join(found)

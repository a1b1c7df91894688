"""Modules made by the user's own code."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from vitgraph.errors import InputError
from vitgraph.frontend.from_timm import read_timm_config
from vitgraph.frontend.source import Head, ModelArgs, near_misses
from vitgraph.frontend.weight_files import Convert
from vitgraph.images.image_size import device_of
from vitgraph.images.preprocess import Preprocessing


class OwnModule:
    """What can be asked of a module by its attributes: `preprocessing`, `num_classes`, `class_names`, timm's config."""

    size_argument = None
    class_argument = None

    def preprocessing(self, module: nn.Module) -> Mapping[str, Any] | None:
        """The module's own `preprocessing` or timm-like config, where it has either."""
        own = getattr(module, "preprocessing", None)
        return own.model_dump() if isinstance(own, Preprocessing) else read_timm_config(module)

    def classes(self, module: nn.Module) -> int | None:
        """The module's `num_classes`, where it has one; 0 says that it gives features."""
        own = getattr(module, "num_classes", None)
        return own if isinstance(own, int) and not isinstance(own, bool) and own >= 0 else None

    def class_names(self, module: nn.Module) -> Sequence[str] | None:
        """The module's `class_names`, where it has them."""
        return cast(Sequence[str] | None, getattr(module, "class_names", None))

    def head(self, module: nn.Module) -> Head | None:
        """None: only the user's code knows."""
        return None

    def notes(self, module: nn.Module) -> Sequence[str]:
        """Nothing is decided."""
        return ()

    def converter(self, module: nn.Module) -> Convert | None:
        """None: only the user knows other names."""
        return None


class FactorySource(OwnModule):
    """The user's own function or class, `package.module:name`; whatever weights it sets are its own."""

    def __init__(self, module_path: str, attribute: str) -> None:
        """Import it, from the current folder too; raise InputError where that fails."""
        self.spec, self.kind = f"{module_path}:{attribute}", f"module {module_path}"
        found: object = None
        sys.path.insert(0, "")
        try:
            found = importlib.import_module(module_path)
            for name in attribute.split("."):
                found = getattr(found, name)
        except ModuleNotFoundError as error:
            raise InputError(
                f"model {self.spec!r}: no module {error.name!r} to import; run in the folder that holds it, or install it"
            ) from error
        except AttributeError as error:
            raise InputError(f"model {self.spec!r}: {error}{near_misses(attribute, dir(found))}") from error
        except SystemExit as error:
            raise InputError(
                f"model {self.spec!r}: importing {module_path} ended the program (exit {error.code}); mend it"
            ) from error
        except Exception as error:
            raise InputError(f"model {self.spec!r}: importing {module_path} failed: {error!r}") from error
        finally:
            sys.path.remove("")
        if not callable(found):
            raise InputError(f"model {self.spec!r} is {type(found).__name__}, not a function that returns a module")
        self.factory: Callable[..., object] = found

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Call the factory; raise InputError where it fails or returns something else."""
        try:
            made = self.factory(**arguments)
        except TypeError:
            raise
        except SystemExit as error:
            raise InputError(
                f"model {self.spec!r}: the factory ended the program (exit {error.code}); mend it"
            ) from error
        except Exception as error:
            raise InputError(f"model {self.spec!r}: the factory failed: {error!r}") from error
        if not isinstance(made, nn.Module):
            raise InputError(f"model {self.spec!r} gave back {type(made).__name__}, not a torch.nn.Module")
        return made


@dataclass(frozen=True)
class GivenSource(OwnModule):
    """A module handed in by Python code, weights and all. It is copied: the caller's stays as it is."""

    module: nn.Module
    kind = "nn.Module"

    def make(self, arguments: ModelArgs, pretrained: bool) -> nn.Module:
        """Copy the module to the CPU; raise InputError where it is asked to be another, or can't be copied."""
        if arguments:
            raise InputError(f"model arguments {dict(arguments)} cannot be applied to a module that is already made")
        try:
            twin = copy.deepcopy(self.module)
        except Exception as error:
            raise InputError(
                f"model {type(self.module).__name__} cannot be copied: {error}; hand in one that copy.deepcopy takes "
                "(tensors it keeps besides parameters and buffers have to be detached)"
            ) from error
        return twin if device_of(twin).type == "meta" else twin.cpu()

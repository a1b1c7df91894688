"""A state dict brought to a module's own names and checked key by key; what was decided on the way is told in notes."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from vitgraph.errors import InputError
from vitgraph.frontend.source import Head
from vitgraph.frontend.weight_files import Convert, StateDict, as_state_dict, first_names

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What torch.compile, FSDP and activation checkpointing put into names, at any depth."""
_BOOKKEEPING = (
    "attn_mask", "relative_position_index", "relative_coords_table", "inv_freq", "periods", "num_batches_tracked",
)  # fmt: skip
"""Buffers that follow from a model's sizes or count steps: one version of a library saves them, the next does not."""
_COMPUTED = ("cls_token", "dist_token", "reg", "embed", "pos")
"""In the names of a model's own parameters: those that stand among the tokens, or are added to them."""
_log = logging.getLogger("vitgraph")


@dataclass(frozen=True)
class Misfit:
    """How a state dict differs from a module: keys it lacks, keys it has too many, keys of another shape."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]
    common: int

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.missing or self.unexpected or self.reshaped)


def take_own(module: nn.Module, state: StateDict, path: Path, head: Head | None = None) -> tuple[StateDict, list[str]]:
    """The part of `state` that is this module's, under the module's own names, and notes of what was left out.

    A prefix that training code put before the names goes (`backbone.`, `module.model.`, any), and with it whatever does
    not bear it; so does what the module has no place for, as long as none of its own layers would have it: a `head` that
    it was made without may stand in the file. Raises `InputError` where several prefixes lead to a whole set of the module's weights.
    """
    own: Mapping[str, Tensor] = module.state_dict()
    plain = {_WRAPPERS.sub("", key): tensor for key, tensor in state.items()}
    plain = plain if len(plain) == len(state) and not any(map(_WRAPPERS.search, own)) else state
    prefix = _find_prefix(own, plain, path)
    mine = {key.removeprefix(prefix): tensor for key, tensor in plain.items() if key.startswith(prefix)}
    others = [key for key in plain if not key.startswith(prefix)]
    lacked = head if head is not None and not any(map(head.holds, own)) else None
    others += [
        prefix + key
        for key in mine
        if key not in own and (_has_no_place(module, key, mine[key]) or (lacked is not None and lacked.holds(key)))
    ]
    homeless = set(others)
    kept = {key: tensor for key, tensor in mine.items() if prefix + key not in homeless}
    if not others or not own.keys() <= kept.keys():
        return mine, []
    left = f"{len(others)} of {len(state)} tensors in {path.name} have no place in the model: left out ({first_names(others)})"
    return kept, [left]


def load_weights(
    module: nn.Module, state: StateDict, path: Path, convert: Convert | None = None, head: Head | None = None
) -> list[str]:
    """Load `state` into `module`, every key, and return notes; raise InputError that counts and names what does not fit."""
    mine, notes = take_own(module, state, path, head)
    fitted = adapt(module, mine, state, convert)
    own: Mapping[str, Tensor] = module.state_dict()
    if compare(module, fitted):
        raise InputError(describe_misfit(module, fitted, path, head))
    if odd := [f"{key} {why}" for key in own if (why := _unfit(own[key], fitted[key]))]:
        raise InputError(f"weights {path}: {len(odd)} tensors can't be loaded ({first_names(odd)}); convert them first")
    sick = [key for key in own if fitted[key].is_floating_point() and not _is_finite(fitted[key], own[key])]
    if sick:
        raise InputError(
            f"weights {path}: {len(sick)} tensors hold NaN or infinity ({first_names(sick)}); train or fetch again"
        )
    module.load_state_dict(fitted)
    return notes + _note_resized(mine, fitted, path)


def adapt(module: nn.Module, mine: StateDict, state: StateDict, convert: Convert | None = None) -> StateDict:
    """Rename and resize a file's tensors by the source's own rules, where they do not fit as they are and fit whole after.

    `mine` is what bears the module's own names, `state` all of the file: under its authors' names there may be nothing else.
    """
    if convert is None or not compare(module, mine):
        return mine
    for form in (mine, *_without_common_prefixes(state)):
        with suppress(Exception):  # written for its own family's files: on another's it may fail in any way
            converted = as_state_dict(convert(dict(form), module))
            if converted is not None and not compare(module, converted):
                return converted
    return mine


def compare(module: nn.Module, state: Mapping[str, Tensor]) -> Misfit:
    """List the keys in which `state` differs from the module's own state dict."""
    own: Mapping[str, Tensor] = module.state_dict()
    return Misfit(
        missing=tuple(key for key in own if key not in state),
        unexpected=tuple(key for key in state if key not in own),
        reshaped=tuple(key for key, tensor in own.items() if key in state and state[key].shape != tensor.shape),
        common=sum(key in state for key in own),
    )


def infer_classes(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Read the number of classes from the file's head; None unless linear layers differ, in their output size alone.

    A model of another width differs in its inner linear layers' input size too, and gives None.
    """
    own: Mapping[str, Tensor] = module.state_dict()
    reshaped = compare(module, state).reshaped
    of_linears = [key for key in reshaped if isinstance(module.get_submodule(key.rpartition(".")[0]), nn.Linear)]
    sizes = {state[key].shape[0] for key in of_linears if state[key].dim() == own[key].dim()}
    tails_equal = all(own[key].shape[1:] == state[key].shape[1:] for key in of_linears)
    return sizes.pop() if len(sizes) == 1 and tails_equal else None


def describe_misfit(module: nn.Module, state: Mapping[str, Tensor], path: Path, head: Head | None = None) -> str:
    """Say how the file differs from the model, with the first few keys, and what to try."""
    misfit = compare(module, state)
    own: Mapping[str, Tensor] = module.state_dict()
    shapes = [f"{key} {list(state[key].shape)}, the model's is {list(own[key].shape)}" for key in misfit.reshaped]
    faults = [
        f"{len(keys)} {what} ({first_names(keys)})"
        for what, keys in (("missing", misfit.missing), ("unexpected", misfit.unexpected), ("of another shape", shapes))
        if keys
    ]
    if head is not None and misfit.missing and head.holds_all(misfit.missing) and not misfit.reshaped:
        advice = f"The file has no head, and none is drawn at random: {head.without}"
    elif (misfit.common - len(misfit.reshaped)) * 2 < len(own):
        advice = "These are the weights of another architecture: check the model's name"
    elif misfit.missing or misfit.unexpected:
        advice = "A variant of this model? Check its name and --model-args"
    else:
        advice = "Same architecture, other sizes: check the model's name, --image-size and --model-args (num_classes=N)"
    return f"weights {path} do not fit {type(module).__name__} and its {len(own)} keys: {'; '.join(faults)}. {advice}"


def _find_prefix(own: Collection[str], state: StateDict, path: Path) -> str:
    """What stands before the module's own names; empty where nothing does, or none of its names is there."""
    counts = Counter(prefix for key in state for prefix in _prefixes(key) if key.removeprefix(prefix) in own)
    most = max(counts.values(), default=0)
    best = sorted((prefix for prefix, count in counts.items() if count == most), key=len)
    if most == len(own) and len(best) > 1 and best[0]:
        raise InputError(
            f"weights {path}: {len(best)} whole sets of the model's weights are in it ({', '.join(best)}); save the one "
            "that is meant"
        )
    return best[0] if best else ""


def _prefixes(key: str) -> Iterator[str]:
    """The empty one, and each that ends in a dot: of `a.b.c` also `a.` and `a.b.`."""
    yield ""
    yield from (key[: dot.end()] for dot in re.finditer(r"\.", key))


def _has_no_place(module: nn.Module, key: str, tensor: Tensor) -> bool:
    """Whether no layer of the module would have this tensor; a layer, scale or bias that it lacks would change its results."""
    if key.endswith(_BOOKKEEPING) or not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    child, dot, _ = key.partition(".")
    return child not in dict(module.named_children()) if dot else not any(word in key for word in _COMPUTED)


def _without_common_prefixes(state: StateDict) -> Iterator[StateDict]:
    """The state as it is, then without what stands before all of its names, part by part."""
    while state:
        yield state
        head = next(iter(state)).partition(".")[0] + "."
        if not all(key.startswith(head) for key in state):
            return
        state = {key.removeprefix(head): tensor for key, tensor in state.items()}


def _unfit(own: Tensor, given: Tensor) -> str | None:
    """Why this tensor's values are not what the model's own would be; None where they are."""
    if given.is_meta and not own.is_meta:
        return "has a shape and no values"
    if given.is_quantized or given.layout is not torch.strided:
        return f"is {'quantized' if given.is_quantized else given.layout}"
    if given.is_complex() and not own.is_complex():
        return "is complex, and its imaginary part would be lost"
    if own.is_floating_point() and own.dim() > 0 and not given.is_floating_point():
        return f"is of {given.dtype}, and its scale is not known"
    return None


def _is_finite(given: Tensor, own: Tensor) -> bool:
    """Also in the model's own type, whose range may be smaller."""
    return given.is_meta or bool(given.to(own.dtype).isfinite().all())


def _note_resized(state: StateDict, fitted: StateDict, path: Path) -> list[str]:
    """A note of every tensor that was fitted to another size. For a kernel a warning too: that is another model's patch."""
    resized = [key for key in fitted if key in state and state[key].shape != fitted[key].shape]
    shapes = [f"{key} from {list(state[key].shape)} to {list(fitted[key].shape)}" for key in resized]
    if kernels := [shape for key, shape in zip(resized, shapes, strict=True) if fitted[key].dim() == 4]:
        _log.warning(
            "weights %s: %s was resized: a model of another patch size was trained so", path, first_names(kernels)
        )
    return (
        [f"{len(resized)} of {len(state)} tensors in {path.name} were resized ({first_names(shapes)})"]
        if resized
        else []
    )

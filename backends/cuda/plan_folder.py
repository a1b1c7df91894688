"""What `vitgraph compile --backend cuda` leaves for a GPU, and how it is read again, without passes and without pickle.

    cuda/plan.json              buffers, steps, sites, the target that it was made for (`plan_file`)
    cuda/weights.safetensors    the tensors that the plan names

Nothing in it is bound to a GPU: Triton compiles the kernels, and cuSPARSELt packs the sparse weights and chooses its
algorithm, where the plan is loaded. So a plan that was made for sm_80 is not refused on sm_90 (neither has been seen to
run); what its target decided is which sites are sparse.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.plan_check import check_plan
from vitgraph.backends.cuda.plan_file import plan_from_json, plan_to_json
from vitgraph.errors import InputError
from vitgraph.reading import PLAN, PLAN_WEIGHTS, check_file, read_json

FOLDER, PLAN_NAME, WEIGHTS_NAME = "cuda", "plan.json", "weights.safetensors"


def plan_files(lowered: Lowered) -> dict[str, bytes]:
    """The files by their paths in the folder of a compilation; the same plan and tensors give the same bytes."""
    from safetensors.torch import save

    text = json.dumps(plan_to_json(lowered.plan), indent=1, allow_nan=False) + "\n"
    return {
        f"{FOLDER}/{PLAN_NAME}": text.encode(),
        f"{FOLDER}/{WEIGHTS_NAME}": save(_with_own_memory(lowered.tensors)),
    }


def is_plan(folder: Path) -> bool:
    """Whether a folder holds a plan."""
    return (folder / PLAN_NAME).is_file()


def load_plan(folder: str | Path) -> Lowered:
    """The plan in a folder that `plan_files` were written to, or in that of its compilation, checked before anything runs.

    `InputError` where there is none, it is of another version, it asks for what no kernel or operator does, or the weights are
    not its own.
    """
    place = Path(folder)
    place = place if is_plan(place) else place / FOLDER
    if not is_plan(place):
        raise InputError(f"{folder}: holds no {FOLDER}/{PLAN_NAME}; `vitgraph compile --backend cuda` writes one")
    file = place / PLAN_NAME
    plan = plan_from_json(read_json(file, PLAN), str(file))
    lowered = Lowered(plan, _read_tensors(place / WEIGHTS_NAME, list(plan.weights)))
    check_plan(lowered, str(file))
    return lowered


def _read_tensors(file: Path, names: list[str]) -> dict[str, Tensor]:
    """These tensors of a safetensors file, as far as it has them."""
    from safetensors import SafetensorError, safe_open

    check_file(file, PLAN_WEIGHTS)
    untyped: Any = safe_open
    try:
        with untyped(file, framework="pt") as reader:
            there = set(reader.keys())
            return {name: reader.get_tensor(name) for name in names if name in there}
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        # the last three: types of elements that this torch has not
        raise InputError(f"{file}: can't be read as weights: {error}; {PLAN_WEIGHTS.remedy}") from error


def _with_own_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: contiguous, no two in one memory."""
    found, taken = dict[str, Tensor](), set[int]()
    for name, tensor in tensors.items():
        whole = tensor.detach().contiguous()
        memory = whole.untyped_storage()
        found[name] = whole.clone() if memory.data_ptr() in taken or memory.nbytes() > whole.nbytes else whole
        taken.add(found[name].untyped_storage().data_ptr())
    return found

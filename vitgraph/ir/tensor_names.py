"""The names that weights had in the model, for a program whose passes have put new tensors in their place."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vitgraph.ir.program import Program


def trained_names(program: Program) -> dict[str, bool]:
    """The names of the parameters, and whether each is trained (`requires_grad`)."""
    return {name: parameter.requires_grad for name, parameter in program.named_parameters()}


def restore_names(program: Program, original: Mapping[str, bool]) -> None:
    """Give every parameter that came of one of these its name back, and its `requires_grad`.

    Passes register new tensors under the old name and more: `fc1.weight_updated`. Where several came of one weight, or
    the weight itself is still there, the new names stay.
    """
    heirs = dict[str, list[str]]()
    for name, _ in program.named_parameters():
        base = _ancestor(name, original)
        if base is not None:
            heirs.setdefault(base, []).append(name)
    for base, names in heirs.items():
        for name in names:
            program.tensor(name).requires_grad_(original[base])
        if len(names) == 1 and names[0] != base:
            _rename(program, names[0], base)
    program.module.recompile()


def _ancestor(name: str, original: Mapping[str, bool]) -> str | None:
    """The longest of the original names that this one is, or begins with."""
    found = [base for base in original if name == base or name.startswith(f"{base}_")]
    return max(found, key=len, default=None)


def _rename(program: Program, old: str, new: str) -> None:
    if new in program.state_dict():
        return
    tensor = program.tensor(old)
    delattr(_holder(program, old), _leaf(old))
    setattr(_holder(program, new), _leaf(new), tensor)
    for node in program.graph.nodes:
        if node.op == "get_attr" and node.target == old:
            node.target = new


def _holder(program: Program, name: str) -> torch.nn.Module:
    return program.module.get_submodule(name.rpartition(".")[0])


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]

"""Names that the shell completes, read off files: importing passes would import torch, and the shell waits."""

from __future__ import annotations

import ast
from importlib import resources

_HOME = resources.files("vitgraph")


def pass_names(incomplete: str) -> list[str]:
    """The passes of vitgraph that begin so; those of other packages would have to be loaded."""
    tree = ast.parse(_HOME.joinpath("passes", "__init__.py").read_text(encoding="utf-8"))
    orders = [
        node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "ORDER"
    ]
    names = [
        key.value
        for order in orders
        if isinstance(order, ast.Dict)
        for key in order.keys
        if isinstance(key, ast.Constant)
    ]
    return [str(name) for name in names if str(name).startswith(incomplete)]


def recipe_names(incomplete: str) -> list[str]:
    """The recipes of vitgraph that begin so."""
    return _yaml_names("compile/recipes", incomplete)


def target_names(incomplete: str) -> list[str]:
    """The targets of vitgraph that begin so."""
    return _yaml_names("targets/devices", incomplete)


def _yaml_names(folder: str, incomplete: str) -> list[str]:
    names = [file.name for file in _HOME.joinpath(folder).iterdir() if file.name.startswith(incomplete)]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def training_recipe_names(incomplete: str) -> list[str]:
    """The recipes of `vitgraph train` that begin so."""
    return _yaml_names("finetuning/recipes", incomplete)

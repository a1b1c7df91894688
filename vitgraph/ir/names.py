"""Names that may come in from a file: what FX writes into the Python that it generates is one of these.

A tensor's name is its path in the module, `blocks.0.attn.qkv.weight`; torch.fx spells it into `self.blocks…` or
`getattr(self, "…")`. The name of an input becomes a parameter of the generated `forward`.
"""

from __future__ import annotations

import keyword
import re

MAX_NAME = 256
"""Characters of a name; the longest of timm's models have some 70."""
_PART = r"(?!__\w*__(?:\.|$))[A-Za-z0-9_-]+"
_TENSOR = re.compile(rf"{_PART}(?:\.{_PART}){{0,31}}", re.ASCII)
_INPUT = re.compile(r"[A-Za-z_]\w*", re.ASCII)
RESERVED = frozenset({"self", "torch", "device", "inf", "nan", "getattr", "NoneType", "math", "operator", "builtins"})
"""What generated code refers to by name."""


def check_tensor_name(name: object) -> str:
    """The name, where it is dotted words of letters, digits, `_` and `-`, no keyword of Python; else `ValueError`."""
    if not isinstance(name, str) or len(name) > MAX_NAME or _TENSOR.fullmatch(name) is None or _has_keyword(name):
        raise ValueError(
            f"{_short(name)} is no name of a tensor: that is words of letters, digits, _ and -, none of them a keyword "
            f"of Python, joined by dots, {MAX_NAME} characters at most"
        )
    return name


def check_value_name(name: str) -> str:
    """The name of a value in a graph, where it is an identifier and none that generated code refers to; else `ValueError`."""
    if len(name) > MAX_NAME or _INPUT.fullmatch(name) is None or keyword.iskeyword(name) or name in RESERVED:
        raise ValueError(f"{_short(name)} can't be the name of a value; take another, such as x")
    return name


def _has_keyword(name: str) -> bool:
    return any(keyword.iskeyword(part) for part in name.split("."))


def _short(name: object) -> str:
    text = ascii(name)
    return text if len(text) <= 60 else f"{text[:56]}…{text[0]}"

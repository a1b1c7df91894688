"""One line of a graph's text, taken apart: a small grammar of its own, so that nothing that Python knows gets in.

    line    name ":" type "=" call, or "return_" "(" value ")"; "#" and what follows is the path of a module
    call    dotted name "(" values, then name "=" value ")"
    value   number, text, name, "[" values "]", "(" values ",)", or object "(" text ")"

Values are numbers, texts, True, False, None, lists, tuples, and of the classes below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from string import whitespace
from typing import Any

MAX_LINE = 100_000
"""Characters of one line; an operator with 1,000 results takes some 30,000."""
MAX_NESTING = 8
MAX_TEXT = 512
"""Characters of a text argument; the longest are equations of einsum."""
_HEAD = re.compile(r"\s*([A-Za-z_]\w*)\s*:([^=\"'#]*)=", re.ASCII)
_RETURN = re.compile(r"\s*(?=return_\s*\()", re.ASCII)
_TOKEN = re.compile(
    r"""\s*(?:(?P<comment>\#.*)
    | (?P<number>-?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|inf\b|nan\b)(?![\w.]))
    | (?P<name>[A-Za-z_]\w*(?:\.\w+)*)
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<mark>[()\[\],=])
    | (?P<other>\S))""",
    re.VERBOSE | re.ASCII,
)
_ESCAPED = re.compile(r"""\\(['"\\])""")
_WORDS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class Name:
    """A value of the graph, or a type of elements such as `f32`."""

    text: str


@dataclass(frozen=True)
class Call:
    """A call with what stands in its brackets; `device("cpu")` among the values is one too."""

    function: str
    values: tuple[Any, ...]
    named: dict[str, Any]


@dataclass(frozen=True)
class Line:
    """`name: type = call  # path`; of a `return_(…)` name and type are empty."""

    name: str
    type: str
    call: Call
    path: str


def read_line(text: str) -> Line | None:
    """A line of a text, or None for an empty one and a comment; `ValueError` says what is wrong with any other."""
    if len(text) > MAX_LINE:
        raise ValueError(f"the line has {len(text):,} characters, over the {MAX_LINE:,} that are read")
    if not text.strip() or text.lstrip().startswith("#"):
        return None
    head = _HEAD.match(text) or _RETURN.match(text)
    if head is None:
        raise ValueError("a line is `name: type = operator(arguments)` or `return_(value)`")
    tokens = _Tokens.of(text[head.end() :])
    call = _read_call(tokens)
    if tokens.left:
        raise ValueError(f"{tokens.left[-1][1]!r} stands after the call's last bracket")
    name, kind = head.groups() or ("", "")
    return Line(name, kind.strip(), call, tokens.comment)


@dataclass
class _Tokens:
    """What a line still holds: (kind, text) of each token, the next one last."""

    left: list[tuple[str, str]]
    comment: str = ""
    depth: int = field(default=0)

    @classmethod
    def of(cls, text: str) -> _Tokens:
        found = _tokens(text.rstrip(whitespace))
        comment = found.pop()[1][1:].strip() if found and found[-1][0] == "comment" else ""
        if not comment.isprintable():
            raise ValueError("the path after # holds characters that can't be printed")
        return cls(found[::-1], comment)

    def take(self, *marks: str) -> tuple[str, str]:
        """The next token, which is one of these where any are named."""
        if not self.left:
            raise ValueError("a bracket is never closed")
        kind, text = self.left.pop()
        if kind == "other" or (marks and text not in marks):
            wanted = f" where {' or '.join(marks)} is wanted" if marks else ""
            raise ValueError(f"{text!r} has no place there{wanted}")
        return kind, text

    def sees(self, mark: str) -> bool:
        return bool(self.left) and self.left[-1][1] == mark

    def sees_keyword(self) -> bool:
        return len(self.left) > 1 and self.left[-1][0] == "name" and self.left[-2][1] == "="


def _tokens(text: str) -> list[tuple[str, str]]:
    """(kind, text) of each token up to the first that is none: what a search beyond it would find is wrong whatever it is,
    and a quote that is never closed would send it to the line's end again and again."""
    found, place = list[tuple[str, str]](), 0
    while match := _TOKEN.match(text, place):
        kind = str(match.lastgroup)
        found.append((kind, match[kind]))
        place = len(text) if kind == "other" else match.end()
    return found


def _read_call(tokens: _Tokens) -> Call:
    kind, function = tokens.take()
    if kind != "name":
        raise ValueError(f"{function!r} is no operator; write for example aten.linear.default")
    tokens.take("(")
    values, named = list[Any](), dict[str, Any]()
    while not tokens.sees(")"):
        if tokens.sees_keyword():
            _read_keyword(tokens, named)
        elif named:
            raise ValueError("an argument without a name stands after one with a name")
        else:
            values.append(_read_value(tokens))
        if not tokens.sees(")"):
            tokens.take(",")
    tokens.take(")")
    return Call(function, tuple(values), named)


def _read_keyword(tokens: _Tokens, named: dict[str, Any]) -> None:
    _, name = tokens.take()
    tokens.take("=")
    if name in named:
        raise ValueError(f"the argument {name} is given twice")
    named[name] = _read_value(tokens)


def _read_value(tokens: _Tokens) -> Any:
    kind, text = tokens.take()
    if kind == "number":
        return _number(text)
    if kind == "text":
        return _text(text)
    if kind == "name" and tokens.sees("("):
        tokens.left.append((kind, text))
        return _nested(tokens, _read_call)
    if kind == "name":
        return _WORDS[text] if text in _WORDS else Name(text)
    if text in "[(":
        return _nested(tokens, _read_list if text == "[" else _read_tuple)
    raise ValueError(f"{text!r} has no place there; a value is a number, a text, a name, a list or a tuple")


def _nested(tokens: _Tokens, read: Any) -> Any:
    tokens.depth += 1
    if tokens.depth > MAX_NESTING:
        raise ValueError(f"values nest over {MAX_NESTING} deep")
    value = read(tokens)
    tokens.depth -= 1
    return value


def _read_list(tokens: _Tokens) -> list[Any]:
    items = list[Any]()
    while not tokens.sees("]"):
        items.append(_read_value(tokens))
        if not tokens.sees("]"):
            tokens.take(",")
    tokens.take("]")
    return items


def _read_tuple(tokens: _Tokens) -> Any:
    """A tuple; as in Python, one value in brackets without a comma is that value."""
    items, comma = list[Any](), False
    while not tokens.sees(")"):
        items.append(_read_value(tokens))
        comma = tokens.sees(",")
        if not tokens.sees(")"):
            tokens.take(",")
    tokens.take(")")
    return items[0] if len(items) == 1 and not comma else tuple(items)


def _number(text: str) -> int | float:
    if not text.lstrip("-").isdigit():
        return float(text)
    if len(text) > 20 or abs(int(text)) >= 2**63:
        raise ValueError(f"{text[:24]} is no whole number of 64 bits")
    return int(text)


def _text(token: str) -> str:
    if len(token) > MAX_TEXT:
        raise ValueError(f"a text argument has over {MAX_TEXT} characters")
    value = _ESCAPED.sub(r"\1", token[1:-1])
    if not value.isprintable() or "\\" in _ESCAPED.sub("", token):
        raise ValueError(
            f"{token} holds characters that can't be printed; a backslash stands only before a quote or another"
        )
    return value

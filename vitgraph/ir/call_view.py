"""What the typed views of `vitgraph.ir.calls` are made of: a node, and its arguments as typed attributes."""

from __future__ import annotations

from typing import Any, ClassVar, Generic, Self, TypeVar, overload

from torch import fx

from vitgraph.ir.call_arguments import argument, set_argument

T = TypeVar("T")


class CallView:
    """A call of one of `operators`; `TypeError` for any other node."""

    operators: ClassVar[frozenset[Any]] = frozenset()

    def __init__(self, node: fx.Node) -> None:
        if not self.views(node):
            wanted = ", ".join(sorted(map(str, self.operators)))
            raise TypeError(f"{node.name} calls {node.target}, and {type(self).__name__} is a view of {wanted}")
        self.node = node

    @classmethod
    def views(cls, value: Any) -> bool:
        """Whether a value is a call of one of the operators."""
        return isinstance(value, fx.Node) and value.op == "call_function" and value.target in cls.operators

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """The view of a call of one of the operators; None for any other value."""
        return cls(value) if cls.views(value) else None


class Argument(Generic[T]):
    """One argument of a view by its name in the operator's schema; to assign it is to write it into the call."""

    def __init__(self, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, view: None, owner: type) -> Self: ...
    @overload
    def __get__(self, view: CallView, owner: type) -> T: ...
    def __get__(self, view: CallView | None, owner: type) -> Self | T:
        return self if view is None else argument(view.node, self.name)

    def __set__(self, view: CallView, value: T) -> None:
        set_argument(view.node, self.name, value)

"""What ONNX Runtime answers about parts of a file: values that are held to the program's, no kernels, or that the file is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, fx

from vitgraph.backends.ort.distance import PLANNED, Compared, place_of
from vitgraph.backends.ort.parts import Parts
from vitgraph.backends.ort.session import NoKernelError
from vitgraph.errors import InputError
from vitgraph.runtime.backend import Violation


class Answers:
    """All of them so far."""

    def __init__(self, parts: Parts) -> None:
        self.found = list[Compared]()
        self.left = dict[fx.Node, str]()
        """Calls that were not compared, and why."""
        self.refused = list[Violation]()
        """Where the file is at fault."""
        self._parts = parts

    def ask(self, asked: Mapping[str, fx.Node], values: Mapping[str, Tensor]) -> None:
        """Compare values by their names in the file: together, and where that can't be done call by call.

        A call that can't be computed says nothing about the others.
        """
        try:
            self._compare(asked, values)
        except InputError as error:
            if not self._ask_each(asked, values):
                self._refuse(" to ".join(_ends(asked.values())), error)

    def _compare(self, asked: Mapping[str, fx.Node], values: Mapping[str, Tensor]) -> None:
        found = self._parts.compute(list(asked), values)
        self.found += [Compared.of(node, values[name], found[name]) for name, node in asked.items()]

    def _ask_each(self, asked: Mapping[str, fx.Node], values: Mapping[str, Tensor]) -> bool:
        """Whether one of them can't be computed alone either."""
        before = len(self.left)
        for node in dict.fromkeys(asked.values()):
            try:
                self._compare({name: its for name, its in asked.items() if its is node}, values)
            except InputError as error:
                self.left[node] = str(error)
                self._refuse(place_of(node), error)
        return len(self.left) > before

    def _refuse(self, place: str, error: InputError) -> None:
        """A violation, unless only kernels are lacking."""
        if not isinstance(error, NoKernelError):
            why = "ONNX Runtime takes no such file; please report it with program/graph.txt"
            self.refused.append(Violation(place, PLANNED, first_line(str(error)), why))


def _ends(nodes: Iterable[fx.Node]) -> list[str]:
    """The first and the last."""
    places = [place_of(each) for each in nodes]
    return list(dict.fromkeys([places[0], places[-1]]))


def first_line(text: str) -> str:
    """Without what a library adds beneath."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")

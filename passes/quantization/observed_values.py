"""Which values of a program get a quantizer: what linears read, what attentions are made of, what branches output."""

from __future__ import annotations

from typing import Any

from torch import fx

from vitgraph.analysis.attention import AttentionSite
from vitgraph.analysis.roles import BRANCH_ENDS
from vitgraph.analysis.sites import LinearSite
from vitgraph.ir.calls import AttentionCall
from vitgraph.ir.navigate import before_layout
from vitgraph.ir.operator_classes import LAYOUT


class ObservedValues:
    """Which values get a pair: a node, and those of its readers that read the quantized value (None for all)."""

    def __init__(self, linears: list[LinearSite]) -> None:
        self.linears = linears
        self.by_node = {site.node: site for site in linears}
        self.values = dict[fx.Node, list[fx.Node] | None]()
        self.attentions = list[AttentionSite]()
        for site in linears:
            self._read(site.node.args[0], site.node)

    def is_for_linears(self, value: fx.Node) -> bool:
        """Is the quantized value what linears read, and nothing else?"""
        readers = self.values[value]
        return readers is not None and all(reader in self.by_node for reader in readers)

    def is_consumed_quantized(self, node: fx.Node) -> bool:
        """Do all consumers, through layout operators, quantize the value?"""
        readers = [(user, node) for user in node.users]
        while readers:
            user, source = readers.pop()
            if user.target in LAYOUT:
                readers += [(each, user) for each in user.users]
            elif user not in self.by_node or user.args[0] is not source:
                return False
        return bool(node.users)

    def add_attention(self, site: AttentionSite) -> None:
        """Quantize q, k and v: at the output of the linear they come from, where one does; else where they are read."""
        self.attentions.append(site)
        for operand in AttentionCall(site.node).operands:
            source = before_layout(operand)
            if source in self.by_node:
                self.values[source] = None
            else:
                self._read(operand, site.node)

    def _read(self, value: Any, reader: fx.Node) -> None:
        """This reader, too, reads its quantized value."""
        readers = self.values.setdefault(value, [])
        if readers is not None and reader not in readers:
            readers.append(reader)

    def add_outputs(self) -> None:
        """Quantize what the sparse kernels output: proj and fc2, before the residual addition."""
        for site in self.linears:
            if site.role in BRANCH_ENDS:
                self.values[site.node] = None

"""Say of every attention whether it has a softmax, list each softmax, and take out those that have no effect.

Before:
    weights = aten.softmax.int(scores, -1)                    # scores: f32[2, 4, 1], one element to choose from
    y = aten.mul.Tensor(weights, v)

After:
    zero = aten.mul.Tensor(scores, 0)
    weights = aten.add.Tensor(zero, 1)                        # the softmax of one element is 1
    y = aten.mul.Tensor(weights, v)

With `final=true`, a softmax that only feeds the output goes too: the ranking stays. With `require=softmax-free`, a
softmax that remains is an error that names it: what the pipelines for softmax-free models (Trio-ViT, arXiv 2405.03882)
ask first. Without it, a model with linear attention and no softmax is told of the recipe for such models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import fx

from vitgraph.analysis.attention import find_attentions, find_softmaxes
from vitgraph.errors import CheckFailed
from vitgraph.ir import dialect
from vitgraph.ir.calls import AttentionCall, SoftmaxCall
from vitgraph.ir.dialect import aten
from vitgraph.ir.navigate import path_of
from vitgraph.ir.program import Program
from vitgraph.ir.tensor_type import Size
from vitgraph.pass_manager.findings import AttentionFinding, RecipeFinding, SoftmaxFinding
from vitgraph.pass_manager.pass_contract import Context, Effect, Pass


@dataclass(frozen=True)
class SoftmaxCheck(Pass):
    """Classify attentions, list softmaxes, drop those without effect."""

    name: ClassVar[str] = "softmax-check"
    effect: ClassVar[Effect] = (
        Effect.REORDERS
    )  # a value seen once for every query lies otherwise in memory: sums of it round otherwise

    final: bool = False
    """Also drop a last softmax, which moves the numbers and keeps their order."""
    require: Literal["", "softmax-free"] = ""
    """softmax-free: a softmax that remains is an error."""

    def declares(self) -> Effect:
        """Dropping the final softmax keeps only the ranking."""
        return Effect.RANKING if self.final else self.effect

    def run(self, program: Program, context: Context) -> None:
        """Rewrite, then record what there is; `CheckFailed` where a softmax remains that must not."""
        for node in program.calls(aten.softmax.int, dialect.attention):
            if _one_element(node) and context.take(self.name, path_of(node)):
                _drop_single(program, node)
        if self.final:
            for node in reversed(program.calls(aten.softmax.int, aten.log_softmax.int)):
                if _is_final(node) and context.take(self.name, path_of(node)):
                    node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
                    program.graph.erase_node(node)
        softmaxes = find_softmaxes(program)
        attentions = find_attentions(program)
        for site in attentions:
            context.findings.append(AttentionFinding(site.path, site.kind))
        for spelling, node in softmaxes:
            context.findings.append(SoftmaxFinding(path_of(node), spelling))
        if self.require == "" and not softmaxes and any(site.kind == "linear" for site in attentions):
            context.findings.append(RecipeFinding("trio", "linear attention and no softmax: what Trio-ViT is for"))
        if self.require == "softmax-free" and softmaxes:
            named = "\n".join(f"  {path_of(node)} ({spelling})" for spelling, node in softmaxes)
            raise CheckFailed(
                f"softmax-check: {program.name} must be softmax-free, and {len(softmaxes)} softmax(es) remain:\n{named}\n"
                "use a softmax-free model (such as EfficientViT); for this one take the recipe int8, or leave "
                "require=softmax-free out"
            )


def _one_element(node: fx.Node) -> bool:
    """Is there only one thing to choose from?"""
    attention = AttentionCall.of(node)
    if attention is not None:
        q, k, v = map(_shape, attention.operands)
        return k[-2] == 1 and q[:-2] == v[:-2] and not attention.is_rounded
    softmax = SoftmaxCall(node)
    return _shape(softmax.data)[softmax.dim] == 1


def _shape(value: Any) -> tuple[Size, ...]:
    return value.meta["type"].shape  # type: ignore[no-any-return]


def _drop_single(program: Program, node: fx.Node) -> None:
    """The softmax of one element is 1; an attention over one key is its value, for every query."""
    attention = AttentionCall.of(node)
    if attention is not None:
        q, v = attention.q, attention.v
        sizes = [-1] * (q.meta["type"].rank - 2) + [q.meta["type"].shape[-2], -1]
        same = q.meta["type"].shape[-2] == 1
        new = v if same else program.insert(node, aten.expand.default, v, sizes)
    else:
        zero = program.insert(node, aten.mul.Tensor, node.args[0], 0)  # NaN for NaN and infinity, as a softmax
        new = program.insert(node, aten.add.Tensor, zero, 1)
    node.replace_all_uses_with(new)
    program.graph.erase_node(node)


def _is_final(node: fx.Node) -> bool:
    """Over the last dimension, and read by the output alone."""
    last = SoftmaxCall(node).dim in (-1, node.meta["type"].rank - 1)
    return last and all(user.op == "output" for user in node.users)

"""The form of a program in which sites, products and attentions are found: what counting and searching start from."""

from __future__ import annotations

from vitgraph.ir.program import Program
from vitgraph.pass_manager.pass_contract import Context
from vitgraph.passes import pipeline

PREPARED = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants"
"""What brings a captured graph to the form in which products and attentions are found."""


def prepare(program: Program) -> Program:
    """A captured program brought to the form in which products are found; a canonical one as it is."""
    return program if program.form == "canonical" else pipeline(PREPARED).run(program, Context(), [])

"""What a random module is made of: templates of one line each, by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.fuzz.operators.attention import ATTENTION
from tests.fuzz.operators.images import IMAGES
from tests.fuzz.operators.layout import LAYOUT
from tests.fuzz.operators.norms import NORMS
from tests.fuzz.operators.outside import OUTSIDE
from tests.fuzz.operators.pointwise import ACTIVATIONS, ARITHMETIC, CONSTANTS, IN_PLACE, LOGIC, TYPES
from tests.fuzz.operators.products import PRODUCTS
from tests.fuzz.operators.reductions import REDUCTIONS
from tests.fuzz.writer import Writer

Operator = str | Callable[[Writer], str]
"""A template (see `slots`), or a function that writes the line."""

FAMILIES: Mapping[str, tuple[Operator, ...]] = {
    "arithmetic": ARITHMETIC,
    "constants": CONSTANTS,
    "activations": ACTIVATIONS,
    "logic": LOGIC,
    "in place": IN_PLACE,
    "types": TYPES,
    "layout": LAYOUT,
    "products": PRODUCTS,
    "norms": NORMS,
    "attention": ATTENTION,
    "reductions": REDUCTIONS,
    "images": IMAGES,
    "outside": OUTSIDE,
}
"""Within a family every line is drawn as often as another."""

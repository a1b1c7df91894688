"""The test plugin, made known to this process; and a small program for it to break."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

PLUGIN = Path(__file__).resolve().parent / "plugin"

MLP = """
# program: mlp
# form: canonical
x: f32[4, 8] = input()
a: f32[16, 8] = weight("fc1.weight")
b: f32[16] = weight("fc1.bias")
h: f32[4, 16] = aten.linear.default(x, a, b)  # fc1
g: f32[4, 16] = aten.gelu.default(h)  # act
c: f32[8, 16] = weight("fc2.weight")
d: f32[8] = weight("fc2.bias")
y: f32[4, 8] = aten.linear.default(g, c, d)  # fc2
e: f32[10, 8] = weight("head.weight")
f: f32[10] = weight("head.bias")
z: f32[4, 10] = aten.linear.default(y, e, f)  # head
return_(z)
"""


@contextmanager
def installed() -> Generator[None]:
    """The plugin's entry points are found inside the block, and forgotten after it."""
    from vitgraph.backends import all_backends
    from vitgraph.passes import all_passes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(PLUGIN), *sys.path])
        for found in (all_passes, all_backends):
            found.cache_clear()
        yield
    for found in (all_passes, all_backends):
        found.cache_clear()

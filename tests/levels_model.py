"""A small space of levels, without a model: four layers of two shapes, 1:4, 2:4 and dense."""

from vitgraph.ir.packing import Packing
from vitgraph.searching.levels import Layer, LevelCost, Space

LEVELS = (Packing(1, 4), Packing(2, 4), Packing(4, 4))


def layer(path: str, n: int, k: int) -> Layer:
    """A linear of K inputs and N outputs on ten rows."""
    return Layer(path, "fc1", f"{path}.weight", n, k, 10 * n * k, LEVELS)


SPACE = Space((layer("a", 8, 8), layer("b", 32, 8), layer("c", 8, 8), layer("d", 32, 8)))
COST = LevelCost("FLOPs", 1000.0, tuple(tuple(each.macs * level.kept for level in LEVELS) for each in SPACE.layers))

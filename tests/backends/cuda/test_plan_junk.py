"""Plans with random junk in them: whatever is not refused runs."""

import json
import random
from collections import Counter
from typing import Any

import pytest

from tests.backends.cuda.lowered_models import digits_images, lowered_digits
from vitgraph.backends.cuda.lowered import Lowered
from vitgraph.backends.cuda.plan_check import check_plan
from vitgraph.backends.cuda.plan_file import plan_from_json, plan_to_json
from vitgraph.backends.cuda.twin import Twin
from vitgraph.errors import InputError

JUNK: list[Any] = [
    None, True, 0, -1, 3, 2**70, 1e308, float("nan"), -2.0, "", "x", "N", "layer_norm", "linear", "torch", "aten.relu.default",
    "f16[N, 37, 64]", "i8[N, 37, 64]", "f16[N, 9999999, 9999999]", "\x1b[31m", [], [[]], {}, {"a": 1, "b": 2},
    {"value": []}, {"value": "layer_norm"}, {"weight": "linear.codes"}, {"weight": 3}, {"size": 3}, {"size": "-3*N+9"},
    {"dtype": []}, {"dtype": "f32"}, {"dtype": "zz"}, {"number": "nan"}, {"number": []},
]  # fmt: skip
Place = tuple[Any, ...]


def places(value: Any, at: Place = ()) -> list[Place]:
    """Every place in a JSON value."""
    keys: list[Any] = list(value) if isinstance(value, dict) else [*range(size_of(value))]  # pyright: ignore[reportUnknownArgumentType]
    return [at, *(place for key in keys for place in places(value[key], (*at, key)))]


def size_of(value: Any) -> int:
    """Of a list; nothing is inside anything else."""
    return len(value) if isinstance(value, list) else 0  # pyright: ignore[reportUnknownArgumentType]


def spoiled(text: str, chosen: random.Random, all_places: list[Place]) -> dict[str, Any]:
    """A plan in which something is junk, is gone, comes twice, or stands where something else stood."""
    plan, source = json.loads(text), json.loads(text)
    *above, last = chosen.choice(all_places[1:])
    holder: Any = plan
    for key in above:
        holder = holder[key]
    way = chosen.random()
    if way < 0.6:
        holder[last] = chosen.choice(JUNK)
    elif way < 0.7:
        del holder[last]
    elif way < 0.8 and isinstance(holder, list):
        holder.append(source)  # pyright: ignore[reportUnknownMemberType]
    else:
        for key in chosen.choice(all_places[1:]):
            source = source[key]
        holder[last] = source
    return dict(plan)


def outcome(plan: dict[str, Any], lowered: Lowered) -> str:
    """What becomes of it; any exception but `InputError` is a fault of the check."""
    try:
        read = Lowered(plan_from_json(plan), lowered.tensors)
        check_plan(read, "plan")
        twin = Twin(read.plan, read.tensors)
    except InputError:
        return "refused"
    images = digits_images(2)
    twin.run(images) if twin.input_shape[1:] == images.shape[1:] else None
    return "ran"


def count(seed: int, tries: int) -> Counter[str]:
    lowered, chosen = lowered_digits("sparse-int8"), random.Random(seed)
    text = json.dumps(plan_to_json(lowered.plan))
    where = places(json.loads(text))
    return Counter(outcome(spoiled(text, chosen, where), lowered) for _ in range(tries))


def test_junk_is_refused_or_runs() -> None:
    found = count(0, 120)
    assert found["refused"] > 60
    assert found["ran"] > 5, "names of modules and the like may be anything"


@pytest.mark.slow
def test_much_junk_is_refused_or_runs() -> None:
    assert count(1, 1500)["refused"] > 1000

"""What a compilation that keeps its contract is still to be warned of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitgraph.compile.report import AccuracyPart, EmbeddingPart
    from vitgraph.pass_manager.pipeline import Pipeline

LEAST_COSINE = 0.95
"""Of features: the mean cosine between before and after below which they are told."""
MOST_DIFFERENT = 10.0
"""Without labels: the share of images, in percent, from which on predictions that differ are told."""
_BETTER = {
    "int8": "--recipe int8-best reconstructs layer by layer, ",
    "trio": "--recipe trio-best reconstructs block by block, ",
}
"""By recipe, the one that does the same with more care."""
_SEARCH = (
    "`vitgraph search MODEL --method elsa --target TARGET --budget 1.5x --train-data DIR -o OUT` takes fewer weights "
    "where that costs most, "
)
_TRAINING = "`vitgraph train MODEL --recipe {} --train-data DIR -o OUT` regains the rest (docs/training.md)"


def warnings_of(accuracy: AccuracyPart | None, steps: Pipeline, recipe: str, most: float) -> list[str]:
    """A line where the accuracy that was measured is more than `most` points of top-1 below the reference, and where that is none."""
    if accuracy is None:
        return []
    if accuracy.not_finite_reference:
        return [_of_reference(accuracy)]
    found, names = accuracy.embedding, {step.name for step in steps.passes}
    told = _fall(accuracy, most) if found is None else _features_fall(found, most)
    return [] if told is None else [f"{told}; {_remedy(names, recipe, found is not None)}"]


def _of_reference(accuracy: AccuracyPart) -> str:
    return (
        f"the model as it came gives NaN or infinity for {accuracy.not_finite_reference} of {accuracy.images} images, "
        "so accuracy beside it says little; look at its weights (--weights) and pre-processing (--mean, --std)"
    )


def _fall(accuracy: AccuracyPart, most: float) -> str | None:
    before, after = accuracy.top1_reference, accuracy.top1
    if accuracy.agreement is None:
        return None
    if before is None or after is None:
        differ = 100 - accuracy.agreement
        return f"another class is predicted for {differ:.1f} % of the images" if differ > MOST_DIFFERENT else None
    if before - after <= most:
        return None
    return f"top-1 fell by {before - after:.2f} points, from {before:.2f} to {after:.2f} %"


def _features_fall(found: EmbeddingPart, most: float) -> str | None:
    before, after = found.knn_top1_reference, found.knn_top1
    if before is not None and after is not None and before - after > most:
        return f"top-1 by neighbours fell by {before - after:.2f} points, from {before:.2f} to {after:.2f} %"
    if found.cosine_mean < LEAST_COSINE:
        return f"features turned: their cosine with those before is {found.cosine_mean:.3f} on average"
    return None


def _remedy(steps: set[str], recipe: str, features: bool) -> str:
    """What regains accuracy, by what cost it; what needs classes is no remedy for features."""
    if "block-prune" in steps:
        larger = "a larger block-prune{budget=…} in --pipeline takes fewer weights"
        return larger if features else f"{larger}, and training regains the rest (docs/training.md)"
    if "nm-mask" in steps:
        better = "--recipe sparse-int8-best fits what stays, " if recipe == "sparse-int8" else ""
        if features:
            return better.removesuffix(", ") or "nm-mask{skip=…} in --pipeline leaves linears dense"
        return f"{better}{_SEARCH}and {_TRAINING.format('gpusq' if 'quantize' in steps else 'sparse-finetune')}"
    if "quantize" in steps:
        own = "quantize{skip=…} in --pipeline leaves sites in floating point"
        return _BETTER.get(recipe, "") + (
            own if features else "--max-drop POINTS lets the sites that cost most fall back"
        )
    return f'`vitgraph bisect MODEL --pipeline TEXT --check "{"cosine" if features else "top1_agreement"}>=0.99"` finds the pass that cost it'

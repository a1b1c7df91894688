"""`vitgraph passes`, `targets` and `recipes`: what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vitgraph.tools.command import Answer, command
from vitgraph.tools.completion import pass_names
from vitgraph.tools.drawing import group, table


def declare(app: typer.Typer) -> None:
    """Add the three commands."""
    command(app, "passes")(list_passes)
    command(app, "targets")(list_targets)
    command(app, "recipes")(list_recipes)


def list_passes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one in full.", autocompletion=pass_names)
    ] = None,
) -> Answer:
    """List every pass in its order, with its effect and its options; or one with all that there is to know of it."""
    if name is not None:
        from vitgraph.tools.pass_page import describe_pass

        return describe_pass(name)
    from vitgraph.passes import all_passes

    found = [_describe_pass(name, place) for name, place in all_passes().items()]
    rows = [
        [each["name"], each["effect"] or "", _options(each["options"]), each["summary"], each["error"] or ""]
        for each in found
    ]
    return Answer({"passes": found}, table(["pass", "effect", "options", "what it does", ""], rows))


def _describe_pass(name: str, place: str) -> dict[str, Any]:
    """A pass as JSON; one that can't be loaded is listed with the reason."""
    from vitgraph.passes import find_pass
    from vitgraph.tools.pass_page import options_of_class

    try:
        kind = find_pass(name)
        told = options_of_class(kind)
    except Exception as error:  # noqa: BLE001  a package of somebody else's may fail in any way
        why = f"can't be loaded from {place}: {type(error).__name__}: {error}"
        return {"name": name, "effect": None, "summary": "", "options": {}, "place": place, "error": why}
    options = {option: {"type": each["type"], "default": each["default"]} for option, each in told.items()}
    summary = (kind.__doc__ or "").strip().partition("\n")[0]
    effect = kind.effect.value
    return {"name": name, "effect": effect, "summary": summary, "options": options, "place": place, "error": None}


def _options(options: dict[str, Any]) -> str:
    from vitgraph.pass_manager.pipeline import show_value

    return " ".join(f"{name}={show_value(option['default'])}" for name, option in options.items())


def list_targets() -> Answer:
    """List every device, what it can do, and where its engine is built."""
    from vitgraph.targets.target import target_names

    found = [_describe_target(name) for name in target_names()]
    columns = ["target", "device", "sm", "types", "N:M", "fused attention", "engine"]
    return Answer({"targets": [data for data, _ in found]}, table(columns, [row for _, row in found]))


def _describe_target(name: str) -> tuple[dict[str, Any], list[str]]:
    """A target as JSON and as a row; one of another package that can't be loaded is listed with the reason."""
    from vitgraph.errors import InputError
    from vitgraph.targets.target import get_target

    try:
        target = get_target(name)
    except InputError as error:
        return {"name": name, "error": str(error)}, [name, "", "", "", "", "", str(error)]
    row = [
        target.name,
        target.title,
        target.sm or "",
        " ".join(target.rates),
        " ".join(f"{n}:{m}" for n, m in target.sparse.patterns) if target.sparse else "none",
        " ".join(target.attention_kernels) or "none",
        target.no_builder_here or ", ".join(f"{b.role} ({flavour})" for flavour, b in target.builders.items()),
    ]
    return target.model_dump(mode="json") | {"error": None}, row


def list_recipes() -> Answer:
    """List every recipe and its pipeline, and those of `vitgraph train` with their stages."""
    from vitgraph.compile.recipe import load_recipe, recipe_names
    from vitgraph.finetuning.recipe import load_training_recipe, training_recipe_names
    from vitgraph.passes import find_pass

    recipes = [load_recipe(name, find_pass) for name in recipe_names()]
    found = [{"name": r.name, "description": r.description, "pipeline": str(r.pipeline)} for r in recipes]
    rows = [[each["name"], each["description"], each["pipeline"]] for each in found]
    training = [load_training_recipe(name, find_pass) for name in training_recipe_names()]
    stages = [
        [each.name, each.description, "\n".join(f"{s.name}: {s.passes}" for s in each.stages)] for each in training
    ]
    parts = [
        table(["recipe", "what it makes", "pipeline"], rows),
        table(["recipe of `vitgraph train`", "what it makes", "stages"], stages),
    ]
    return Answer({"recipes": found, "training": [_describe_training(each) for each in training]}, group(*parts))


def _describe_training(recipe: Any) -> dict[str, Any]:
    """A training recipe as JSON."""
    stages = [
        {"name": each.name, "passes": str(each.passes), "training": each.settings.plain()} for each in recipe.stages
    ]
    return {"name": recipe.name, "description": recipe.description, "stages": stages, "engine": str(recipe.engine)}

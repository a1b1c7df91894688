"""Recipes: what comes with vitgraph loads, names known passes, and survives YAML; a bad one says what is wrong."""

from pathlib import Path

import pytest

from vitgraph.compile.recipe import Recipe, load_recipe, recipe_names
from vitgraph.errors import InputError
from vitgraph.passes import ORDER, find_pass

PREFIX = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fold-layer-scale,fuse-attention,fold-constants,softmax-check,"


@pytest.mark.parametrize("name", recipe_names())
def test_each_packaged_recipe(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, find_pass)
    assert recipe.name == name
    assert recipe.description
    assert {step.name for step in recipe.pipeline.passes} <= set(ORDER)
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    assert load_recipe(str(file), find_pass) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_each_packaged_recipe_keeps_the_order(name: str) -> None:
    steps = [step.name for step in load_recipe(name, find_pass).pipeline.passes]
    first = [list(ORDER).index(step) for position, step in enumerate(steps) if step not in steps[:position]]
    assert first == sorted(first)


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        ("fp16", "assign-precision{to=f16},materialize,legalize"),
        ("bf16", "assign-precision{to=bf16},materialize,legalize"),
        ("int8", "balance-attention,smooth-quant,quantize,absorb-shifts,assign-precision,materialize,legalize"),
        ("fp8", "quantize{weight_format=fp8 activation_format=fp8},assign-precision,materialize,legalize"),
        (
            "w4a8",
            "balance-attention,smooth-quant,quantize{weights=mse weight_format=int4},absorb-shifts,assign-precision,materialize,legalize",
        ),
        (
            "w4a4",
            "balance-attention,smooth-quant,quantize{weights=mse weight_format=int4 activation_format=int4},"
            + "absorb-shifts,materialize,legalize",
        ),
        (
            "int8-best",
            "split-outliers,balance-attention,smooth-quant,quantize,reconstruct,absorb-shifts,assign-precision,materialize,legalize",
        ),
        (
            "lpvit",
            "block-prune{budget=0.9 rows=16 cols=16 refit=true},remove-pruned,assign-precision,materialize,legalize",
        ),
        (
            "lpvit-int8",
            "block-prune{budget=0.9 granularity=units refit=true},remove-pruned,balance-attention,smooth-quant,quantize,absorb-shifts,"
            + "assign-precision,materialize,legalize",
        ),
        (
            "sparse-int8",
            "nm-mask,balance-attention,smooth-quant,equalize-outputs,quantize{outputs=true},absorb-shifts,assign-precision,materialize,legalize",
        ),
        (
            "sparse-int8-best",
            "permute-channels{score=wanda},nm-mask{score=sparsegpt refit=true},balance-attention,smooth-quant,equalize-outputs,"
            + "quantize{outputs=true},absorb-shifts,assign-precision,materialize,legalize",
        ),
    ],
)
def test_what_the_recipes_hold(name: str, rest: str) -> None:
    held = "" if name.startswith("lpvit") else "hold-patterns,"  # block-prune holds what it prunes
    assert str(load_recipe(name, find_pass).pipeline) == PREFIX + held + rest


@pytest.mark.parametrize(
    ("name", "rest"),
    [
        (
            "trio",
            "channel-migrate,filter-shift,quantize{weights=mse only=[*]},quantize-linear-attention,absorb-shifts,assign-precision,"
            + "materialize,legalize",
        ),
        (
            "trio-best",
            "channel-migrate,filter-shift,quantize{weights=mse only=[*]},quantize-linear-attention,reconstruct,"
            + "absorb-shifts,assign-precision,materialize,legalize",
        ),
        (
            "trio-dense",
            "reassociate-linear-attention,filter-shift,quantize{weights=mse dense=true only=[*]},absorb-shifts,assign-precision,"
            + "materialize,legalize",
        ),
    ],
)
def test_what_the_recipes_without_softmax_hold(name: str, rest: str) -> None:
    checked = PREFIX.replace("softmax-check,", "softmax-check{require=softmax-free},")
    assert str(load_recipe(name, find_pass).pipeline) == checked + rest


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("pipeline: [canonicalize, {nm-mask: {n: 1, m: 4, only: [fc1]}}]", encoding="utf-8")
    recipe = load_recipe(str(file), find_pass)
    assert (recipe.name, recipe.description) == ("mine", "")
    assert str(recipe.pipeline) == "canonicalize,nm-mask{n=1 only=[fc1]}"
    assert isinstance(recipe, Recipe)


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(InputError, match="did you mean sparse-int8"):
        load_recipe("sparse-int", find_pass)
    with pytest.raises(
        InputError,
        match="there are bf16, fp16, fp8, int8, int8-best, lpvit, lpvit-int8, sparse-int8, sparse-int8-best, trio, trio-best, trio-dense, w",
    ):
        load_recipe("zzz", find_pass)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("pipeline: [", "not YAML"),
        ("- canonicalize", "key `pipeline`"),
        ("name: x", "key `pipeline`"),
        ("pipeline: canonicalize", "list of passes"),
        ("pipeline: [nope]", "no pass 'nope'"),
        ("pipeline: [{nm-mask: {k: 2}}]", "no option 'k'"),
        ("pipeline: [{nm-mask: {n: two}}]", "option 'n'"),
        ("pipeline: [[canonicalize]]", "a step of a pipeline"),
    ],
)
def test_a_bad_file_says_what_is_wrong(content: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=why):
        load_recipe(str(file), find_pass)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        load_recipe(str(tmp_path / "none.yaml"), find_pass)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        load_recipe(str(binary), find_pass)

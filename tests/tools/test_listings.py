"""`vitgraph passes`, `targets`, `recipes`."""

from tests.planted import installed
from tests.tools.conftest import Cli
from vitgraph.compile.recipe import recipe_names
from vitgraph.passes import ORDER, all_passes
from vitgraph.targets.target import target_names


def test_passes_stand_in_order_with_their_options(cli: Cli) -> None:
    found = cli("passes", "--json").json["passes"]
    assert [each["name"] for each in found][: len(ORDER)] == list(ORDER)
    assert [each for each in found if each["error"]] == []
    (mask,) = (each for each in found if each["name"] == "nm-mask")
    assert mask["effect"] == "lossy"
    assert mask["options"]["n"]["default"] == 2
    assert "n=2 m=4 group_size=1 v=1 score=magnitude" in cli("passes").out


def test_passes_of_other_packages_are_listed_even_where_they_cannot_be_loaded(cli: Cli) -> None:
    with installed():
        found = {each["name"]: each for each in cli("passes", "--json").json["passes"]}
    assert found["planted-loud"]["effect"] == "lossy"
    assert "NoSuchClass" in found["planted-missing"]["error"]
    assert "planted-loud" not in all_passes()


def test_targets(cli: Cli) -> None:
    found = cli("targets", "--json").json["targets"]
    assert [each["name"] for each in found] == list(target_names())
    assert all(name in cli("targets").out for name in target_names())


def test_recipes(cli: Cli) -> None:
    found = cli("recipes", "--json").json["recipes"]
    assert [each["name"] for each in found] == recipe_names()
    assert all(each["description"] and "canonicalize" in each["pipeline"] for each in found)


def test_a_pipe_gets_whole_rows(cli: Cli) -> None:
    lines = cli("recipes").out.splitlines()
    assert sum(line.strip().startswith("sparse-int8 ") and "legalize" in line for line in lines) == 1
    assert all(line == line.rstrip() for line in lines)

"""A name of before is answered with the name of today, and none is a name of today by itself."""

from dataclasses import fields

import pytest

from vitgraph.errors import InputError
from vitgraph.pass_manager.former_names import PASS_OPTIONS, PASSES
from vitgraph.passes import all_passes, find_pass, pipeline

OPTIONS = [(name, old, new) for name, options in PASS_OPTIONS.items() for old, new in options.items()]


@pytest.mark.parametrize(("old", "new"), PASSES.items())
def test_a_pass(old: str, new: str) -> None:
    assert old not in all_passes()
    assert find_pass(new).name == new
    with pytest.raises(InputError, match=f"{old}.* is called .*{new}.* now"):
        pipeline(f"canonicalize,{old}")


@pytest.mark.parametrize(("name", "old", "new"), OPTIONS)
def test_an_option_of_a_pass(name: str, old: str, new: str) -> None:
    known = {field.name for field in fields(find_pass(name))}
    assert (old in known, new in known) == (False, True)
    with pytest.raises(InputError, match=f"option '{old}' is called '{new}' now"):
        pipeline(f"{name}{{{old}=1}}")

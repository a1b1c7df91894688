"""Names that may come in from a file, and those that may not."""

import pytest

from vitgraph.ir.names import MAX_NAME, check_tensor_name, check_value_name


@pytest.mark.parametrize(
    "name", ["w", "blocks.0.attn.qkv.weight", "L__self___x.w", "layer-1.w", "_w_1", "a" * MAX_NAME]
)
def test_names_of_tensors(name: str) -> None:
    assert check_tensor_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "a..b", "a b", 'a"', "a'", "a\n", "a\\", "a#", "a(b)", "a[0]", "é", "a.__class__", "__init__", "if", "a.in.b",
     "a" * (MAX_NAME + 1), "a." * 40 + "a", 3, None],
)  # fmt: skip
def test_what_is_no_name_of_a_tensor(name: object) -> None:
    with pytest.raises(ValueError, match="no name of a tensor"):
        check_tensor_name(name)


def test_names_of_values() -> None:
    assert [check_value_name(name) for name in ("x", "_x1", "input")] == ["x", "_x1", "input"]
    for name in (
        "self",
        "torch",
        "device",
        "inf",
        "getattr",
        "lambda",
        "1x",
        "a.b",
        "a b",
        "",
        "é",
        "a" * (MAX_NAME + 1),
    ):
        with pytest.raises(ValueError, match="can't be the name of a value"):
            check_value_name(name)

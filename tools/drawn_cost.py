"""How `vitgraph inspect --cost` is drawn: tables of counts, of the papers' counts, and of estimates."""

from __future__ import annotations

from typing import Any

from vitgraph.tools.drawing import group, table


def draw_cost(data: dict[str, Any]) -> Any:
    """All of it, for a model that was counted just now."""
    return group(
        draw_facts(data["name"], data),
        _drawn_roles(data["roles"], data["parameters"]),
        _drawn_flops(data),
        _drawn_uniform(data["uniform"]),
        _drawn_packed(data["packed"]),
        draw_estimates(data),
    )


def draw_facts(name: str, data: dict[str, Any]) -> Any:
    """The counts."""
    stored = data["weight_bytes"]
    ratio = "" if stored["ratio"] is None else f", FP32 over this {stored['ratio']:.2f}x"
    rows = [["weights", str(data["weights"])]] if "weights" in data else []
    rows += [
        ["parameters", f"{data['parameters'] / 1e6:.3f} M{_not_zero(data['nonzero_parameters'], 1e6, 'M')}"],
        ["multiply-accumulates", f"{_giga(data['macs'])} G{_not_zero(data['nonzero_macs'], 1e9, 'G')}"],
        ["bit operations", f"{_giga(data['bit_operations'])} G"],
        ["stored", f"{stored['stored']:,} bytes with packed zeros, {stored['unpacked']:,} without{ratio}"],
    ]
    return table([name, "one image"], rows)


def _not_zero(value: int | None, unit: float, letter: str) -> str:
    return "" if value is None else f", not zero {value / unit:.3f} {letter}"


def _giga(value: int) -> str:
    return f"{value / 1e9:.3f}"


def _drawn_roles(roles: dict[str, dict[str, int]], parameters: int) -> Any:
    rows = [
        [
            role,
            str(each["sites"]),
            f"{each['weights'] / 1e6:.3f}",
            _percent(each["weights"], parameters),
            _giga(each["macs"]),
        ]
        for role, each in roles.items()
    ]
    return table(["role", "sites", "weights M", "% of parameters", "MACs G"], rows)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f}"


def _drawn_flops(data: dict[str, Any]) -> Any:
    rows = [["vitgraph", _giga(data["nonzero_macs"] or data["macs"]), "multiply-accumulates of every product"]]
    rows += [[name, _giga(each["flops"]), each["counts"]] for name, each in data["counted_by"].items()]
    return table(["counted by", "G", "what is counted"], rows)


def _drawn_uniform(found: list[dict[str, Any]]) -> Any:
    rows = [[each["pattern"], f"{each['macs'] / 1e9:.2f} G ({each['ratio']:.2f}x)"] for each in found]
    return table(["if every block linear were", "multiply-accumulates (patch merging, head, attention dense)"], rows)


COUNTS = {
    "every_parameter": "size, every parameter packed (GPUSQ-ViT's way)",
    "block_linears": "size, block linears packed, the rest in FP16",
    "bit_operations": "bit operations, all products at this width",
    "bit_operations_rest_fp32": "bit operations, all but block linears in FP32",
}


def _drawn_packed(found: list[dict[str, Any]]) -> Any:
    heads = [f"INT{each['bits']} {each['pattern']}" for each in found]
    rows = [[text, *(f"{each[key]:.2f}x" for each in found)] for key, text in COUNTS.items()]
    return table(["FP32 over sparse: what is counted", *heads], rows if found else [])


def draw_estimates(data: dict[str, Any]) -> Any:
    """One line for each target; a compilation of an earlier version has no estimates."""
    by_target: dict[str, float | None] = data.get("estimated_ms") or {}
    forms: dict[str, dict[str, float | None]] = data.get("estimated_ms_if", {})
    heads = ["estimated, not measured", "as it is", "", "bound by", *(f"all {form}" for form in forms), ""]
    rows = [_estimate(data, name, [form[name] for form in forms.values()]) for name in by_target]
    notes = [f"{data['estimated_by']}; --published shows its errors", *_measured(data)]
    return group(table(heads, rows), *notes) if rows else ""


def _measured(data: dict[str, Any]) -> list[str]:
    """Which of the numbers have measured products in them."""
    found: dict[str, Any] | None = data.get("measured")
    if found is None:
        return []
    forms = [f"{count} were the program all {form}" for form, count in data.get("measured_if", {}).items()]
    counts = ", ".join([f"{found['measured']} of {found['products']} as it is", *forms])
    return [f"{found['target']}: products measured on {found['card']} in place of estimates: {counts}"]


def _estimate(data: dict[str, Any], target: str, forms: list[float | None]) -> list[str]:
    ms, mj = _amount(data["estimated_ms"][target], "ms"), _amount(data["estimated_mj"][target], "mJ")
    bound, why = data["estimated_bound"][target] or "", data["estimated_why"].get(target, "")
    if data.get("measured", {}).get("target") == target:
        why = "with measured products"
    return [target, ms, mj, bound, *(_amount(form, "ms") for form in forms), why]


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"

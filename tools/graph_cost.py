"""`vitgraph inspect --cost`: what a model costs, counted honestly and as the papers count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraph.errors import InputError
from vitgraph.tools.command import Answer, group, table
from vitgraph.tools.model_options import ModelSettings, is_program, open_program, read_program

if TYPE_CHECKING:
    from vitgraph.program import Program

PREPARED = "canonicalize,fold-constants,fold-batch-norm,fuse-layer-norm,fuse-attention,fold-constants"
"""What brings a captured graph to the form in which products and attentions are found."""


def inspect_cost(model: str, settings: ModelSettings, as_json: bool) -> Answer:
    """What MODEL|PROGRAM|OUT costs; a model's weights are not loaded unless `--weights` asks for them."""
    path = Path(model)
    if (path / "report.json").is_file():
        data = _of_report(path)
        return Answer(data, json.dumps(data, indent=2) if as_json else _drawn_facts(path.name, data))
    if path.suffix in (".onnx", ".json"):
        raise InputError(f"{model}: --cost counts a model, a saved program or a folder of `vitgraph compile`")
    from vitgraph.cost_report import describe_cost, project

    captured = _open(model, settings)
    program = _prepare(captured)
    data = {"name": program.name, **describe_cost(captured, program), **project(captured, program)}
    data["weights"] = captured.provenance.get("weights", "as they stand in the program")
    return Answer(data, json.dumps(data, indent=2) if as_json else _draw(data))


def _of_report(folder: Path) -> dict[str, Any]:
    from vitgraph.report import read_report

    return read_report(folder).cost


def _open(model: str, settings: ModelSettings) -> Program:
    """The program; of a model, with weights only where they were asked for."""
    path = Path(model)
    if path.is_dir() and is_program(path):
        return read_program(path)
    return open_program(model, settings, values=settings.weights is not None)


def _prepare(program: Program) -> Program:
    from vitgraph.contract import Context
    from vitgraph.passes import pipeline

    return program if program.form == "canonical" else pipeline(PREPARED).run(program, Context(), [])


def _draw(data: dict[str, Any]) -> Any:
    return group(
        _drawn_facts(data["name"], data),
        _drawn_roles(data["roles"], data["parameters"]),
        _drawn_flops(data),
        _drawn_uniform(data["uniform"]),
        _drawn_packed(data["packed"]),
    )


def _drawn_facts(name: str, data: dict[str, Any]) -> Any:
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

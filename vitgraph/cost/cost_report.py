"""The report's key `cost`: what a program costs, in one JSON object; and what its model would cost if it were sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vitgraph.cost.counts import count, count_parameters
from vitgraph.cost.estimates import compare_forms, describe_estimates, measured_forms
from vitgraph.cost.fusion import find_kernels
from vitgraph.cost.measured_times import MeasuredTimes
from vitgraph.cost.paper_counts import Packed, Uniform, counted_by, packed, uniform
from vitgraph.cost.products import Product, find_products
from vitgraph.ir.program import Program
from vitgraph.targets.target import Target


def describe_cost(
    captured: Program,
    program: Program,
    batch: int = 1,
    targets: Sequence[Target] | None = None,
    times: MeasuredTimes | None = None,
) -> dict[str, Any]:
    """Report key `cost`: honest counts, each paper's, by role, and estimates for a batch on these targets, or on all.

    `captured` is the program before compilation.
    """
    products = find_products(program)
    known = not any(tensor.is_meta for tensor in program.tensors().values())
    unknown = {"nonzero_parameters": None, "nonzero_macs": None, "nonzero_why": "the weights were not loaded"}
    return {
        **count(program, captured, products).to_json(),
        **({} if known else unknown),
        "counted_by": counted_by(program, products),
        "roles": _roles(program, products),
        **describe_estimates(find_kernels(program, products), batch, targets, times),
    }


def project(
    captured: Program,
    program: Program,
    batch: int = 1,
    targets: Sequence[Target] | None = None,
    times: MeasuredTimes | None = None,
) -> dict[str, Any]:
    """What every block linear at one N:M, or packed at one width, would come to, and the time of other types."""
    products = find_products(program)
    parameters = count_parameters(captured, products if captured is program else ())
    kernels = find_kernels(program, products)
    measured = {} if times is None else {"measured_if": measured_forms(kernels, batch, times)}
    return {
        "uniform": [_plain(each) for each in uniform(products)],
        "packed": [_plain(each) for each in packed(program, products, parameters)],
        "estimated_ms_if": compare_forms(kernels, batch, targets, times),
        **measured,
    }


def _plain(each: Uniform | Packed) -> dict[str, Any]:
    return {**asdict(each), "pattern": str(each.pattern)}


def _roles(program: Program, products: Sequence[Product]) -> dict[str, dict[str, int]]:
    """Sites, weights and multiply-accumulates by role; an attention is one site of two products."""
    found = dict[str, dict[str, int]]()
    for role in dict.fromkeys(product.role for product in products):
        own = [product for product in products if product.role == role]
        names = {product.weight for product in own if product.weight is not None}
        found[role] = {
            "sites": len({product.node for product in own}),
            "weights": sum(program.tensor(name).numel() for name in names),
            "macs": sum(product.macs for product in own),
            "nonzero_macs": sum(product.nonzero_macs for product in own),
        }
    return found

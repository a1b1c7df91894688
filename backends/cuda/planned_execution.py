"""What a plan computes each site in, as runners say it."""

from __future__ import annotations

from vitgraph.backends.cuda.plan import Plan
from vitgraph.runtime.backend import Execution


def planned_execution(plan: Plan) -> Execution:
    """By module path; a module that runs several linears is numbered from the second on."""
    kinds: dict[str, dict[str, str]] = {"linear": {}, "attention": {}}
    for site in plan.sites:
        found = kinds[site.kind]
        again = sum(path.partition(" #")[0] == site.path for path in found)
        found[f"{site.path} #{again + 1}" if again else site.path] = site.format.partition(" ")[0]
    linears = [site for site in plan.sites if site.kind == "linear"]
    sparse = sum("2:4" in site.format for site in linears)
    settings = {"2:4": f"{sparse} of {len(linears)} linears", "compiled for": plan.target or "no device in particular"}
    return Execution(kinds["linear"], kinds["attention"], settings)

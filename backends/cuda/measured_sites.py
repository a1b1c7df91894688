"""What was measured of a plan's sites, put into what its report says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vitgraph.cost.measured import Measured


def with_measured(sites: Sequence[dict[str, Any]], measured: Measured, batch: int) -> list[dict[str, Any]]:
    """The rows with `measured_us` in each linear's own format where it was timed at this batch, and `measured_why` where not."""
    return [site | _measured(site, measured, batch) for site in sites]


def _measured(site: dict[str, Any], measured: Measured, batch: int) -> dict[str, Any]:
    if site["kind"] != "linear":
        return {"measured_us": None, "measured_why": "linears are timed, attention is not"}
    found = measured.of_site(site["path"], batch)
    if len(found) != 1:
        why = "several linears of this module were timed" if found else f"was not timed at a batch of {batch}"
        return {"measured_us": None, "measured_why": why}
    time = next((each for each in found[0].times if each.form == site["format"]), None)
    if time is None:
        return {"measured_us": None, "measured_why": f"was not timed in {site['format']}"}
    return {"measured_us": time.us, "measured_why": time.why}

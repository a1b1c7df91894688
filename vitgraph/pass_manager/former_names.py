"""Names that passes, their options and command-line options had before 0.1: each is answered with the name of today."""

from __future__ import annotations

from collections.abc import Mapping

PASSES: Mapping[str, str] = {
    "place": "mixed-precision",
    "smooth": "smooth-quant",
    "even-outputs": "equalize-outputs",
    "remove-empty": "remove-pruned",
    "fold-shifts": "absorb-shifts",
}
PASS_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "nm-mask": {"together": "group_size", "damp": "percdamp"},
    "block-prune": {
        "of": "granularity",
        "by": "metric",
        "even": "uniform",
        "least": "min_keep",
        "damp": "percdamp",
    },
    "mixed-precision": {"float_sites": "max_float_layers"},
}
COMMAND_OPTIONS: Mapping[str, str] = {
    "--keep-only-paying": "--drop-unprofitable-masks",
    "--evidence": "--measured",
    "--measured-layers": "--measured",
    "--float-sites": "--max-float-layers",
    "--on": "--backend",
}

"""Options and arguments that several commands have, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitgraph.domains import ImageCount
from vitgraph.tools.model_options import SAVED_HELP

EVALUATE_HELP = "Labelled images: a folder of class folders, or a folder or .zip with labels.csv (file,index,label)."

Model = Annotated[str, typer.Argument(metavar="MODEL|PROGRAM", help=SAVED_HELP)]
OutputFolder = Annotated[
    Path, typer.Option("-o", "--output", metavar="OUT", help="The folder to write; whole or not at all.")
]
EvaluateData = Annotated[str | None, typer.Option(metavar="DIR|ZIP", help=EVALUATE_HELP, show_default=False)]
EvaluateImages = Annotated[
    ImageCount | None, typer.Option(help="How many of them; all unless given.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT if vitgraph wrote all that is in it.")]

"""What limits a sparse ViT-Tiny: how often images are seen, or how many there are.

    python benchmarks/vit_tiny_images.py --out out/images
    python benchmarks/vit_tiny_images.py --out out/images --only 1386@5546     # 1,386 images, 5,546 looks

Starts from `vit_tiny_sparse.py`'s refitted 2:4 masks and trains under them (`vitgraph train --recipe finetune`, FP32 weights and BF16 products, without labels), each row with so many distinct
images and so many looks, all else equal. Judged on validation500, which nothing is chosen by: top-1, agreement with the dense model, and the divergence from its answers in nats, which
500 images tell more finely. One JSON object on standard output; what is finished in `--out` is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from vit_tiny_sparse import CASES, DATA, LEARNT, Work

from vitgraph.frontend.model_request import ModelRequest
from vitgraph.frontend.open_model import open_model, program_of
from vitgraph.images.data_sources import open_data
from vitgraph.ir.batch import ANY_BATCH
from vitgraph.training.held_out import Judge

SOURCES = ("imagenet/train5174.zip", "imagenet/calibration500.zip")
HELD_OUT = 128
ROWS = ((693, 5546), (1386, 5546), (2773, 5546), (5546, 5546), (5546, 2773), (5546, 11092), (1386, 11092))
"""Distinct images, besides those held out, and looks at them."""
SETTINGS = (
    "--hard",
    "0",
    "--amp",
    "bf16",
    "--held-out",
    str(HELD_OUT),
    "--batch-size",
    "32",
    "--lr",
    "1e-4",
    "--epochs",
    "1",
)


def subset(work: Work, count: int) -> Path:
    """The first `count` images of one shuffle of all, so that larger sets hold the smaller ones."""
    file = work.out / f"{count}.zip"
    if file.is_file():
        return file
    places = list[tuple[str, str]]()
    for source in SOURCES:
        with ZipFile(work.file(source)) as images:
            places += [(source, name) for name in sorted(images.namelist()) if not name.endswith(".csv")]
    random.Random(0).shuffle(places)
    with ZipFile(file.with_suffix(".part"), "w") as written:
        for source in SOURCES:
            with ZipFile(work.file(source)) as images:
                for place, name in places[:count]:
                    if place == source:
                        written.writestr(f"{Path(source).stem}_{Path(name).name}", images.read(name))
    file.with_suffix(".part").rename(file)
    return file


def judged(program: str, work: Work) -> dict[str, float]:
    """Agreement in percent and divergence in nats from the dense model, on the validation images."""
    teacher = open_model(ModelRequest(work.captured("teacher", "canonicalize")))
    images = replace(open_data(Path(work.file(work.case.evaluation)), teacher.preprocessing), labels=None)
    student = open_model(ModelRequest(program))
    score = Judge(images, program_of(teacher, ANY_BATCH).run).score(program_of(student, ANY_BATCH).run)
    return {"agreement": score.accuracy, "divergence": score.divergence}


def row(work: Work, count: int, looks: int) -> dict[str, Any]:
    """One training."""
    out = work.out / f"{count}_{looks}"
    if not out.is_dir():
        teacher = ("--teacher", work.captured("teacher", "canonicalize"), "--recipe", "finetune")
        images = ("--unlabelled-data", str(subset(work, count + HELD_OUT)), "--epoch-images", str(looks))
        work.run("train", work.start(), *teacher, *images, *work.judged(), *SETTINGS, *LEARNT, "-o", str(out))
    report = json.loads((out / "train.json").read_text())
    (stage,) = report["stages"]
    looked = stage["looks"][-1]
    return {
        "images": count,
        "looks": looks,
        "top1": stage["top1"],
        **judged(str(out), work),
        "held_out": {"agreement": looked["accuracy"], "divergence": looked["divergence"]},
        "seconds": report["seconds"],
    }


def main() -> None:
    """Every row that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", metavar="IMAGES@LOOKS", help="rows: all unless given")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    work = Work(CASES["imagenet"], given.data, given.out, None)
    rows = ROWS if given.only is None else [tuple(map(int, each.split("@"))) for each in given.only]
    answer = {
        "start": judged(work.start(), work),
        "rows": [row(work, count, looks) for count, looks in rows],
        "machine": {"system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count(), "device": "cpu"},
    }
    print(json.dumps(answer, indent=2))


if __name__ == "__main__":
    main()

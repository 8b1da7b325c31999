"""Trains the networks that come with medseg and writes them into the package.

    python docs/pretrained_models.py DATA RUNS [NAME ...]

DATA holds Task04_Hippocampus. `hippocampus` is trained on all cases; its Dice is that of nnU-Net's
five folds, trained with the same settings, each on the cases that it holds out. The two others
differ in their upsampling alone; they are trained on the first fold and scored on what it holds
out. Nothing was chosen on these folds. `medseg models` prints the Dice.
"""

import argparse
import json
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from medseg.cli.train import main as train
from medseg.files import write_text
from medseg.models import pretrained
from medseg.models.weights import MODEL_FILES, MODEL_FOLDER
from medseg.record import FILE_NAME, RunRecord
from medseg.record.frame import frame

_ALWAYS = [
    *("data=hippocampus", "augmentation=none", "trainer.ema=0.99", "trainer.epochs=12"),
    *("artifacts.follow=false", "pictures.cases=0"),
]
_SMALL = [*_ALWAYS, "model.encoder.channels=[8,16,32,64]", "data.batches_per_epoch=200"]
_WIDE = [*_ALWAYS, "model.encoder.channels=[16,32,64,128]", "data.batches_per_epoch=160"]
_FOLDS = ["data.splits=nnunet", "data.folds=5", "trainer.validate_every=12"]
ON_ALL = {"hippocampus": _WIDE}
ON_FIRST_FOLD = {
    "hippocampus_transposed": _SMALL,
    "hippocampus_bilinear": [*_SMALL, "upsample@model.decoder.upsample=bilinear"],
}
LICENCE = "CC-BY-SA 4.0"
CITATION = "Antonelli et al. 2022, Nature Communications, doi 10.1038/s41467-022-30695-9"
EXPECTS = "MR cropped around one hippocampus, 1 mm: anterior and posterior part"


def main() -> None:
    """Trains what is named, else all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("names", nargs="*", help="networks; all by default")
    arguments = parser.parse_args()
    data = f"data.root={arguments.data}"
    for name in arguments.names or [*ON_ALL, *ON_FIRST_FOLD]:
        run = arguments.runs / name
        if name in ON_ALL:
            folds = arguments.runs / f"{name}_folds"
            _train([*ON_ALL[name], *_FOLDS, data, f"hydra.sweep.dir={folds}"])
            _train([*ON_ALL[name], "data.validation_fraction=0", data, f"hydra.run.dir={run}"])
            keep_on_all(name, run, folds)
        else:
            options = [*ON_FIRST_FOLD[name], *_FOLDS, "data.fold=0"]
            _train([*options, data, f"hydra.run.dir={run}"])
            record = RunRecord.read(run / FILE_NAME)
            measured = f"{len(record.cases)} held-out cases of `medseg train {shlex.join(options)}`"
            keep(name, run, [record], measured)


def keep_on_all(name: str, run: Path, folds: Path) -> None:
    """Keeps a network of all cases, with the Dice of folds that had the same settings."""
    records = [RunRecord.read(path) for path in sorted(folds.glob(f"*/{FILE_NAME}"))]
    count = sum(len(record.cases) for record in records)
    options = shlex.join([*ON_ALL[name], *_FOLDS])
    measured = (
        f"{count} cases, each of the fold that held it out, of `medseg train {options}`; this "
        "network was trained on all of them (data.validation_fraction=0)"
    )
    keep(name, run, records, measured)


def keep(name: str, run: Path, records: Sequence[RunRecord], measured: str) -> None:
    """Copies the model of a run into the package, and writes what is known of it."""
    target = Path(pretrained.__file__).parent / name
    target.mkdir(exist_ok=True)
    for file in MODEL_FILES:
        shutil.copy(run / MODEL_FOLDER / file, target / file)
    table = frame(records)
    dice = table[table["metric"] == "dice"].groupby("class", sort=False)["value"].mean()
    content = {
        "expects": EXPECTS,
        "dice": {str(part): round(float(value), 4) for part, value in dice.items()},
        "measured": f"Dice of the {measured}",
        "licence": LICENCE,
        "citation": CITATION,
    }
    write_text(target / "about.json", json.dumps(content, indent=1) + "\n")


def _train(options: Sequence[str]) -> None:
    if train(options):
        raise SystemExit(f"not trained: {shlex.join(options)}")


if __name__ == "__main__":
    main()

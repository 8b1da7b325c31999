"""Trains the networks that come with medseg and writes them into the package.

    python docs/pretrained_models.py DATA RUNS [NAME ...]

DATA holds Task04_Hippocampus. Each network is trained on nnU-Net's first fold and scored on the
cases that it holds out, on which nothing was chosen; `medseg models` prints that Dice.
"""

import argparse
import json
import shlex
import shutil
from pathlib import Path

from medseg.cli.train import main as train
from medseg.files import write_text
from medseg.models import pretrained
from medseg.models.weights import MODEL_FILES, MODEL_FOLDER
from medseg.record import FILE_NAME, RunRecord
from medseg.record.frame import frame

_SHORT = [
    *("data=hippocampus", "data.splits=nnunet", "data.folds=5", "data.fold=0"),
    *("model.encoder.channels=[8,16,32,64]", "augmentation=none", "trainer.ema=0.99"),
    *("trainer.epochs=12", "data.batches_per_epoch=200", "trainer.validate_every=12"),
    *("artifacts.follow=false", "pictures.cases=0"),
]
NETWORKS = {
    "hippocampus": _SHORT,
    "hippocampus_bilinear": [*_SHORT, "upsample@model.decoder.upsample=bilinear"],
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
    for name in arguments.names or NETWORKS:
        run = arguments.runs / name
        options = NETWORKS[name]
        if train([*options, f"data.root={arguments.data}", f"hydra.run.dir={run}"]):
            raise SystemExit(f"{name} was not trained")
        keep(name, run, options)


def keep(name: str, run: Path, options: list[str]) -> None:
    """Copies the model of a run into the package, and writes what is known of it."""
    target = Path(pretrained.__file__).parent / name
    target.mkdir(exist_ok=True)
    for file in MODEL_FILES:
        shutil.copy(run / MODEL_FOLDER / file, target / file)
    record = RunRecord.read(run / FILE_NAME)
    table = frame([record])
    dice = table[table["metric"] == "dice"].groupby("class", sort=False)["value"].mean()
    content = {
        "expects": EXPECTS,
        "dice": {str(part): round(float(value), 4) for part, value in dice.items()},
        "measured": f"Dice of the {len(record.cases)} held-out cases of "
        f"`medseg train {shlex.join(options)}`",
        "licence": LICENCE,
        "citation": CITATION,
    }
    write_text(target / "about.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

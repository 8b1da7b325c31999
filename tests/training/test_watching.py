"""What a person sees of a training: curves of any history, and a word when it stalls, once."""

import logging
from pathlib import Path

import pytest
from PIL import Image

from medseg.training.callbacks import History
from medseg.training.watching import StallNotice, draw_curves

Row = dict[str, float | None]


def row(epoch: int, loss: float, dice: float | None = None) -> Row:
    return {"epoch": epoch, "train_loss": loss, "lr": 0.1, "waiting": 0.0, "val_dice": dice}


@pytest.mark.parametrize(
    "rows",
    [
        [{"epoch": 1, "lr": 0.1}],
        [row(1, 0.5)],
        [row(1, 0.5, 0.2) | {"val_dice_a $b_": None, "val_dice__c": 0.3}, row(2, 0.4, 0.3)],
        [row(e, 1 / e) | {f"val_dice_{c}": 0.1 * c for c in range(9)} for e in range(1, 2000)],
    ],
)
def test_curves_are_drawn_of_any_history(rows: list[Row], tmp_path: Path) -> None:
    draw_curves(rows, tmp_path / "progress.png")
    with Image.open(tmp_path / "progress.png") as picture:
        assert picture.width > picture.height > 500


def warnings_of(rows: list[Row], caplog: pytest.LogCaptureFixture) -> list[str]:
    history = History()
    notice = StallNotice(history)
    with caplog.at_level(logging.WARNING):
        for one in rows:
            history.rows.append(one)
            notice.on_train_epoch_end()
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(e, 0.5, 0.5) for e in range(1, 60)], ["loss"]),
        ([row(e, 1 / e, 0.0) for e in range(1, 60)], ["Dice"]),
        ([row(e, 1 / e, 0.0 if e < 4 else 0.1) for e in range(1, 60)], []),
        ([row(e, 1 / e) for e in range(1, 60)], []),  # never validated
        # near the end of a long run the loss falls rarely
        ([row(e, 1 / (e - e % 90 + 90)) for e in range(1, 1000)], ["loss"]),
        ([row(e, 1 / (e - e % 18 + 18)) for e in range(1, 1000)], []),
    ],
)
def test_a_run_that_stalls_says_so_once(
    rows: list[Row], words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    said = warnings_of(rows, caplog)
    assert len(said) == len(words)
    assert all(word in line for word, line in zip(words, said, strict=True))

"""The word that was probably meant by one that there is not."""

from collections.abc import Collection
from difflib import get_close_matches

_PEERS = {  # words of other tools
    "accelerator": "device",
    "gpu": "cuda",
    "gpus": "device",
    "learning_rate": "lr",
    "max_epochs": "epochs",
    "trilinear": "bilinear",
    "wd": "weight_decay",
    "workers": "num_workers",
}
_SHOWN = 3


def suggestion(word: str, known: Collection[str]) -> str:
    """`did you mean a or b?`, or nothing where no known word is close; dotted ones by their end.

    >>> suggestion("trainer.epoch", ["trainer.epochs", "seed"])
    'did you mean trainer.epochs?'
    """
    last = word.rpartition(".")[2]
    last = _PEERS.get(last, last)
    ends = {own.rpartition(".")[2]: own for own in known}
    close = (
        [own for own in known if own.rpartition(".")[2] == last]
        or get_close_matches(word, known, n=2, cutoff=0.7)
        or [ends[end] for end in get_close_matches(last, ends, n=2, cutoff=0.6)]
    )
    return f"did you mean {' or '.join(close[:_SHOWN])}?" if close else ""


def choices(word: str, known: Collection[str]) -> str:
    """What was probably meant, and all that there is.

    >>> choices("fat", ["cat", "dog"]), choices("", ["cat"])
    ('did you mean cat? Choose from cat, dog', 'choose from cat')
    """
    meant, listed = suggestion(word, known), f"hoose from {', '.join(known)}"
    return f"{meant} C{listed}" if meant else f"c{listed}"

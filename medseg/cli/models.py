"""`medseg models`: the trained networks that come with medseg."""

import argparse

from medseg.cli.command import command, make_parser


def _parser() -> argparse.ArgumentParser:
    return make_parser(
        "models",
        "List the trained networks that come with medseg: what they segment, how well, in which "
        "images, and under which licence. Predict with one by its name: medseg predict -m NAME.",
    )


@command(_parser)
def main(_arguments: argparse.Namespace) -> None:
    """Prints the list as a Markdown table, and what to cite below it."""
    from medseg.formatting import markdown_table
    from medseg.models import pretrained

    rows, sources = [], []
    for name in pretrained.names():
        known = pretrained.about(name)
        dice = ", ".join(f"{part} {value:.4f}" for part, value in known.dice.items())
        rows.append((f"`{name}`", known.expects, dice, known.licence))
        sources.append(f"{name}: {known.measured}. Data: {known.citation}.")
    print(markdown_table(("name", "segments", "Dice", "licence"), rows), end="")
    print("", *sources, sep="\n")

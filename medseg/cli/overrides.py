r"""What a user types, as overrides that Hydra reads: values literally, wrong words answered.

Hydra has a grammar for values: `(c\\d+)`, `Uni (1)` or `umläut` are errors of it. Here a path, a
pattern or a name means what is typed, and whatever else does not parse is text.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, Quote, QuotedString
from hydra.errors import HydraException

from medseg.errors import ConfigError
from medseg.experiment.schema import RULES, TEXTS, unknown_key
from medseg.suggestion import choices, suggestion


def readable(words: Sequence[str], *, several: bool = False) -> list[str]:
    """The overrides that were typed, in the form that Hydra reads.

    A value that is quoted already is left to Hydra. If there may be `several` values, a comma
    separates those of a pattern, and of paths that are not there.

    Raises:
        ConfigError: a word that is no override.
    """
    return [_readable(word, several=several) for word in words]


def _readable(word: str, *, several: bool) -> str:
    key, equals, value = word.partition("=")
    plain = key.lstrip("+~")
    if word.startswith("-") or not plain or not (equals or key.startswith("~")):
        raise ConfigError(f"{word!r} is no override; write key=value{_meant(plain)}")
    if not equals or value in ("", "null"):
        return word
    parsed = _parsed(word)
    is_quoted = value[0] in "'\"" and parsed is not None
    is_listed = several and parsed is not None and parsed.is_sweep_override()
    is_listed = is_listed and not _is_one_path(value)
    if parsed is not None and (plain not in TEXTS or is_quoted or is_listed):
        return word
    if _parsed(f"{key}=x") is None:
        raise ConfigError(f"{word!r} is no override; write key=value{_meant(plain)}")
    return f"{key}={QuotedString(text=value, quote=Quote.single).with_quotes()}"


def _is_one_path(value: str) -> bool:
    """Whether commas belong to the name of a file or folder that is there."""
    path = Path(value).expanduser()
    named = next((own for own in (path, *path.parents) if "," in own.name), None)
    return named is not None and os.path.exists(named)  # False where it cannot be asked


def _meant(word: str) -> str:
    close = suggestion(word.strip("-").replace("-", "_"), RULES)
    return f"; {close.replace('?', '=…?')}" if close else ", for instance trainer.epochs=20"


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _parsed(word: str) -> Override | None:
    try:
        return _parser().parse_override(word)
    except HydraException:
        return None


def values_of(given: Sequence[Override]) -> dict[str, Any]:
    """Key → value of overrides that set one; those with several values are left out."""
    return {
        override.get_key_element().lstrip("+~"): override.value()
        for override in given
        if not override.is_sweep_override() and not override.is_delete()
    }


def asks_for_all_folds(given: Sequence[Override]) -> bool:
    """Whether overrides say how many folds there are, and not which of them is held out."""
    values = values_of(given)
    return values.get("data.folds") is not None and not any(
        override.get_key_element().lstrip("+~") == "data.fold" for override in given
    )


def require_options(given: Sequence[Override], groups: Mapping[str, Collection[str]]) -> None:
    """Checks that groups, each with its options, have those that are chosen.

    Raises:
        ConfigError: one that there is not, with the one that was probably meant.
    """
    for override in given:
        group, value = override.key_or_group, override.value()
        listed = value.list if isinstance(value, ChoiceSweep) else [value]
        chosen = [] if isinstance(value, Glob) else listed
        if group not in groups and override.package is not None:
            listed = choices(group, groups)
            raise ConfigError(f"{override.input_line}: there is no group {group!r}; {listed}")
        for word in chosen if group in groups else ():
            if word is not None and str(word) not in groups[group]:
                raise ConfigError(f"{override.input_line}: {no_option(str(word), groups[group])}")


_OF_ABLATIONS = ("ablation.", "hydra.sweep.", "hydra.sweeper.", "hydra.launcher.", "hydra/")
_OF_RUNS = ("hydra.run.",)
_RIVALS = (
    ("seed", "ablation.seeds", "which seeds are trained"),
    ("runs", "hydra.run.dir", "where the run goes"),
    ("runs", "hydra.sweep.dir", "where the runs go"),
    ("resume", "hydra.run.dir", "where the run lies"),
    ("resume", "runs", "where the run lies"),
)


def require_mode(given: Sequence[Override], *, several: bool) -> None:
    """Refuses keys of ablations in a single run, the other way round, and two of one meaning.

    Raises:
        ConfigError: one of them.
    """
    keys = {override.get_key_element().lstrip("+~"): str(override.input_line) for override in given}
    inert = _OF_RUNS if several else _OF_ABLATIONS
    for key, line in keys.items():
        if key.startswith(inert) and not key.startswith("hydra/job_logging"):
            remedy = (
                "an ablation lies in hydra.sweep.dir"
                if several
                else "it is of an ablation, see medseg ablate --help"
            )
            raise ConfigError(f"{line} has no effect here: {remedy}")
        if key.partition(".")[0] == "planned":
            raise ConfigError(f"{line} has no effect: a plan says it; give plan=FILE, or plan=none")
    for one, other, what in _RIVALS:
        if {one, other} <= keys.keys():
            raise ConfigError(f"{keys[one]} and {keys[other]} both say {what}; leave one out")


def no_option(word: str, options: Collection[str]) -> str:
    """Says that there is no such option, which was probably meant, and which there are."""
    return f"there is no option {word!r}; {choices(word, sorted(options))}"


def no_key(key: str, known: Collection[str], places: Collection[str]) -> str:
    """Says that the chosen configuration has no such key, or no such slot among `places`."""
    group = key.partition("@")[0]
    slots = [place for place in places if place.partition("@")[0] == group]
    if slots:
        return f"{key}: the chosen model has no such slot; it has {', '.join(slots)}"
    if key in known:
        return f"{key}: the options that are chosen have no such key; leave it out"
    return unknown_key(key, known)

"""What names of files and folders say: whole words, never a part of one."""

import re
from collections.abc import Sequence
from pathlib import Path

from medseg.data.forms.form import files_below, is_image, stem_of

_LABEL = re.compile(
    "annotations?|gt|groundtruth|labels?|manual|masks?|rois?|segs?|segmentations?|targets?|truth"
)
_IMAGE = re.compile(
    "anat|ct|data|images?|imaging|imgs?|inputs?|mri?|photos?|pictures?|raw|scans?|volumes?"
)
_TEST = re.compile("test|testing|ts")
_SEPARATORS = r"[\s_.\-]+"
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

Tokens = tuple[str, ...]


def words_of(name: str) -> set[str]:
    """The words of a name in lower case: those of `JPEGImages` are jpeg and images."""
    joined = re.sub(_SEPARATORS, "", name).casefold()
    return {word.casefold() for word in _WORD.findall(name)} | {joined}


def says_label(name: str) -> bool:
    """Whether a word of a name says label."""
    return any(map(_LABEL.fullmatch, words_of(name)))


def says_image(name: str) -> bool:
    """Whether a word of a name says image, and none says label."""
    return any(map(_IMAGE.fullmatch, words_of(name))) and not says_label(name)


def says_test(name: str) -> bool:
    """Whether a word of a name says that it is for testing."""
    return any(map(_TEST.fullmatch, words_of(name)))


def tokens_of(name: str) -> Tokens:
    """A name without its ending, cut at blanks, underscores, points and hyphens."""
    return tuple(token for token in re.split(_SEPARATORS, stem_of(Path(name))) if token)


def images_below(folder: Path) -> list[Path]:
    """All images and labels below a folder by their endings, as paths from it, in order."""
    return sorted(path.relative_to(folder) for path in filter(is_image, files_below(folder)))


def core_names(paths: Sequence[Path]) -> dict[Path, Tokens]:
    """What tells files apart: their tokens without those that all begin or end with."""
    tokens = {path: tokens_of(path.name) for path in paths}
    if len(tokens) < 2:
        return tokens
    start = _common([*tokens.values()])
    ends = _common([own[::-1] for own in tokens.values()])
    shortest = min(map(len, tokens.values()))
    start, ends = min(start, shortest - 1), min(ends, shortest - 1)
    cut = {path: own[start : len(own) - ends] for path, own in tokens.items()}
    return cut if all(cut.values()) else {path: own[start:] for path, own in tokens.items()}


def _common(names: Sequence[Tokens]) -> int:
    """How many tokens all names begin with."""
    count = 0
    for column in zip(*names, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count

"""A table of cases: a CSV whose columns point to images.

    case,patient,t1,t2,label,fold
    scan0,P00,P00/t1.nii.gz,P00/t2.nii.gz,P00/seg.nii.gz,0

Columns of paths are channels in their order, but the one that is named label, mask, seg or the
like. `case`, `patient`, `fold` (or `split` with train, val, test) are what they say; every other
column is a covariate.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, CaseFault, Dataset, Scan
from medseg.data.forms.contents import dataset_of
from medseg.data.forms.form import Form, entries_of, stem_of
from medseg.data.forms.matching import Findings
from medseg.data.forms.names import says_label
from medseg.data.splits import FoldFault, Split, repeated
from medseg.errors import DataError

_ENDINGS = (".csv", ".tsv")
_SEPARATOR = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # of Excel
_BEYOND = "behind the last column"
_NAMES = {
    "case": ("case", "caseid", "id", "scan", "scanid", "name"),
    "patient": ("patient", "patientid", "subject", "subjectid", "participant", "participantid"),
    "fold": ("fold",),
    "split": ("split", "set", "subset"),
}
_SIDES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}


@dataclass(frozen=True)
class _Sheet:
    """A table as text.

    Attributes:
        path: of its file.
        columns: their names.
        rows: the line of each in the file, and its cells by column.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, str]], ...]

    def pointing(self) -> list[str]:
        """The columns most of whose cells are paths of images."""
        found, roles = [], [self.column(role) for role in _NAMES]
        for column in dict.fromkeys(name for name in self.columns if name not in roles):
            cells = [cells[column] for _, cells in self.rows if cells[column]]
            paths = sum(stem_of(Path(cell)) != Path(cell).name for cell in cells)
            paths = paths or sum("/" in c and (self.path.parent / c).exists() for c in cells)
            if cells and 2 * paths > len(cells):
                found.append(column)
        return found

    def column(self, role: str) -> str | None:
        """The column of a role, by its whole name."""
        plain = {"".join(c for c in name.casefold() if c.isalnum()): name for name in self.columns}
        return next((plain[name] for name in _NAMES[role] if name in plain), None)


class Table(Form):
    """A CSV file whose columns point to images."""

    name = "table"
    title = "table of cases"
    layout = "a CSV with columns case, patient, one of paths per channel, label, fold"
    described = True

    def evidence(self, folder: Path) -> str:
        """The tables whose columns point to images; a CSV of anything else is none."""
        return " and ".join(sheet.path.name for sheet in _sheets(folder))

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        sheets = _sheets(folder)
        if len(sheets) != 1:
            names = " and ".join(sheet.path.name for sheet in sheets) or "no CSV"
            raise DataError(
                f"{folder}: {names}: one table whose columns point to images is needed; take the "
                "others away"
            )
        sheet = sheets[0]
        pointing = sheet.pointing()
        labels = [column for column in pointing if says_label(column)]
        channels = [column for column in pointing if column not in labels]
        found = Findings(channels=tuple(channels) if len(channels) > 1 else ("",))
        if len(labels) != 1 or not channels:
            found.faults.append(
                f"{sheet.path.name}: the columns of paths are {', '.join(pointing)}; one must be "
                "named label, and one or more others are the images"
            )
            return dataset_of(folder, self.title, found, label_values)
        for case in _cases(sheet, channels, labels[0], found):
            found.cases.append(case)
        folds = _folds(sheet, found)
        return dataset_of(
            folder,
            f"{self.title} (CSV)",
            found,
            label_values,
            folds=folds,
            folds_from=sheet.path.name if folds else "",
        )


def is_table(path: Path) -> bool:
    """Whether a path is a table whose columns point to images."""
    return path.suffix.lower() in _ENDINGS and path.is_file() and bool(_sheet(path).pointing())


def scans_of_table(path: Path, channels: int, names: Sequence[str]) -> list[Scan]:
    """The images of a table, labels or not, of all sets and folds.

    Args:
        path: Of a table, as of `is_table`.
        channels: How many an image has.
        names: Of the channels, if they are known: which columns they are.

    Raises:
        DataError: its columns are others, a cell is empty, or a file is named twice.
    """
    sheet = _sheet(path)
    columns = [column for column in sheet.pointing() if not says_label(column)]
    if set(names) <= set(columns):
        columns = [*names] or columns
    if len(columns) not in (1, channels):
        raise DataError(
            f"{path}: the columns of images are {', '.join(columns)}; the network takes "
            f"{channels} channels{', ' if names else ''}{', '.join(names)}"
        )
    case, scans = sheet.column("case"), []
    seen: dict[Path | None, int] = {}
    for line, cells in sheet.rows:
        if lacking := [column for column in columns if not cells[column]]:
            raise DataError(f"{path}, line {line}: has no {lacking[0]}; name a file, or remove it")
        files = [_path(path.parent, cells[column]) for column in columns]
        if (first := seen.setdefault(files[0], line)) != line:
            raise DataError(
                f"{path}, line {line}: {files[0]} is in line {first} as well; remove one"
            )
        name = cells[case] if case else stem_of(Path(cells[columns[0]]))
        scans.append(Scan(case_id=name, images=tuple(filter(None, files))))
    return scans


def _sheets(folder: Path) -> list[_Sheet]:
    paths = [path for path in entries_of(folder) if path.suffix.lower() in _ENDINGS]
    return [_sheet(path) for path in paths if is_table(path)]


def _sheet(path: Path) -> _Sheet:
    try:
        text = _text(path)
        said = _SEPARATOR.match(text)
        first = text.partition("\n")[0]
        delimiter = said[1] if said else max(",;\t|", key=first.count)
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        if said:
            next(lines)
        header = tuple(name.strip() for name in next(lines, []))
        rows = []
        for line in lines:
            cells = [cell.strip() for cell in line]
            if any(cells):
                filled = dict(zip_longest(header, cells[: len(header)], fillvalue=""))
                beyond = {_BEYOND: ", ".join(more)} if any(more := cells[len(header) :]) else {}
                rows.append((lines.line_num, filled | beyond))
    except (OSError, UnicodeDecodeError, csv.Error):
        return _Sheet(path, (), ())  # no table of cases
    return _Sheet(path, header, tuple(rows))


def _text(path: Path) -> str:
    """The text of a table in the encodings in which Excel saves it."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def _cases(sheet: _Sheet, channels: Sequence[str], label: str, found: Findings) -> Iterator[Case]:
    case, patient, fold = sheet.column("case"), sheet.column("patient"), sheet.column("fold")
    split = sheet.column("split")
    known = {*channels, label, case, patient, fold}
    seen: dict[str, int] = {}
    found.faults.extend(
        f"{sheet.path.name}: several columns are called {name!r}; rename one"
        for name in repeated(filter(None, sheet.columns))
    )
    for line, cells in sheet.rows:
        place = f"{sheet.path.name}, line {line}"
        if _BEYOND in cells:
            found.faults.append(
                f"{place}: {cells[_BEYOND]!r} stands behind the last column; quote cells that have "
                "the separator in them"
            )
        name = cells[case] if case else stem_of(Path(cells[channels[0]]))
        if split and cells[split].casefold() not in _SIDES:
            found.notes.append(f"{place}: {name} is of the set {cells[split]!r}, left out")
            continue
        if not name:
            found.faults.append(f"{place}: has no {case}")
            continue
        if name in seen:
            text = f"{place}: {name} stands in line {seen[name]} as well; remove one"
            found.faults.append(CaseFault(text, name))
            continue
        seen[name] = line
        paths = {column: _path(sheet.path.parent, cells[column]) for column in (*channels, label)}
        found.faults.extend(
            CaseFault(
                f"{place}: {name} has no {column}"
                if path is None
                else f"{place}: {cells[column]}: no such file",
                name,
            )
            for column, path in paths.items()
            if path is None or not path.exists()
        )
        number = re.sub(r"\.0+$", "", cells[fold]) if fold else ""  # as pandas writes them
        if fold and not number.isdecimal():
            text = f"{place}: {name} has the fold {number!r}; it must be 0, 1, ..."
            found.faults.append(CaseFault(text, name))
        images = tuple(path for column in channels if (path := paths[column]) is not None)
        target = paths[label]
        if images and target is not None:
            yield Case(
                case_id=name,
                images=images,
                label=target,
                patient=(cells[patient] or None) if patient else None,
                fold=int(number) if number.isdecimal() else None,
                covariates={k: v for k, v in cells.items() if k not in known},
            )


def _path(folder: Path, cell: str) -> Path | None:
    """A path as it is written, or with the separators of Windows."""
    if not cell:
        return None
    path = folder / cell
    return path if path.exists() else folder / cell.replace("\\", "/")


def _folds(sheet: _Sheet, found: Findings) -> tuple[Split, ...]:
    """The folds of a column, each held out once; or the one split of a column of sides."""
    cases = found.cases
    by_patient: dict[str, set[int]] = {}
    for case in cases:
        if case.patient and case.fold is not None:
            by_patient.setdefault(case.patient, set()).add(case.fold)
    found.faults.extend(
        FoldFault(
            f"{sheet.path.name}: patient {patient} is in folds "
            f"{' and '.join(map(str, sorted(folds)))}; all cases of a patient belong in one"
        )
        for patient, folds in by_patient.items()
        if len(folds) > 1
    )
    if numbers := sorted({case.fold for case in cases if case.fold is not None}):
        if len(numbers) < 2:
            found.notes.append(f"{sheet.path.name}: one fold is none; the column is not used")
            return ()
        return tuple(_split(cases, {c.case_id for c in cases if c.fold == n}) for n in numbers)
    column = sheet.column("split")
    if column is None:
        return ()
    held_out = {c.case_id for c in cases if _SIDES[c.covariates[column].casefold()] == "val"}
    if not 0 < len(held_out) < len(cases):
        found.notes.append(f"{sheet.path.name}: {column} has one side alone and is not used")
        return ()
    return (_split(cases, held_out),)


def _split(cases: Sequence[Case], held_out: set[str]) -> Split:
    names = sorted(case.case_id for case in cases)
    return Split(
        train=tuple(name for name in names if name not in held_out),
        validation=tuple(name for name in names if name in held_out),
    )

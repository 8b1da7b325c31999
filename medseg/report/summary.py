"""The opening paragraph: what the numbers say, and no more."""

from collections.abc import Iterator, Sequence

import pandas as pd

from medseg.report import measures
from medseg.report.cells import counted, fixed, significant, spread
from medseg.report.collect import Arm, Collection

_FEW_SEEDS = 3
_FEW_CASES = 20


def summarise(collection: Collection, frame: pd.DataFrame) -> list[str]:
    """Sentences about the best arm, the differences and the constant responses."""
    finished = [arm for arm in collection.arms if arm.counted]
    if not finished:
        return ["No run has finished, so there is nothing to compare yet."]
    sentences: list[str] = []
    for dataset in dict.fromkeys(arm.dataset for arm in finished):
        arms = [arm for arm in finished if arm.dataset == dataset]
        sentences += _quality(dataset, arms, frame)
    return [*sentences, *_responses(finished), *_cautions(finished)]


def _quality(dataset: str, arms: Sequence[Arm], frame: pd.DataFrame) -> Iterator[str]:
    dice = frame[(frame["metric"] == "dice") & frame["arm"].isin([arm.number for arm in arms])]
    ranked = measures.summary(dice).reset_index().dropna(subset="mean")
    ranked = ranked.sort_values("mean", ascending=False, kind="stable")
    if ranked.empty:
        yield f"On {dataset} no Dice value is defined."
        return
    label = {arm.number: arm.label for arm in arms}
    said = [
        f"{spread(row['mean'], row['std'])} ({label[row['arm']]}, {counted(row['n'], 'case')})"
        for row in ranked.to_dict("records")
    ]
    if len(said) == 1:
        yield f"On {dataset} one arm has a mean Dice, {said[0]}: there is nothing to compare it to."
        return
    span = ranked["mean"].iloc[0] - ranked["mean"].iloc[-1]
    yield (
        f"On {dataset} the best mean Dice is {said[0]} and the lowest {said[-1]}: "
        f"the {len(said)} arms differ by at most {fixed(span)}."
    )
    best, second = ranked["arm"].iloc[:2]
    yield from _pair(dice, (best, label[best]), (second, label[second]))
    yield from _between_seeds(dice, label)
    seeds = min(len(arm.counted) for arm in arms)
    cases = int(ranked["n"].min())
    if seeds < _FEW_SEEDS or cases < _FEW_CASES:
        yield (
            f"With as few as {counted(seeds, 'seed')} and {counted(cases, 'case')} in an arm, "
            "differences within the spread decide nothing."
        )


def _pair(dice: pd.DataFrame, best: tuple[int, str], second: tuple[int, str]) -> Iterator[str]:
    wide = measures.by_case(dice).pivot(index="case", columns="arm", values="value")
    paired = (wide[best[0]] - wide[second[0]]).dropna()
    if len(paired) < 2:
        yield f"{best[1]} and {second[1]} share too few cases to be compared case by case."
        return
    middle, deviation = float(paired.mean()), float(paired.std(ddof=1))
    verdict = (
        "which is within its spread between cases and does not rank the two"
        if abs(middle) <= deviation
        else "which is more than its spread between cases, but still no test"
    )
    yield (
        f"Case by case, {best[1]} minus {second[1]} is {spread(middle, deviation)} "
        f"over {counted(len(paired), 'shared case')}, {verdict}."
    )


def _between_seeds(dice: pd.DataFrame, label: dict[int, str]) -> Iterator[str]:
    runs = measures.seed_means(dice, "dice").groupby("arm")["value"]
    width = (runs.max() - runs.min())[runs.count() > 1]
    if width.empty:
        yield "Every arm has one seed, so how much chance alone moves these numbers is unknown."
        return
    yield (
        f"Between the seeds of one arm the mean Dice moves by up to {fixed(width.max())} "
        f"({label[width.idxmax()]})."
    )


def _responses(arms: Sequence[Arm]) -> Iterator[str]:
    found = [
        (measures.mean(numbers), arm.label)
        for arm in arms
        if (numbers := measures.of_runs(arm, lambda record: record.constant_response))
    ]
    if not found:
        yield "No constant response was recorded."
        return
    (low, lowest), (high, highest) = min(found), max(found)
    if len(found) == 1:
        yield f"The constant response is {significant(high)} of the logits’ SD."
    elif low == high:
        yield f"The constant response is {significant(high)} of the logits’ SD in every arm."
    else:
        yield (
            f"The constant response is largest in {highest} ({significant(high)} of the logits’ "
            f"SD) and smallest in {lowest} ({significant(low)})."
        )


def _cautions(arms: Sequence[Arm]) -> Iterator[str]:
    for dataset in dict.fromkeys(arm.dataset for arm in arms):
        records = [run.record for arm in arms if arm.dataset == dataset for run in arm.counted]
        if len({frozenset(case.case for case in record.cases) for record in records}) > 1:
            yield (
                f"Caution: not all runs on {dataset} were validated on the same cases; "
                "their means are not comparable."
            )
        if len({tuple(r.patch_size) for r in records if r.patch_size}) > 1:
            yield f"Caution: the patch size differs between runs on {dataset}, and with it MACs."
    records = [run.record for arm in arms for run in arm.counted]
    if len({str(sorted(record.machine.items())) for record in records if record.machine}) > 1:
        yield "Caution: the runs come from different machines or devices; times do not compare."

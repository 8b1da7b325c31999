"""The opening paragraph: what the numbers say, and no more."""

from collections.abc import Iterator, Sequence

from medseg.report.cells import counted, fixed, significant, spread
from medseg.report.collect import Arm, Collection
from medseg.report.measures import Summary, Values, deviation, mean, of_runs

_FEW_SEEDS = 3
_FEW_CASES = 20
_FEW_PAIRS = 6  # fewer cannot reach p < 0.05 in a two-sided signed-rank test
_MACHINE = ("host", "device", "cpu", "threads", "precision")


def summarise(collection: Collection, values: Values) -> list[str]:
    """Sentences about the best arm, the differences and the constant responses."""
    finished = [arm for arm in collection.arms if arm.counted]
    if not finished:
        return ["No run has finished, so there is nothing to compare yet."]
    sentences: list[str] = []
    for dataset in dict.fromkeys(arm.dataset for arm in finished):
        arms = [arm for arm in finished if arm.dataset == dataset]
        sentences += _quality(dataset or "an unnamed dataset", arms, values)
    return [*sentences, *_responses(finished), *_cautions(finished)]


def _quality(dataset: str, arms: Sequence[Arm], values: Values) -> Iterator[str]:
    found = [(arm, summary) for arm in arms if (summary := values.summary(arm.number, "dice"))]
    ranked = sorted((pair for pair in found if pair[1].cases), key=lambda pair: -pair[1].mean)
    if not ranked:
        yield f"On {dataset} no Dice value is defined."
        return
    (best, top), (lowest, bottom) = ranked[0], ranked[-1]
    if len(ranked) == 1:
        yield (
            f"On {dataset} one arm has a mean Dice, {_said(best, top)}: "
            "there is nothing to compare it to."
        )
        return
    yield (
        f"On {dataset} the best mean Dice is {_said(best, top)} and the lowest "
        f"{_said(lowest, bottom)}: the {len(ranked)} arms differ by at most "
        f"{fixed(top.mean - bottom.mean)}."
    )
    yield _pair(best, ranked[1][0], values)
    yield _between_seeds([arm for arm, _ in ranked], values)
    seeds = min(len(arm.counted) for arm, _ in ranked)
    cases = min(summary.cases for _, summary in ranked)
    if seeds < _FEW_SEEDS or cases < _FEW_CASES:
        yield (
            f"With as few as {counted(seeds, 'seed')} and {counted(cases, 'case')} in an arm, "
            "differences within the spread decide nothing."
        )


def _said(arm: Arm, summary: Summary) -> str:
    text = spread(summary.mean, summary.deviation)
    return f"{text} ({arm.label}, {counted(summary.cases, 'case')})"


def _pair(best: Arm, second: Arm, values: Values) -> str:
    one, other = (values.by_case(arm.number, "dice") for arm in (best, second))
    paired = [one[case] - other[case] for case in one if case in other]
    if len(paired) < _FEW_PAIRS:
        return f"{best.label} and {second.label} share too few cases for a comparison by case."
    verdict = (
        "which is within its spread between cases and does not rank the two"
        if abs(mean(paired)) <= deviation(paired)
        else "which is more than its spread between cases, but no test"
    )
    return (
        f"Case by case, {best.label} minus {second.label} is "
        f"{spread(mean(paired), deviation(paired))} "
        f"over {counted(len(paired), 'shared case')}, {verdict}."
    )


def _between_seeds(arms: Sequence[Arm], values: Values) -> str:
    by_seed = {arm.label: values.by_seed(arm.number, "dice").values() for arm in arms}
    widths = {label: max(m) - min(m) for label, m in by_seed.items() if len(m) > 1}
    if not widths:
        return "Every arm has one seed, so how much chance alone moves these numbers is unknown."
    widest = max(widths, key=lambda label: widths[label])
    return (
        "Between the seeds of one arm the mean Dice moves by up to "
        f"{fixed(widths[widest])} ({widest})."
    )


def _responses(arms: Sequence[Arm]) -> Iterator[str]:
    found = [
        (mean(numbers), arm.label)
        for arm in arms
        if (numbers := of_runs(arm, lambda record: record.constant_response))
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
        where = dataset or "one dataset"
        if len({frozenset(case.case for case in record.cases) for record in records}) > 1:
            yield (
                f"Caution: not all runs on {where} were validated on the same cases; "
                "their means are not comparable."
            )
        if len({tuple(r.patch_size) for r in records if r.patch_size}) > 1:
            yield f"Caution: the patch size differs between runs on {where}, and with it MACs."
    records = [run.record for arm in arms for run in arm.counted]
    machines = {tuple(str(r.machine.get(key)) for key in _MACHINE) for r in records if r.machine}
    if len(machines) > 1:
        yield (
            "Caution: the runs come from different machines, devices or precisions; "
            "their times do not compare."
        )

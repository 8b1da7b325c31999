"""The opening: five sentences for each dataset, made from the numbers and from nothing else."""

from collections.abc import Mapping, Sequence

from medseg.report.arm import Arm
from medseg.report.cells import counted, fixed, interval, joined, p_value, percent, signed
from medseg.report.collect import Collection
from medseg.report.factors import Factors
from medseg.report.settings import varying_settings
from medseg.report.studies import Study
from medseg.report.trade import Trade
from medseg.report.verdicts import verdict_counts
from medseg.statistics import Comparison, Effect

_NAMED = 3
_BUDGETS = {"iterations": "the same number of training steps", "seconds": "the same training time"}
_QUANTITIES = {
    "parameters": "parameters",
    "macs": "multiply-accumulates",
    "memory": "training memory",
    "inference_memory": "inference memory",
    "latency": "latency",
}
_ALPHA = 0.05


def summarise(
    collection: Collection, study: Study, factors: Factors, trades: Sequence[Trade]
) -> list[str]:
    """What was compared, what came out, which factor matters, the best trade, what limits it."""
    return [
        _compared(study),
        _outcome(study),
        _factors(factors),
        _trade(study, trades),
        _limits(collection, study),
    ]


def _compared(study: Study) -> str:
    arms = study.compared
    cases = {case for arm in arms for case in study.chief.observations.cases(arm.number)}
    return (
        f"On {study.dataset or 'an unnamed dataset'}, {_grid(study)} with {_repeated(arms)} "
        f"{'was' if len(arms) == 1 else 'were'} validated on {counted(len(cases), 'case')}; "
        f"{_equal(study)}."
    )


def _grid(study: Study) -> str:
    arms = study.compared
    levels: dict[str, set[str]] = {}
    for arm in arms:
        for factor, level in arm.levels.items():
            levels.setdefault(factor, set()).add(level)
    varied = [f"{factor} at {len(found)} levels" for factor, found in levels.items()]
    grid = [text for text, found in zip(varied, levels.values(), strict=True) if len(found) > 1]
    return counted(len(arms), "arm") + (f" ({joined(grid)})" if grid else "")


def _repeated(arms: Sequence[Arm]) -> str:
    seeds = sorted({len({run.record.seed for run in arm.counted}) for arm in arms})
    folds = max(len({run.record.fold for run in arm.counted} - {None}) for arm in arms)
    text = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else counted(seeds[0], "seed")
    each = " each" if len(arms) > 1 else ""
    return f"{text} on {counted(folds, 'fold')}{each}" if folds else f"{text}{each}"


def _equal(study: Study) -> str:
    """What was held equal, and the budget, as far as plans and configurations say."""
    equals = {found.plan.equal for found in study.plans}
    matched = {arm.number for arm in study.compared if any(r.record.matched for r in arm.counted)}
    parts = []
    if len(equals) == 1 and (quantity := next(iter(equals))) and matched:
        name = _QUANTITIES.get(quantity, quantity)
        parts.append(f"widths were scaled until {name} were those of the reference")
    else:
        parts.append("widths were left as they are")
    budgets = {found.plan.budget for found in study.plans}
    varying = [key for key in varying_settings(study.compared) if key.startswith("trainer.")]
    if varying:
        parts.append(f"runs differ in {joined(varying[:_NAMED])}")
    elif len(budgets) == 1:
        parts.append(f"every run had {_BUDGETS.get(found := next(iter(budgets)), found)}")
    else:
        parts.append("every run had the same settings of the trainer")
    return " and ".join(parts)


def _outcome(study: Study) -> str:
    reference = study.reference.arm.label
    if not study.chief.comparisons:
        mean = study.chief.observations.mean(study.reference.arm.number)
        shown = "" if mean is None else f", mean Dice {fixed(mean)}"
        return f"Only {reference} has a result{shown}: there is nothing to compare it with."
    labels = {arm.number: arm.label for arm in study.arms}
    found = verdict_counts(study.chief)
    said = {word: word for word in found} | {"equal": f"equal within ±{study.margin:g}"}
    parts = [_counted(said[word], ones, labels) for word, ones in found.items() if ones]
    why = _why_undecided(found["undecided"])
    return f"Against {reference} in Dice: {'; '.join(parts)}{why}."


def _counted(word: str, found: Sequence[Comparison], labels: Mapping[int, str]) -> str:
    shown = f"{len(found)} {word}"
    if word == "better":
        return f"{shown} (most {_said(found[0], labels)})"
    if word == "worse":
        return f"{shown} (most {_said(found[-1], labels)})"
    if len(found) <= _NAMED:
        return f"{shown} ({joined([labels[one.arm] for one in found])})"
    return shown


def _said(found: Comparison, labels: Mapping[int, str]) -> str:
    estimate = signed(found.estimate or 0.0)
    return (
        f"{labels[found.arm]}: {estimate} [{interval(found.low, found.high)}], "
        f"p {_relation(found.p_holm)}"
    )


def _relation(value: float | None) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _why_undecided(found: Sequence[Comparison]) -> str:
    reasons = dict.fromkeys(one.reason for one in found)
    return f", because {next(iter(reasons))}" if len(reasons) == 1 else ""


def _factors(factors: Factors) -> str:
    main = [effect for effect in factors.main if effect.share is not None]
    if not factors.effects:
        return "No factor was varied, so nothing is said of factors."
    if not main:
        return f"No factor can be told from the others: {factors.effects[0].reason}."
    first = max(main, key=lambda effect: effect.share or 0.0)
    spread = max(level.mean for level in first.levels) - min(level.mean for level in first.levels)
    shown = first.p_value is not None and first.p_value <= _ALPHA
    told = (
        f"{fixed(spread)} between its best and its worst level "
        f"(F-test over runs on these cases, p {_relation(first.p_value)})"
    )
    doubt = "" if shown else ", so none was shown to matter"
    if len(factors.main) == 1:
        return f"The factor {first.factor} makes {told}; {_interacting(factors.interactions)}."
    place = "matters most" if shown else "comes first"
    share = f"{percent(first.share or 0.0)} of the variance of arm means"
    text = f"Of the factors, {first.factor} {place}: {share}, {told}{doubt}"
    return f"{text}; {_interacting(factors.interactions)}."


def _interacting(pairs: Sequence[Effect]) -> str:
    if not pairs:
        return "with one factor there are no interactions"
    known = [pair for pair in pairs if pair.p_value is not None]
    if not known:
        return "whether factors interact cannot be told, as " + pairs[0].reason
    strong = [pair for pair in known if (pair.p_value or 0.0) <= _ALPHA / len(known)]
    if not strong:
        least = min(known, key=lambda pair: pair.p_value or 0.0)
        return f"no interaction was shown (least p {_relation(least.p_value)}, {least.factor})"
    shown = [f"{pair.factor} ({_share(pair)}, p {_relation(pair.p_value)})" for pair in strong]
    return (
        f"factors interact: {joined(shown[:_NAMED])}, so levels are not good or bad by themselves"
    )


def _share(effect: Effect) -> str:
    return percent(effect.share or 0.0)


def _trade(study: Study, trades: Sequence[Trade]) -> str:
    reference = study.reference.arm
    if not study.chief.comparisons:
        return "With one arm there is nothing to trade."
    shown = [trade for trade in trades if trade.cost.key in ("parameters", "step")] or trades
    if not shown:
        return f"No arm that costs less than {reference.label} was shown to be equal or better."
    parts = []
    for trade in shown[:2]:
        found = study.chief.of(trade.arm.number)
        verdict = (
            "" if found is None else f"{found.verdict}, {signed(found.estimate or 0.0)} Dice, "
        )
        parts.append(
            f"by {trade.cost.title.lower()}, {trade.arm.label}: {verdict}"
            f"{trade.cost.shown(trade.value)} against {trade.cost.shown(trade.reference)} "
            f"({100 * trade.value / trade.reference:.0f} %)"
        )
    return f"The cheapest arm shown to be no worse is, {'; '.join(parts)}."


def _limits(collection: Collection, study: Study) -> str:
    shares = study.split.shares()
    names = {"case": "cases", "fold": "folds", "seed": "seeds", "residual": "seed × case"}
    spread = joined([f"{names[key]} {percent(part)}" for key, part in shares.items()])
    parts = [f"the variance of a single value lies in {spread}"] if spread else []
    if study.detectable.difference is not None:
        parts.append(
            f"{counted(study.detectable.seeds, 'seed')} and "
            f"{counted(study.detectable.cases, 'case')} find a difference of "
            f"{study.detectable.difference:.2g} Dice with {100 * study.detectable.power:.0f} % "
            "power before correction for the number of arms"
        )
    else:
        parts.append("how far trainings of one arm differ is unknown, so nothing can be decided")
    return f"What limits this: {'; '.join([*parts, _gaps(collection, study)])}."


def _gaps(collection: Collection, study: Study) -> str:
    own = {found.path for found in study.plans}
    missing = sum(gap.found.path in own for gap in collection.missing)
    without = [
        run.record.status
        for arm in study.arms
        for run in arm.runs
        if run.record.status != "completed"
    ]
    parts = [counted(missing, "run") + " missing"] if missing else []
    parts += [f"{without.count(status)} {status}" for status in dict.fromkeys(without)]
    return joined(parts) if parts else "no run is missing or failed"

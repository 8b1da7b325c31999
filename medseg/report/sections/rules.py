"""How verdicts and numbers are made, and what they do not say."""

from medseg.report.page import Section
from medseg.report.study import ReportData
from medseg.statistics import RULE

_NUMBERS = [
    "The case is the unit. A value is first averaged over the classes of the case, then over the "
    "runs of the arm that have the case; mean and standard deviation (n − 1) are taken over cases.",
    "Only completed runs give numbers. Where a fold and seed was run more than once, the newest "
    "completed run of it counts. Runs of one configuration are one arm, whatever their names.",
    "Arms are compared on the cases that both have; the reference is the one asked for, else the "
    "one that the plan names, else the first arm of the dataset.",
    "Dice and surface Dice: a class absent from label and prediction is undefined, left out of "
    "the mean and counted; absent from one of the two only, the value is 0.",
    "HD95: a class absent from label and prediction is undefined, left out and counted; absent "
    "from one of the two only, the value is the diagonal of the image in mm.",
    "Surface Dice is DeepMind's (Nikolov et al. 2018): the share of both surfaces, by area in 3-D "
    "and by length in 2-D, within the tolerance of the other. HD95 is the larger of the two "
    "directions' 95th percentiles of distances between surface voxels; tools that pool both "
    "directions, such as medpy, give other numbers.",
    "n is the number of cases with a value. Undefined values are counted singly, by run, case "
    "and class.",
    "Training step is the median step of a run; times and MACs are means over runs, peak memory "
    "is the largest of the runs. Gain and response are means over runs, with their range below. "
    "Epochs count from 1; epoch 0 is the network before training.",
]
_LIMITS = [
    "A verdict holds for these data, this budget and these settings of the training: an arm that "
    "is worse here may win with more epochs or another learning rate.",
    "Undecided is not equal: this study is too small to tell.",
    "The standard deviation over cases is how much cases differ, not how well the mean is known; "
    "arms are validated on the same cases, so their differences case by case are tighter than it.",
    "Measured times and memory are those of one machine under its load at that time; runs side by "
    "side are each other’s load. MACs count "
    "convolutions and matrix products of one forward pass on one patch, nothing else.",
    "These are validation cases. If arms, epochs or settings were chosen on them, the best "
    "number is optimistic; a test set that nobody looked at decides.",
]


def rules(data: ReportData) -> Section:
    """The same for every report."""
    parts = [
        Section("Verdicts", [list(RULE)]),
        Section("Numbers", [_NUMBERS]),
        Section("Limits", [_LIMITS]),
    ]
    return Section("Rules and limits", parts, key="rules")

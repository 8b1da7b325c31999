"""What the report says whatever the numbers are: definitions, rules and limits."""

CHECKERBOARD = (
    "DC-gain imbalance belongs to one upsampling layer. It asks what the layer does to a "
    "constant: 0 means that every output phase receives the same gain, so that a constant stays "
    "a constant; 1 means that all the energy of the response alternates with the stride.",
    "Anchors in closed form, at stride 2: an all-ones kernel of size 3 has 0.19 in 2-D and 0.271 "
    "in 3-D; random learned kernels of any size expect 1 − 1/P, with P the product of the "
    "strides, so 0.75 in 2-D and 0.875 in 3-D; interpolation has exactly 0.",
    "A large imbalance is a property of the layer, not of the segmentation: the convolutions, "
    "normalisations and skip connections that follow can damp it.",
    "The constant response is what the whole trained network prints: the part of its answer to "
    "a constant image that repeats with the strides.",
    "Its unit is a fraction of the standard deviation of the logits on real data: 0.01 is a "
    "pattern of one hundredth of the contrast that the network normally produces.",
)

ARTIFACTS = (
    "Gain κ: how unequally the phases of the grid amplify the logits of real cases, 0 for equal. "
    "Below 0.005 it is clean, below 0.02 detectable, below 0.1 visible in the logits, above "
    "severe. The input has a κ of its own, by noise or by a grid of its acquisition, and the "
    "second column is what the network adds to it.",
    "Cycle-spin residual: the share of the logits that does not move along when the image is "
    "moved by less than a period. It holds aliasing of the encoder and patterns of the decoder; "
    "texture moves along and does not count.",
    "Locked to the grid: p that the cases print one pattern by chance, the phases of each case "
    "permuted; the largest of the seeds, corrected for the number of arms by Holm's rule. No claim "
    "is made below 8 cases. With many voxels a tiny pattern has a small p: read κ first. Coherence "
    "is 1 if all cases print the same pattern, one over their number by chance.",
    "Boundaries: distance between the phases at which predicted and true label boundaries fall. "
    "Few boundaries differ by chance, so compare arms on the same cases.",
)

PHASE_MAPS = (
    "Gain of each phase of the grid, as its departure from the mean over phases, of the first run "
    "of each coloured arm. A cell without colour prints nothing; chance is what cases without a "
    "common pattern would show."
)

SPECTRA = (
    "Power of the logits by frequency, over its mean. Dots are the frequencies of the strides: a "
    "pattern that is locked to the grid stands out there and nowhere else."
)

FACTORS = (
    "Share is that of the variance of arm means (η², type II sums of squares). F-tests compare run "
    "means, so they hold for these cases; differences of levels count cases and trainings, are "
    "averaged over the levels of the other factors that both have, and are not corrected for "
    "their number. Where factors interact, look at the map before the means."
)

PROMISES = (
    "Memory predicted is the peak of a training step by its arithmetic, weights not included; "
    "measured is what the process or the device grew by, which holds the weights and what the "
    "libraries keep. A step promised is the reference’s, scaled by MACs: a ratio above 1 means "
    "that the arm is slower than its arithmetic says."
)

RULES = (
    "The case is the unit. A value is first averaged over the classes of the case, then over the "
    "runs of the arm that have the case; mean and standard deviation (n − 1) are taken over cases.",
    "Only completed runs give numbers. Where a fold and seed was run more than once, the newest "
    "completed run of it counts.",
    "Arms are compared on the cases that both have; the reference is the one asked for, else the "
    "one that the plan names, else the first arm of the dataset.",
    "Dice and surface Dice: a class absent from label and prediction is undefined, left out of "
    "the mean and counted; absent from one of the two only, the value is 0.",
    "HD95: a class absent from label and prediction is undefined, left out and counted; absent "
    "from one of the two only, the value is the diagonal of the image in mm.",
    "n is the number of cases with a value. Undefined values are counted singly, by run, case "
    "and class.",
    "Training step is the median step of a run; times and MACs are means over runs, peak memory "
    "is the largest of the runs. Gain and response are means over runs, with their range below.",
)

LIMITS = (
    "A verdict holds for these data, this budget and these settings of the training: an arm that "
    "is worse here may win with more epochs or another learning rate.",
    "Undecided is not equal: it says that this study is too small to tell.",
    "The standard deviation over cases says how much cases differ, not how well the mean is known; "
    "arms are validated on the same cases, so their differences case by case are tighter than it.",
    "Measured times and memory are those of one machine under its load at that time; runs side by "
    "side are each other’s load. MACs count "
    "convolutions and matrix products of one forward pass on one patch, nothing else.",
    "These are validation cases. If arms, epochs or settings were chosen on them, the best "
    "number is optimistic; a test set that nobody looked at decides.",
)

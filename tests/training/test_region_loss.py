"""Losses of regions are those of torch and MONAI on masks, without ignored voxels."""

import pytest
import torch
from monai.losses import DiceFocalLoss, DiceLoss, FocalLoss, TverskyLoss
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.labelling import Labelling
from medseg.training.loss import LossOfCounted, make_loss

REGIONS = Labelling.of_regions({"whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}, [2, 1, 3])
SHARED = {"include_background": False, "to_onehot_y": True, "softmax": True, "batch": True}
DICE_CE = {"_target_": "monai.losses.DiceCELoss"} | SHARED
TOP = {"_target_": "medseg.training.loss.TopKCrossEntropy", "share": 0.2}
OF_MONAI = {
    "DiceLoss": (SHARED, DiceLoss(sigmoid=True, batch=True)),
    "DiceFocalLoss": (SHARED, DiceFocalLoss(sigmoid=True, batch=True)),
    "TverskyLoss": (
        SHARED | {"alpha": 0.3, "beta": 0.7},
        TverskyLoss(sigmoid=True, batch=True, alpha=0.3, beta=0.7),
    ),
    "FocalLoss": ({"to_onehot_y": True, "use_softmax": True}, FocalLoss()),
}


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels, and the masks of the regions, written out."""
    label = torch.randint(0, 4, (2, 1, 6, 5, 4), dtype=torch.uint8)
    masks = torch.cat([label > 0, (label == 1) | (label == 3), label == 3], 1).float()
    return 3 * torch.randn(2, 3, 6, 5, 4), label, masks


@pytest.mark.parametrize("name", OF_MONAI)
def test_losses_of_monai_are_theirs_of_masks_by_sigmoid(name: str, batch) -> None:
    options, reference = OF_MONAI[name]
    logits, label, masks = batch
    found = make_loss({"_target_": f"monai.losses.{name}"} | options, REGIONS)(logits, label)
    torch.testing.assert_close(found, reference(logits, masks))


@pytest.mark.parametrize("smooth", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, [1.0, 2.0, 5.0]])
def test_dice_and_cross_entropy_are_dice_and_binary_cross_entropy(smooth, weight, batch) -> None:
    logits, label, masks = batch
    options = DICE_CE | {"label_smoothing": smooth, "weight": weight, "lambda_dice": 0.7}
    found = make_loss(options, REGIONS)(logits, label)
    each = torch.tensor(weight or [1.0, 1.0, 1.0])
    dice = DiceLoss(sigmoid=True, batch=True, weight=each)(logits, masks)
    target = masks * (1 - smooth) + smooth / 2
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * each.reshape(3, 1, 1, 1)).mean()
    torch.testing.assert_close(found, 0.7 * dice + entropy)


def test_the_hardest_are_the_largest_binary_cross_entropies(batch) -> None:
    logits, label, masks = batch
    each = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    hardest = sorted(each.flatten().tolist())[-144:]  # of 720
    assert make_loss(TOP, REGIONS)(logits, label).item() == pytest.approx(sum(hardest) / 144)


@pytest.mark.parametrize("options", [DICE_CE, TOP], ids=["dice_ce", "topk"])
def test_what_is_said_of_ignored_voxels_has_no_effect(options, batch) -> None:
    logits, label, _ = batch
    label[:, :, 3:] = REGIONS.ignored
    loss = LossOfCounted(make_loss(options, REGIONS), REGIONS.ignored)
    logits.requires_grad_()
    value = loss(logits, label)
    value.backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, 3:].any()
    counted = make_loss(options, REGIONS)(logits[:, :, :3], label[:, :, :3])
    torch.testing.assert_close(value, counted)


@pytest.mark.parametrize("name", ["BoundaryLoss", "HausdorffDTLoss", "SoftclDiceLoss"])
def test_a_loss_without_a_form_for_regions_is_refused(name: str) -> None:
    alone = {"_target_": f"monai.losses.{name}"}
    among = {"_target_": "medseg.training.loss.WeightedSum", "weights": {"a": 1.0}}
    for options in (alone, among | {"losses": {"a": alone}}):
        with pytest.raises(ConfigError, match=name):
            make_loss(options, REGIONS)


@pytest.mark.parametrize("weight", [[1.0, 2.0], [1.0, 2.0, 3.0, 4.0], 5], ids=str)
def test_regions_have_one_weight_each(weight) -> None:
    with pytest.raises(ConfigError, match="weight"):
        make_loss(DICE_CE | {"weight": weight}, REGIONS)

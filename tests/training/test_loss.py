"""Losses with weights of classes, and over the voxels that count."""

import pytest
import torch
from monai.losses import DiceCELoss
from torch.nn import functional

from medseg.build import build
from medseg.errors import ConfigError
from medseg.labelling import Labelling
from medseg.training.loss import LossOfCounted, make_loss

CLASSES = Labelling(("one", "two"))
SHARED = {"include_background": False, "to_onehot_y": True, "softmax": True}
LOSSES = {
    "dice_ce": {"_target_": "monai.losses.DiceCELoss", "batch": True, **SHARED},
    "dice_focal": {"_target_": "monai.losses.DiceFocalLoss", "batch": True, **SHARED},
    "dice": {"_target_": "monai.losses.DiceLoss", "batch": True, **SHARED},
    "tversky": {"_target_": "monai.losses.TverskyLoss", "batch": True, **SHARED},
    "generalized": {"_target_": "monai.losses.GeneralizedDiceLoss", "batch": True, **SHARED},
    "topk": {
        "_target_": "medseg.training.loss.WeightedSum",
        "weights": {"dice": 1.0, "hardest": 0.5},
        "losses": {
            "dice": {"_target_": "monai.losses.DiceLoss", "batch": True, **SHARED},
            "hardest": {"_target_": "medseg.training.loss.TopKCrossEntropy", "share": 0.2},
        },
    },
    "focal": {
        "_target_": "monai.losses.FocalLoss",
        "include_background": False,
        "to_onehot_y": True,
        "use_softmax": True,
    },
}
WEIGHTED = ["dice_ce", "dice_focal", "dice", "focal"]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    label = torch.randint(0, 3, (2, 1, 6, 5, 4), dtype=torch.uint8)
    return torch.randn(2, 3, 6, 5, 4), label


@pytest.mark.parametrize("name", WEIGHTED)
def test_the_weight_of_the_background_may_be_left_out(name: str, batch) -> None:
    plain = make_loss(LOSSES[name] | {"weight": None}, CLASSES)(*batch)
    equal = make_loss(LOSSES[name] | {"weight": [1, 1.0]}, CLASSES)(*batch)
    torch.testing.assert_close(plain, equal)
    weighted = make_loss(LOSSES[name] | {"weight": [1.0, 5.0]}, CLASSES)(*batch)
    assert weighted > plain
    torch.testing.assert_close(plain, build(LOSSES[name])(*batch))


def test_weights_are_those_of_cross_entropy_and_of_dice(batch) -> None:
    only_ce = LOSSES["dice_ce"] | {"lambda_dice": 0.0}
    logits, label = batch
    for weight in ([0.5, 1, 5], [1, 5]):
        expected = functional.cross_entropy(
            logits, label[:, 0].long(), torch.tensor([*[1.0] * (3 - len(weight)), *weight])
        )
        torch.testing.assert_close(
            make_loss(only_ce | {"weight": weight}, CLASSES)(*batch), expected
        )


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize(
    "weight",
    [5, "5", [], [1], [1, 2, 3, 4], [1, -1], [1, "2"], [1, None], [0, 1], [1, True], [1, 1e999]],
    ids=str,
)
def test_what_is_no_list_of_weights_is_refused(name: str, weight) -> None:
    with pytest.raises(ConfigError, match=r"loss\.weight"):
        make_loss(LOSSES[name] | {"weight": weight}, CLASSES)


def test_a_loss_that_takes_no_weights_says_so() -> None:
    with pytest.raises(ConfigError, match=r"loss.*weight"):
        make_loss(LOSSES["tversky"] | {"weight": [1.0, 2.0]}, CLASSES)


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_said_of_ignored_voxels_has_no_effect(name: str, batch) -> None:
    logits, label = batch
    label[:, :, 3:] = 3
    loss = LossOfCounted(make_loss(LOSSES[name], CLASSES), 3)
    logits.requires_grad_()
    value = loss(logits, label)
    value.backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, 3:].any()
    assert logits.grad[:, :, :3].any()
    # it is the loss of the counted half alone
    torch.testing.assert_close(value, loss.loss(logits[:, :, :3], label[:, :, :3]))


@pytest.mark.parametrize("smooth", [0.0, 0.2])
def test_the_hardest_voxels_are_those_of_the_largest_cross_entropy(batch, smooth: float) -> None:
    logits, label = batch
    options = {"_target_": "medseg.training.loss.TopKCrossEntropy", "label_smoothing": smooth}
    weight = torch.tensor([1.0, 2.0, 3.0])
    each = functional.cross_entropy(
        logits, label[:, 0].long(), weight, label_smoothing=smooth, reduction="none"
    )
    hardest = sorted(each.flatten().tolist())[-48:]  # of 240
    value = make_loss(options | {"share": 0.2, "weight": [2.0, 3.0]}, CLASSES)(*batch)
    assert value.item() == pytest.approx(sum(hardest) / 48)
    everything = make_loss(options | {"share": 1.0, "weight": [1.0, 2.0, 3.0]}, CLASSES)(*batch)
    torch.testing.assert_close(everything, each.mean())


def test_a_weighted_sum_is_one(batch) -> None:
    one, other = (LOSSES[name] for name in ("dice", "focal"))
    both = {"_target_": "medseg.training.loss.WeightedSum", "losses": {"a": one, "b": other}}
    expected = 0.3 * make_loss(one, CLASSES)(*batch) + 2 * make_loss(other, CLASSES)(*batch)
    value = make_loss(both | {"weights": {"a": 0.3, "b": 2}}, CLASSES)(*batch)
    torch.testing.assert_close(value, expected)
    weighted = both | {"losses": {"a": one | {"weight": [1.0]}, "b": other}}
    with pytest.raises(ConfigError, match=r"loss\.losses\.a\.weight"):
        make_loss(weighted | {"weights": {"a": 1, "b": 1}}, CLASSES)
    for weights in ({"a": 1}, {"a": 1, "b": -1}, {"a": 1, "b": "1"}):
        with pytest.raises(ConfigError):
            make_loss(both | {"weights": weights}, CLASSES)


def test_dice_by_patch_leaves_out_the_ignored_voxels_of_each(batch) -> None:
    logits, label = batch
    label[0, :, 4:] = 3
    loss = LossOfCounted(make_loss(LOSSES["dice"] | {"batch": False}, CLASSES), 3)
    first = loss.loss(logits[:1, :, :4], label[:1, :, :4])
    expected = (first + loss.loss(logits[1:], label[1:])) / 2
    torch.testing.assert_close(loss(logits, label), expected)


def test_without_ignored_voxels_it_is_the_same_loss_to_the_bit(batch) -> None:
    loss = make_loss(LOSSES["dice_ce"], CLASSES)
    assert LossOfCounted(loss, 3)(*batch) == loss(*batch)


def test_a_batch_of_which_nothing_counts_changes_nothing(batch) -> None:
    logits = batch[0].requires_grad_()
    value = LossOfCounted(DiceCELoss(**SHARED), 3)(logits, torch.full_like(batch[1], 3))
    value.backward()
    assert value == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("name", ["HausdorffDTLoss", "BoundaryLoss"])
def test_a_loss_of_neighbourhoods_cannot_leave_voxels_out(name: str) -> None:
    alone = {"_target_": f"monai.losses.{name}"}
    among = {"_target_": "medseg.training.loss.WeightedSum", "weights": {"a": 1.0}}
    for options in (alone, among | {"losses": {"a": alone}}):
        with pytest.raises(ConfigError, match=name):
            LossOfCounted(make_loss(options, CLASSES), 3)

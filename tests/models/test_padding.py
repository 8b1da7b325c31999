"""A network of another library takes any size, and is itself where it could before."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.analysis.input_sizes import check_patch
from medseg.errors import ConfigError
from medseg.models.description import build_network
from medseg.models.padding import Padded

from .networks import MONAI_UNET

PADDED = {"name": "models.padding.Padded", "multiple": 4, "network": MONAI_UNET}


class Strict(nn.Module):
    """The identity, for sizes of a multiple only."""

    def __init__(self, *multiple: int):
        super().__init__()
        self.multiple = multiple
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        assert all(n % m == 0 for n, m in zip(x.shape[2:], self.multiple, strict=True))
        self.seen.append(x)
        return x.clone()


@pytest.mark.parametrize("size", [(1, 1), (4, 8), (5, 9), (3, 4), (9, 2)], ids=str)
@pytest.mark.parametrize("multiple", [(4, 4), (1, 3), (5, 2)], ids=str)
def test_what_comes_out_is_what_went_in_of_any_size(size, multiple) -> None:
    network = Strict(*multiple)
    image = torch.randn(2, 3, *size)
    assert torch.equal(Padded(network=network, multiple=multiple)(image), image)
    (seen,) = network.seen
    smallest = tuple(math.ceil(n / m) * m for n, m in zip(size, multiple, strict=True))
    assert seen.shape[2:] == smallest
    rows, columns = (now - then for now, then in zip(smallest, size, strict=True))
    assert torch.equal(seen, nn.functional.pad(image, (0, columns, 0, rows)))


def test_a_size_that_fits_goes_through_untouched() -> None:
    network = Strict(4, 2)
    image = torch.randn(1, 1, 8, 6)
    Padded(network=network, multiple=(4, 2))(image)
    assert network.seen[0] is image


class TestMonai:
    def test_others_are_padded_at_the_far_end_and_cropped(self) -> None:
        padded = build_network(PADDED).eval()
        image = torch.randn(1, 1, 13, 18)
        expected = padded.network(nn.functional.pad(image, (0, 2, 0, 3)))[..., :13, :18]
        assert torch.equal(padded(image), expected)
        with pytest.raises(RuntimeError):  # the trap is real
            padded.network(image)

    def test_a_patch_of_any_size_passes(self) -> None:
        check_patch(build_network(PADDED), 1, (13, 18), deep_supervision=False)

    def test_other_options_and_a_network_that_is_none_are_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"no option 'factor'.* network, multiple"):
            build_network(PADDED | {"factor": 2})
        with pytest.raises(ConfigError, match=r"multiple=\(4, 4, 4\) has 3 axes|multiple="):
            check_patch(
                build_network(PADDED | {"multiple": [4, 4, 4]}),
                1,
                (16, 16),
                deep_supervision=False,
            )

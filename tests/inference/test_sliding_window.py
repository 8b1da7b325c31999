"""A network applied window by window is the network applied to the whole, where that is defined."""

import math

import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

from medseg.inference.sliding_window import band_axis, blended_slices, slide

VOLUME = (13, 10, 7)


def pointwise(dims: int) -> nn.Module:
    return (nn.Conv2d, nn.Conv3d)[dims - 2](2, 3, 1)


class Counting(nn.Module):
    """Keeps the shapes it has seen."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return self.network(x)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("patch", [(4, 4, 4), (5, 3, 7), (13, 10, 7), (16, 4, 9), (32, 32, 32)])
def test_the_windows_weights_sum_to_one_everywhere(patch, overlap) -> None:
    network = pointwise(3)
    image = torch.randn(1, 2, *VOLUME)
    with torch.no_grad():
        torch.testing.assert_close(slide(network, image, patch, overlap=overlap), network(image))


@pytest.mark.parametrize("overlap", [0.0, 0.5])
@pytest.mark.parametrize("patch", [(4, 4), (5, 3), (13, 10), (16, 4), (32, 32)])
def test_a_flat_network_gets_slices_along_the_last_axis(patch, overlap) -> None:
    network = nn.Conv2d(2, 3, 3, padding=1)
    image = torch.randn(1, 2, *VOLUME)
    counting = Counting(network)
    with torch.no_grad():
        whole = slide(counting, image, patch, overlap=overlap)
        for index in range(VOLUME[-1]):
            one = slide(network, image[..., index : index + 1], patch, overlap=overlap)
            torch.testing.assert_close(whole[..., index : index + 1], one)
    assert whole.shape == (1, 3, *VOLUME)
    assert {shape[1:] for shape in counting.seen} == {(2, *patch)}


def test_a_smaller_volume_is_padded_to_the_window_and_cropped() -> None:
    counting = Counting(pointwise(3))
    image = torch.randn(1, 2, 3, 9, 2)
    with torch.no_grad():
        out = slide(counting, image, (8, 8, 8), overlap=0.5)
        torch.testing.assert_close(out, counting.network(image))
    assert {shape[1:] for shape in counting.seen} == {(2, 8, 8, 8)}


def test_windows_are_computed_in_batches() -> None:
    image = torch.randn(1, 2, 8, 8, 8)
    results = []
    for batch in (1, 3, 8):
        counting = Counting(pointwise(3).requires_grad_(False))
        nn.init.ones_(counting.network.weight)
        nn.init.zeros_(counting.network.bias)
        results.append(slide(counting, image, (4, 4, 4), overlap=0.0, windows_per_batch=batch))
        assert len(counting.seen) == math.ceil(8 / batch)
        assert max(shape[0] for shape in counting.seen) == batch
    torch.testing.assert_close(results[0], results[1])
    torch.testing.assert_close(results[0], results[2])


def test_the_middle_of_a_window_counts_more_than_its_border() -> None:
    class Position(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(x.shape[-1], dtype=x.dtype).expand(x.shape).clone()

    out = slide(Position(), torch.zeros(1, 1, 8, 8, 12), (8, 8, 8), overlap=0.5)[0, 0, 4, 4]
    # voxel 4 is 4 of the first window, its middle, and 0 of the second; voxel 7 is 7 and 3
    assert out[4] > 3.9
    assert out[7] < 3.5


def test_half_precision_logits_come_back_as_float32() -> None:
    class Half(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.to(torch.bfloat16)

    out = slide(Half(), torch.ones(1, 1, 6, 6, 6), (4, 4, 4), overlap=0.5)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torch.ones(1, 1, 6, 6, 6))


@pytest.mark.parametrize("spill", [False, True])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize(
    ("shape", "patch"),
    [((13, 10, 7), (5, 3, 7)), ((30, 9, 21), (16, 8, 16)), ((5, 40, 9), (16, 16, 16)),
     ((21, 12, 11), (7, 9)), ((5, 30, 9), (16, 16))],
)  # fmt: skip
def test_slices_are_those_of_monai_whatever_is_computed_at_once(
    shape, patch, overlap, spill
) -> None:
    flat = len(patch) == 2
    network = (nn.Conv2d if flat else nn.Conv3d)(2, 3, 3, padding=1).eval()
    image = torch.randn(1, 2, *shape)
    image[:, :, :, : shape[1] // 2] = 1  # constant windows are computed once

    def predict(windows: Tensor) -> Tensor:
        return network(windows.squeeze(-1)).unsqueeze(-1) if flat else network(windows)

    with torch.no_grad():
        expected = sliding_window_inference(
            image, [*patch, 1][:3], 2, predict, overlap=overlap, mode="gaussian"
        )
        for count in (1, 3, None):
            found = torch.stack(
                [
                    *blended_slices(
                        network,
                        image[0],
                        patch,
                        overlap=overlap,
                        windows_per_batch=count,
                        reuse=True,
                        spill=spill,
                    )
                ],
                1 + band_axis(shape, patch),
            )
            torch.testing.assert_close(found[None], expected, rtol=1e-4, atol=1e-5)


def test_constant_windows_are_computed_once() -> None:
    network = Counting(nn.Conv3d(1, 2, 3, padding=1)).eval()
    image = torch.full((1, 1, 40, 8, 8), -1.0)
    image[..., 24:, :, :] = 2
    with torch.no_grad():
        found = slide(network, image, (8, 8, 8), overlap=0.0, windows_per_batch=1)
        assert len(network.seen) == 2  # of five
        every = slide(network.train(), image, (8, 8, 8), overlap=0.0, windows_per_batch=1)
    assert len(network.seen) == 7
    torch.testing.assert_close(found, every)

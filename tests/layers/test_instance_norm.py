"""The instance normalisation for channels last against torch's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medseg.layers.instance_norm import InstanceNorm2d, InstanceNorm3d

OURS = {2: InstanceNorm2d, 3: InstanceNorm3d}
NATIVE = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
GRIDS = {2: (7, 10), 3: (5, 6, 3)}

layouts = pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
dimensions = pytest.mark.parametrize("dims", [2, 3])


def laid_out(x: Tensor, last: bool) -> Tensor:
    return x.contiguous(memory_format=LAST[x.ndim - 2]) if last else x


def norms(dims: int, channels: int, dtype=torch.float64, eps=1e-5) -> list[nn.Module]:
    """Ours and torch's, with the same random scale and bias."""
    ours, native = (kind[dims](channels, affine=True, eps=eps) for kind in (OURS, NATIVE))
    for parameter in native.parameters():
        nn.init.normal_(parameter)
    assert list(ours.state_dict()) == list(native.state_dict())
    ours.load_state_dict(native.state_dict())
    return [norm.to(dtype) for norm in (ours, native)]


def results(norm, x: Tensor) -> list[Tensor]:
    """Output and the gradients by input, scale and bias."""
    x = x.detach().requires_grad_()
    out = norm(x)
    seed = torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape).sin().to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [x, norm.weight, norm.bias], seed)]


def assert_equals_torch(x: Tensor, dims: int, **options) -> None:
    found = [results(norm, x) for norm in norms(dims, x.shape[1], **options)]
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


@settings(max_examples=40)
@given(
    grid=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(2, 9)),
        st.tuples(st.integers(1, 5), st.integers(2, 5), st.integers(1, 5)),
    ),
    channels=st.integers(1, 70),
    batch=st.integers(1, 3),
    last=st.booleans(),
)
def test_it_is_torchs_and_so_are_its_gradients(grid, channels, batch, last) -> None:
    torch.manual_seed(0)
    x = torch.randn(batch, channels, *grid, dtype=torch.float64) * 3 + 2
    assert_equals_torch(laid_out(x, last), len(grid))


@dimensions
@pytest.mark.parametrize("channels", [2, 5, 33])
def test_channels_last_comes_out_as_it_went_in(dims, channels) -> None:
    x = laid_out(torch.randn(2, channels, *GRIDS[dims]), True).requires_grad_()
    out = OURS[dims](channels, affine=True)(x)
    assert out.is_contiguous(memory_format=LAST[dims])
    assert not out.is_contiguous()
    out.sum().backward()
    assert x.grad.is_contiguous(memory_format=LAST[dims])


@layouts
@dimensions
@pytest.mark.parametrize("channels", [3, 40])
def test_an_offset_of_a_hundred_deviations_changes_little(dims, channels, last) -> None:
    x = laid_out(torch.randn(2, channels, *(24, 20, 22)[:dims]) + 100, last)
    exact, native = (results(norm, x.double()) for norm in norms(dims, channels))
    torch.testing.assert_close(exact, native, atol=1e-9, rtol=1e-9)
    norm = OURS[dims](channels, affine=True)
    expected = functional.instance_norm(x.double())
    assert (norm(x).double() - expected).abs().max() < 1e-3


@dimensions
@pytest.mark.parametrize("offset", [0, 100])
def test_gradients_in_single_precision_are_about_as_exact_as_torchs(dims, offset) -> None:
    x = laid_out(torch.randn(2, 8, *(24, 20, 22)[:dims]) + offset, True)
    norm, native = norms(dims, 8, torch.float32)
    mine, theirs = results(norm, x), results(native, x)
    exact = results(native.double(), x.double())
    for value, other, truth in zip(mine, theirs, exact, strict=True):
        scale = truth.abs().max()
        error, yardstick = ((v.double() - truth).abs().max() / scale for v in (value, other))
        assert error < 4 * yardstick + 1e-5


@layouts
@dimensions
@pytest.mark.parametrize("offset", [0, 2])
def test_in_half_precision_it_is_about_as_exact_as_torchs(dims, last, offset) -> None:
    x = (laid_out(torch.randn(2, 8, *GRIDS[dims]), last) + offset).bfloat16()
    norm, native = norms(dims, 8, torch.bfloat16)
    mine, theirs = results(norm, x), results(native, x)
    exact = results(native.double(), x.double())
    for value, other, truth in zip(mine, theirs, exact, strict=True):
        assert value.dtype == torch.bfloat16
        scale = truth.abs().max()
        error, yardstick = ((v.double() - truth).abs().max() / scale for v in (value, other))
        assert error < 2 * yardstick + 0.01


@layouts
@dimensions
def test_an_activation_may_follow_in_place(dims, last) -> None:
    x = laid_out(torch.randn(2, 5, *GRIDS[dims], dtype=torch.float64), last)
    ours, native = norms(dims, 5)
    found = []
    for norm, activation in ((ours, nn.LeakyReLU(0.2, inplace=True)), (native, nn.LeakyReLU(0.2))):
        inputs = x.clone(memory_format=torch.preserve_format).requires_grad_()
        out = activation(norm(inputs))
        out.sin().sum().backward()
        found.append([out.detach(), inputs.grad, norm.weight.grad, norm.bias.grad])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-9, rtol=1e-9)


@layouts
@dimensions
def test_one_voxel_is_refused_as_torch_refuses_it(dims, last) -> None:
    x = laid_out(torch.randn(2, 3, *[1] * dims), last)
    messages = []
    for kind in (OURS, NATIVE):
        with pytest.raises(ValueError, match="more than 1 spatial element") as error:
            kind[dims](3, affine=True)(x)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


@layouts
@dimensions
def test_autocast_takes_half_precision_and_single_precision_parameters(dims, last) -> None:
    x = laid_out(torch.randn(2, 4, *GRIDS[dims]), last)
    norm, native = norms(dims, 4, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        mine = results(norm, x.bfloat16())
    assert mine[2].dtype == mine[3].dtype == torch.float32
    for value, truth in zip(mine, results(native, x), strict=True):
        assert (value.float() - truth).abs().max() < 0.03 * truth.abs().max() + 0.01


# torch's compiler instantiates every autograd function that it traces
@pytest.mark.filterwarnings("ignore:.*should not be instantiated")
@layouts
def test_compiled_it_is_the_same(last) -> None:
    dims = 3
    x = laid_out(torch.randn(2, 4, *GRIDS[dims]), last)
    norm, _ = norms(dims, 4, torch.float32)
    expected = results(norm, x)
    torch._dynamo.reset()
    for mine, theirs in zip(
        results(torch.compile(norm, backend="aot_eager"), x), expected, strict=True
    ):
        torch.testing.assert_close(mine, theirs)


@layouts
def test_exported_it_is_made_of_torchs_own(last) -> None:
    dims = 2
    x = laid_out(torch.randn(2, 4, *GRIDS[dims]), last)
    norm, _ = norms(dims, 4, torch.float32)
    with torch.no_grad():
        program = torch.export.export(norm.eval(), (x,))
        torch.testing.assert_close(program.module()(x), norm(x))
    targets = [str(n.target) for n in program.graph.nodes if n.op == "call_function"]
    assert any("instance_norm" in target for target in targets)
    assert all(target.startswith("aten.") for target in targets)


class TestUnusualUse:
    """What torch's own layer takes or refuses, this one takes or refuses too."""

    def test_an_image_without_a_batch(self) -> None:
        x = torch.randn(3, 3, 5)
        expected = nn.InstanceNorm2d(3, affine=True)(x)
        torch.testing.assert_close(InstanceNorm2d(3, affine=True)(x), expected)

    def test_without_scale_and_bias_and_with_running_statistics(self) -> None:
        x = torch.randn(2, 3, 6, 5) + 4
        for options in ({}, {"affine": True, "track_running_stats": True}):
            layer, reference = InstanceNorm2d(3, **options), nn.InstanceNorm2d(3, **options)
            torch.testing.assert_close(layer(x), reference(x))
            torch.testing.assert_close(layer.eval()(x), reference.eval()(x))


@layouts
@dimensions
def test_a_slice_and_a_transposed_tensor_are_normalised_too(dims, last) -> None:
    whole = torch.randn(3, 12, *(2 * n for n in GRIDS[dims]), dtype=torch.float64)
    x = laid_out(whole, last)[:2, ::2, 1:].transpose(-1, -2)
    assert_equals_torch(x, dims)

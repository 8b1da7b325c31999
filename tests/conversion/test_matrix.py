"""Matrices of convolutions against torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.testing import assert_allclose
from scipy import sparse

from medseg.conversion.matrix import convolution_matrix, transposed_matrix

from .layers import CONV, TRANSPOSE, convolutions, random_tensor, transposed_convolutions

exact = {"rtol": 1e-12, "atol": 1e-12}


def test_the_guides_example_has_one_row_per_output_voxel() -> None:
    weight = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    matrix = convolution_matrix(weight, (4, 4))
    assert isinstance(matrix, sparse.csr_array)
    assert matrix.shape == (4, 16)
    first = [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 0, 0, 0, 0]
    rows = [np.roll(first, shift) for shift in (0, 1, 4, 5)]
    assert_allclose(matrix.toarray(), rows)
    transposed = transposed_matrix(weight, (2, 2))
    assert transposed.shape == (16, 4)
    assert_allclose(transposed.toarray(), matrix.toarray().T)


@settings(deadline=None)
@given(convolutions())
def test_a_convolution_is_its_matrix(drawn) -> None:
    image, weight, options = drawn
    expected = CONV[image.ndim - 2](image, weight, **options)
    matrix = convolution_matrix(weight, image.shape[2:], **options)
    assert matrix.shape == (expected.numel(), image.numel())
    assert matrix.nnz <= expected.numel() * weight[0].numel()
    assert_allclose(matrix @ image.numpy().ravel(), expected.numpy().ravel(), **exact)


@settings(deadline=None)
@given(transposed_convolutions())
def test_a_transposed_convolution_is_its_matrix(drawn) -> None:
    image, weight, options = drawn
    expected = TRANSPOSE[image.ndim - 2](image, weight, **options)
    matrix = transposed_matrix(weight, image.shape[2:], **options)
    assert matrix.shape == (expected.numel(), image.numel())
    assert_allclose(matrix @ image.numpy().ravel(), expected.numpy().ravel(), **exact)


@settings(deadline=None)
@given(convolutions())
def test_its_transpose_is_the_transposed_convolution_and_the_adjoint(drawn) -> None:
    image, weight, options = drawn
    matrix = convolution_matrix(weight, image.shape[2:], **options)
    x = image.numpy().ravel()
    y = random_tensor(matrix.shape[0]).numpy()
    assert_allclose((matrix @ x) @ y, x @ (matrix.T @ y), **exact)
    coarse = CONV[image.ndim - 2](image, weight, **options)
    image.requires_grad_()
    forward = CONV[image.ndim - 2](image, weight, **options)
    (gradient,) = torch.autograd.grad(forward, image, torch.from_numpy(y).reshape(coarse.shape))
    assert_allclose(matrix.T @ y, gradient.numpy().ravel(), **exact)


def test_one_number_stands_for_all_axes() -> None:
    weight = random_tensor(2, 1, 3, 3, 3)
    one = convolution_matrix(weight, (5, 6, 7), 2, 1, 1)
    each = convolution_matrix(weight, (5, 6, 7), (2, 2, 2), (1, 1, 1), (1, 1, 1))
    assert (one != each).nnz == 0


def test_the_precision_is_the_weights() -> None:
    assert convolution_matrix(torch.ones(1, 1, 2), (3,)).dtype == np.float32
    assert convolution_matrix(random_tensor(1, 1, 2), (3,)).dtype == np.float64


def test_a_weight_that_is_trained_may_be_given() -> None:
    weight = torch.nn.Conv2d(1, 2, 3).weight
    assert convolution_matrix(weight, (3, 3)).shape == (2, 9)


class TestRefused:
    def test_a_kernel_larger_than_the_grid(self) -> None:
        with pytest.raises(ValueError, match=r"\(2, 5\) is smaller .* choose a larger grid"):
            convolution_matrix(random_tensor(1, 1, 3, 3), (2, 5))

    def test_padding_that_leaves_nothing(self) -> None:
        with pytest.raises(ValueError, match=r"padding=\(2,\) leaves nothing .* choose less"):
            transposed_matrix(random_tensor(1, 1, 3), (2,), 1, 2)

    def test_as_many_numbers_as_there_are_no_axes(self) -> None:
        with pytest.raises(ValueError, match="has 3 axes, the kernel has 2; give one number, or 2"):
            convolution_matrix(random_tensor(1, 1, 3, 3), (5, 5), (1, 2, 2))

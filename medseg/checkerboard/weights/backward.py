"""Patterns that a strided convolution prints on the gradient of its input."""

from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.weights.imbalance import dc_gain_imbalance
from medseg.checkerboard.weights.polyphase import kernel_gains
from medseg.checkerboard.weights.taps import kernel_of_weight

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d


def gradient_gains(layer: nn.Module) -> Float[Tensor, "phases outputs inputs"]:
    """`G_φ = Σ_{n ≡ φ mod s} Wᵀ[n]`: gradient on each phase of the input for equal ones behind.

    The gradient of a convolution is the transposed convolution with its weights, so these are
    the DC gains of that: the outputs of the layer are its inputs.

    Raises:
        TypeError: a layer that is no convolution.
        ValueError: stride 1 on all axes, only zeros, or a weight that is not finite.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts",
    on artifacts in gradients.

    >>> layer = nn.Conv1d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> gradient_gains(layer).flatten().tolist()
    [2.0, 1.0]
    """
    if not isinstance(layer, _Conv):
        raise TypeError(f"{type(layer).__name__} is no convolution, whose gradient has a kernel")
    adjoint = kernel_of_weight(layer.weight, layer.groups, layer.dilation)
    return kernel_gains(adjoint, layer.stride)


def gradient_imbalance(
    layer: nn.Module, moment: Float[Tensor, "outputs outputs"] | None = None
) -> float:
    """`A` of `gradient_gains`: gradient energy off the mean phase of the input, in [0, 1].

    0 iff equal gradients behind the layer reach all voxels before it alike. Independent of scale,
    bias, padding and rotations of the inputs. All-ones taps: a kernel of 1 at stride 2 gives
    `1 − 2^{−d}`, of 2 gives 0, of 3 gives 0.1, 0.19 and 0.271 in 1-D, 2-D and 3-D.

    Args:
        layer: A convolution with a stride.
        moment: Second moments of the gradients at the outputs; a matrix of ones for the gradient
            of the sum of all outputs. None: the identity.

    Returns:
        The imbalance; 0 for weights whose sums over all phases are 0.

    Raises:
        TypeError: a layer that is no convolution.
        ValueError: what `gradient_gains` and `dc_gain_imbalance` refuse.

    Reference: as of `gradient_gains`; Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9
    (backward propagation through a downsampling).

    >>> layer = nn.Conv2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> gradient_imbalance(layer)
    0.19
    """
    return dc_gain_imbalance(gradient_gains(layer), moment)

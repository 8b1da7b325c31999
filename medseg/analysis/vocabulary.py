"""Which primitive operations are known, and of what kind each is.

An operation that stands nowhere here is unknown: it is named, its cost is not taken for 0 and its
receptive field is not taken for nothing.
"""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


VIEWS = _names(
    """
    view _unsafe_view reshape _reshape_alias permute transpose t unsqueeze squeeze expand select
    slice narrow detach alias split split_with_sizes unsafe_split unbind unflatten movedim unfold
    """
)
"""Other shapes of the same memory."""

MAKERS = _names(
    """
    empty zeros ones full arange eye scalar_tensor empty_like zeros_like ones_like full_like
    new_zeros new_ones new_empty new_full new_empty_strided promote_types lift_fresh
    empty_strided empty_permuted linspace rand randn rand_like randn_like
    """
)
"""Tensors that depend on no other."""

PADS = _names(
    """
    constant_pad_nd replication_pad1d replication_pad2d replication_pad3d reflection_pad1d
    reflection_pad2d reflection_pad3d
    """
)
NEAREST_INTERPOLATIONS = _names(
    """
    upsample_nearest1d upsample_nearest2d upsample_nearest3d
    """
)
UNPOOLINGS = _names(
    """
    max_unpool2d max_unpool3d
    """
)
"""Values put where the maxima of windows were."""

MOVES = (
    PADS
    | NEAREST_INTERPOLATIONS
    | UNPOOLINGS
    | _names(
        """
    clone contiguous _to_copy copy cat stack repeat flip roll fill zero pixel_shuffle
    pixel_unshuffle channel_shuffle native_channel_shuffle index index_select gather embedding
    """
    )
)
"""Values put elsewhere; nothing is calculated."""

COMPARISONS = _names("eq ne lt le gt ge logical_and logical_or logical_not")
POINTWISE = COMPARISONS | _names(
    """
    relu relu6 leaky_relu prelu _prelu_kernel elu celu selu gelu silu mish hardtanh hardswish
    hardsigmoid sigmoid tanh softplus logsigmoid log_sigmoid_forward exp exp2 expm1 log log2
    log1p sqrt rsqrt square abs neg reciprocal sign sin cos erf floor ceil round trunc clamp
    clamp_min clamp_max add sub rsub mul div true_divide floor_divide remainder fmod pow maximum
    minimum addcmul addcdiv lerp where masked_fill threshold dropout native_dropout
    bitwise_and bitwise_or bitwise_not nan_to_num alpha_dropout feature_dropout bernoulli
    tril triu
    """
)
"""One result per voxel, from that voxel of each input."""

NORMS = _names(
    """
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training
    _batch_norm_with_update cudnn_batch_norm native_group_norm native_layer_norm instance_norm
    batch_norm _weight_norm_interface
    """
)
"""Normalisations."""

POOLS = _names(
    """
    max_pool2d_with_indices max_pool3d_with_indices max_pool1d max_pool2d max_pool3d avg_pool1d
    avg_pool2d avg_pool3d
    """
)
"""One result per window of voxels."""

LINEAR_INTERPOLATIONS = _names(
    """
    upsample_linear1d upsample_bilinear2d upsample_trilinear3d
    """
)
SAMPLERS = _names(
    """
    grid_sampler_2d grid_sampler_3d
    """
)
"""Interpolation at places that are calculated."""

ADAPTIVE_POOLS = _names(
    """
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d
    """
)
REDUCTIONS = ADAPTIVE_POOLS | _names(
    """
    sum mean amax amin max min var std var_mean std_mean norm linalg_vector_norm argmax argmin
    logsumexp prod all any
    """
)
SOFTMAXES = _names(
    """
    _softmax _log_softmax _safe_softmax softmax log_softmax
    """
)
PRODUCTS = _names(
    """
    mm bmm addmm baddbmm addbmm mv dot vdot addmv
    """
)
"""Products of matrices."""

CONVOLUTIONS = _names(
    """
    convolution _convolution convolution_overrideable
    """
)

KNOWN = (
    VIEWS | MAKERS | MOVES | POINTWISE | NORMS | POOLS | LINEAR_INTERPOLATIONS
    | SAMPLERS | REDUCTIONS | SOFTMAXES | PRODUCTS | CONVOLUTIONS
)  # fmt: skip


def base_name(operator: str) -> str:
    """An operation's name without the mark of one that overwrites its input: `relu_` → `relu`."""
    return operator[:-1] if operator.endswith("_") and operator[:-1] in KNOWN else operator

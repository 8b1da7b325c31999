"""Where a layer computes: on which device, in which dtype, for which purpose."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Memory format by number of axes."""


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a convolution would compute in here."""
    device = x.device.type
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if casts and x.dtype != torch.float64:  # which autocast leaves alone
        return torch.get_autocast_dtype(device)
    return x.dtype


def no_autocast(x: Tensor) -> AbstractContextManager:
    """Dtypes stay as they are, on the device of the tensor."""
    device = x.device.type
    known = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if known else nullcontext()


def runs_on_cpu(x: Tensor) -> bool:
    """Whether this is a real computation on a CPU: no other device, no export."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def trains_on_cpu(x: Tensor) -> bool:
    """Whether gradients may be asked for, on a CPU."""
    return torch.is_grad_enabled() and runs_on_cpu(x)


def channels_last(x: Tensor) -> Tensor:
    """The same 2-D or 3-D tensor with its channels last in memory."""
    return x.contiguous(memory_format=CHANNELS_LAST[x.ndim])

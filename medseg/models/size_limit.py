"""A limit on how large a network may become while it is built."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from medseg.errors import ConfigError

_REGISTRATIONS = (
    torch_module.register_module_parameter_registration_hook,
    torch_module.register_module_buffer_registration_hook,
)


class TooLargeError(ConfigError):
    """A description of more weights than there may be."""


@contextmanager
def at_most(weights: int, tensors: int = 20_000) -> Iterator[None]:
    """Ends the building of networks in its block where they become too large.

    A few digits describe more than a machine holds. What is too large is noticed before its memory
    is written to, which is what takes it.

    Args:
        weights: Numbers that their parameters and buffers may have, those without memory left out.
        tensors: Tensors that these may be in.

    Raises:
        TooLargeError: they are more.
    """
    found = [0, 0]

    def note(_module: nn.Module, _name: str, tensor: Any) -> None:
        if tensor is not None:
            found[0] += 0 if tensor.is_meta else tensor.numel()
            found[1] += 1
        if found[0] > weights or found[1] > tensors:
            raise TooLargeError(
                f"a network of at least {found[0]:,} weights in {found[1]:,} tensors, where "
                f"{weights:,} in {tensors:,} are the most; choose fewer channels or layers"
            )

    with ExitStack() as hooks:
        for register in _REGISTRATIONS:
            hooks.callback(register(note).remove)
        yield

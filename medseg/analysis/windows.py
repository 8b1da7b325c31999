"""The memory that a network takes, where it can be foreseen."""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from torch import nn

from medseg.analysis.memory import Memory, predicted_memory
from medseg.data.config import DataConfig
from medseg.errors import ConfigError
from medseg.models.weights import ModelCard

log = logging.getLogger(__name__)


def foreseen_memory(
    network: nn.Module, in_channels: int, size: Sequence[int], **options: Any
) -> Memory | None:
    """As `predicted_memory`; None where a layer is not known."""
    try:
        return predicted_memory(network, in_channels, size, **options)
    except (ConfigError, RuntimeError, NotImplementedError) as error:
        log.debug("memory was not predicted: %s", error)
        return None


def window_bytes(
    network: nn.Module, card: ModelCard | DataConfig, *, bf16: bool = False
) -> Callable[[int], int]:
    """Foresees what a network takes to segment windows.

    Args:
        network: Image → logits.
        card: Its channels, and its patch: a window.
        bf16: Under autocast to bfloat16.

    Returns:
        Windows that are computed at once → bytes besides weights and image; 0 where a layer is not
        known.
    """

    @cache
    def needed(windows: int) -> int:
        size = card.patch_size
        found = foreseen_memory(network, card.in_channels, size, batch=windows, bf16=bf16)
        return found.peak if found else 0

    return needed

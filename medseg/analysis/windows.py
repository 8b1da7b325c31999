"""The memory that a network takes for the windows of a prediction."""

import logging
from collections.abc import Callable
from functools import cache

from torch import nn

from medseg.analysis.memory import predicted_memory
from medseg.data.config import DataConfig
from medseg.errors import ConfigError
from medseg.models.weights import ModelCard

log = logging.getLogger(__name__)


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
        try:
            found = predicted_memory(network, card.in_channels, size, batch=windows, bf16=bf16)
        except (ConfigError, RuntimeError, NotImplementedError) as error:
            log.debug("memory was not predicted: %s", error)
            return 0
        return found.peak

    return needed

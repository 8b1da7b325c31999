"""The overrides that make an arm cost what the reference costs."""

from dataclasses import dataclass
from typing import Any

import torch

from medseg.analysis.cost import LATENCY, QUANTITIES, Load
from medseg.analysis.match import Match, match
from medseg.errors import ConfigError
from medseg.models.description import describe
from medseg.record import Matched


@dataclass(frozen=True, kw_only=True)
class Equaliser:
    """Scales the widths of arms until they have as much of a quantity as the reference.

    Args:
        quantity: `parameters`, `macs`, `memory`, `inference_memory` or `latency`.
        reference: The resolved configuration of the arm that stays.
        device: Where latency is measured; None: the CPU.
    """

    quantity: str
    reference: dict[str, Any]
    device: torch.device | None = None

    def __post_init__(self) -> None:
        known = [*QUANTITIES, LATENCY]
        if self.quantity not in known:
            raise ConfigError(
                f"ablation.equal={self.quantity!r} must be null or one of {', '.join(known)}"
            )

    def overrides(self, config: dict[str, Any]) -> tuple[list[str], Matched]:
        """Widths of an arm, and what they reach.

        Raises:
            ConfigError: no width makes the arm cost as much.
        """
        data = config["data"]
        load = Load(
            in_channels=data["in_channels"],
            patch_size=tuple(data["patch_size"]),
            batch=data["batch_size"],
        )
        options = {"device": self.device} if self.quantity == LATENCY else {}
        found = match(
            describe(self.reference["model"]),
            describe(config["model"]),
            self.quantity,
            load,
            **options,
        )
        texts = [
            f"model.{'.'.join(path)}={_plain(widths)}" for path, widths in found.widths.items()
        ]
        return texts, _matched(self.quantity, found)


def _matched(quantity: str, found: Match) -> Matched:
    return Matched(quantity=quantity, value=float(found.value), wanted=float(found.wanted))


def _plain(widths: list[int]) -> str:
    return str(widths[0]) if len(widths) == 1 else f"[{','.join(map(str, widths))}]"

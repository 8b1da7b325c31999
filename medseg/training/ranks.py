"""Several processes that train one network, each on its share of every batch.

They do what one process does: a batch of `data.batch_size` patches is cut into equal shares, the
loss is that of the whole batch, gradients are averaged (Li et al. 2020, "PyTorch Distributed"), and
every validation case is segmented by one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor

from medseg.errors import ConfigError

_PATIENCE = timedelta(minutes=30)  # for a process that is alive, and slower: a validation, say


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One of the processes of a run.

    Args:
        number: From 0, the one that writes.
        count: Of all.
        per_node: Of each node, which have consecutive numbers.
        address: Of the node of number 0.
        port: On which number 0 listens.
    """

    number: int = 0
    count: int = 1
    per_node: int = 1
    address: str = "127.0.0.1"
    port: int = 0

    @property
    def local(self) -> int:
        """Its number on its node."""
        return self.number % self.per_node

    @property
    def nodes(self) -> int:
        """Nodes of all processes."""
        return self.count // self.per_node

    def environment(self) -> LightningEnvironment:
        """What Lightning asks: it starts no processes, whatever started this one, SLURM too."""
        return _Environment(self)

    def strategy(self) -> Any:
        """How Lightning trains."""
        if self.count == 1:
            return "auto"
        # networks of MONAI have parameters that no step uses
        return DDPStrategy(timeout=_PATIENCE, static_graph=True)


class _Environment(LightningEnvironment):
    def __init__(self, rank: Rank):
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return self._rank.address

    @property
    def main_port(self) -> int:
        return self._rank.port

    def local_rank(self) -> int:
        return self._rank.local

    def node_rank(self) -> int:
        return self._rank.number // self._rank.per_node


def require_shares(batch_size: int, count: int) -> None:
    """Checks that a batch can be shared out evenly.

    Raises:
        ConfigError: it cannot.
    """
    if batch_size % count:
        raise ConfigError(
            f"data.batch_size={batch_size} cannot be shared evenly by the {count} processes of "
            f"trainer.devices and trainer.nodes; choose {batch_size + -batch_size % count}, or "
            "other numbers of them"
        )


def whole_batch(own: Tensor) -> Tensor:
    """The rows of all processes in their order, of which gradients flow into those of this one."""
    parts = [torch.empty_like(own, memory_format=torch.contiguous_format) for _ in range(_count())]
    dist.all_gather(parts, own.detach().contiguous())
    parts[dist.get_rank()] = own
    return torch.cat(parts)


def of_all(loss: Tensor) -> Tensor:
    """A loss of the whole batch, whose gradients the processes are to sum, and not to average."""
    return loss.detach() + _count() * (loss - loss.detach())


def gathered(rows: Sequence[Any]) -> list[Any]:
    """Plain data of all processes, one after the other."""
    if _count() == 1:
        return [*rows]
    parts: list[Any] = [None] * _count()
    dist.all_gather_object(parts, [*rows])
    return [row for part in parts for row in part]


def are_several() -> bool:
    """Whether this process is one of several."""
    return _count() > 1


def _count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1

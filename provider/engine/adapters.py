"""LoRA adapters, mixed freely among the rows of one step.

Every row may have another adapter or none. A linear module computes its product for all rows of a
step at once; what an adapter adds (`(x A^T) B^T`, Hu et al. 2021) is computed for its rows only.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from provider.engine.lora import read_adapter
from provider.errors import InvalidRequest, ModelNotFound

if TYPE_CHECKING:
    from provider.engine.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class LoraPair:
    """One module's share: `down` is `[in, rank]`, `up` `[rank, out]` with the scaling in it."""

    down: Tensor
    up: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return (x @ self.down) @ self.up


Pairs = Mapping[nn.Module, LoraPair]
ReadPairs = Callable[[Path], Pairs]


@dataclass(frozen=True, eq=False)
class Adapter:
    """One loaded set of weights. A reload under the same name is another adapter (another key)."""

    name: str
    key: int
    pairs: Pairs


@dataclass(slots=True)
class _Known:
    path: Path
    adapter: Adapter | None
    used: int


class AdapterStore:
    """Adapters by name, at most `limit` of them in memory. Safe to call from any thread.

    One that made room for others is read again when it is asked for. Requests under way keep the
    weights that they began with, whatever happens to the name. `gone` is told the keys of weights
    that no new request will get; `ready` gets an adapter before its first request.
    """

    def __init__(
        self,
        read: ReadPairs,
        limit: int,
        ready: Callable[[Adapter], None],
        gone: Callable[[int], None],
    ) -> None:
        self._read = read
        self._limit = limit
        self._ready = ready
        self._gone = gone
        self._known: dict[str, _Known] = {}
        self._keys = itertools.count(1)
        self._clock = itertools.count(1)
        self._lock = threading.RLock()

    def names(self) -> list[str]:
        """Every adapter that may be asked for, in memory or not."""
        with self._lock:
            return sorted(self._known)

    @property
    def resident(self) -> int:
        """How many are in memory."""
        with self._lock:
            return sum(known.adapter is not None for known in self._known.values())

    def holds(self, name: str) -> bool:
        """Whether `get` needs no reading."""
        with self._lock:
            return name in self._known and self._known[name].adapter is not None

    def load(self, name: str, path: Path) -> Adapter:
        """Reads an adapter and puts it under `name`, in place of one that was there before.

        Raises InvalidRequest if no adapter may be kept, and what reading raises; then the name
        is as it was.
        """
        if self._limit < 1:
            raise InvalidRequest(
                "LOCAL_LLM_MAX_ADAPTERS=0 keeps no adapter in memory; raise it.", param="lora_name"
            )
        adapter = Adapter(name, next(self._keys), self._read(path))
        self._ready(adapter)
        with self._lock:
            self._leave(name)
            self._known[name] = _Known(path, adapter, next(self._clock))
            self._make_room()
        return adapter

    def unload(self, name: str) -> None:
        """Forgets a name. Raises ModelNotFound."""
        with self._lock:
            if name not in self._known:
                raise ModelNotFound.of(name)
            self._leave(name)
            del self._known[name]

    def get(self, name: str) -> Adapter:
        """The adapter, read again if need be. Raises ModelNotFound."""
        with self._lock:
            known = self._known.get(name)
            if known is None:
                raise ModelNotFound.of(name)
            known.used = next(self._clock)
            if known.adapter is not None:
                return known.adapter
        return self.load(name, known.path)

    def _leave(self, name: str) -> None:
        known = self._known.get(name)
        if known is not None and known.adapter is not None:
            self._gone(known.adapter.key)
            known.adapter = None

    def _make_room(self) -> None:
        held = {name: known for name, known in self._known.items() if known.adapter is not None}
        for name in sorted(held, key=lambda name: held[name].used)[: -self._limit]:
            self._leave(name)


def read_pairs(path: Path, checkpoint: Checkpoint, device: torch.device) -> Pairs:
    """A LoRA adapter of a folder in the model's type, on `device`."""
    model = checkpoint.model
    return {
        model.get_submodule(name): LoraPair(
            down=module.a.t().to(device, model.dtype).contiguous(),
            up=(module.b.t() * module.scaling).to(device, model.dtype).contiguous(),
        )
        for name, module in read_adapter(path, checkpoint).modules.items()
    }

"""All draws of one step on a GPU: computed there at once, brought to the host by one wait.

An answer says beforehand what it will read of each of its rows of logits (`Plan`): its best token,
the token that a random number points at, or the whole row. Kernels for all rows are launched while
the forward pass is still running, and the results come together. A row that turns out to need more
(its first token is not permitted) is fetched by itself, with a wait of its own.

On a CPU logits are read where they are, without any of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, overload

import torch
from torch import Tensor

from provider.engine.transfer import pins, upload

_AT_ONCE = 32
"""Rows whose weights are cumulated at once, in float64."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a row is read for: all of it, or one token.

    The token is the most likely one at `temperature` 0, else that at which the weights
    `exp(logits / temperature)` pass `uniform` of their sum.
    """

    whole: bool = False
    temperature: float = 0.0
    uniform: float = 0.0


WHOLE = Plan(whole=True)
BEST = Plan()


class DrawnRow:
    """One row of logits `[vocabulary]` on a device; `token` is what was planned, if it was."""

    __slots__ = ("_logits", "_token", "_valid")

    def __init__(self, logits: Tensor, token: int | None, valid: bool) -> None:
        self._logits = logits
        self._token = token
        self._valid = valid

    @property
    def token(self) -> int | None:
        """Raises ValueError for logits that are not numbers."""
        if self._token is not None and not self._valid:
            raise ValueError("the model's logits are not numbers")
        return self._token

    def whole(self) -> Tensor:
        """The row on the host; waits for the device if it was not planned."""
        self._logits = self._logits.cpu()
        return self._logits


Row: TypeAlias = Tensor | DrawnRow
Rows: TypeAlias = Tensor | Sequence[DrawnRow]


def rows_of(logits: Tensor, plans: list[Plan]) -> Tensor | Draws:
    """The rows of a step's logits `[rows, vocabulary]`, ready to be read on the host."""
    return logits if logits.device.type == "cpu" else Draws(logits, plans)


class Draws:
    """Rows of logits on a device. Launches what is planned; reading the first row waits for it."""

    def __init__(self, logits: Tensor, plans: list[Plan]) -> None:
        if logits.device.type == "mps":  # no float64 there, and its memory is the host's
            plans = [WHOLE] * len(plans)
        self._logits = logits
        self._plans = plans
        self._rows: list[DrawnRow] = []
        self._whole = [number for number, plan in enumerate(plans) if plan.whole]
        self._fetched = _fetch(logits, self._whole) if self._whole else None
        self._found = None if len(self._whole) == len(plans) else _find(logits, plans)

    @overload
    def __getitem__(self, rows: int) -> DrawnRow: ...
    @overload
    def __getitem__(self, rows: slice) -> list[DrawnRow]: ...
    def __getitem__(self, rows: int | slice) -> DrawnRow | list[DrawnRow]:
        if not self._rows:
            self._rows = self._read()
        return self._rows[rows]

    def __len__(self) -> int:
        return len(self._plans)

    def _read(self) -> list[DrawnRow]:
        """The step's one wait."""
        if self._found is not None:
            tokens, totals = self._found.cpu().tolist()
        else:
            tokens = totals = [0.0] * len(self._plans)
            if pins(self._logits.device):
                torch.cuda.current_stream(self._logits.device).synchronize()
        rows = [
            DrawnRow(self._logits[number], int(token), total == total)
            for number, (token, total) in enumerate(zip(tokens, totals, strict=True))
        ]
        for at, number in enumerate(self._whole):
            if self._fetched is not None:
                rows[number] = DrawnRow(self._fetched[at], None, True)
        return rows


def _fetch(logits: Tensor, rows: list[int]) -> Tensor:
    """Rows of the logits on their way to the host; there after the next wait."""
    if len(rows) < logits.shape[0]:
        logits = logits.index_select(0, upload(rows, logits.device))
    if not pins(logits.device):
        return logits.cpu()
    host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
    return host.copy_(logits, non_blocking=True)


def _find(logits: Tensor, plans: list[Plan]) -> Tensor:
    """`[2, rows]` float64 on the device: the planned tokens, and a number that is NaN where the
    logits are not numbers."""
    most, best = logits.max(-1)
    found = torch.stack((best.double(), most.double()))
    drawn = [number for number, plan in enumerate(plans) if plan.temperature]
    for start in range(0, len(drawn), _AT_ONCE):
        some = drawn[start : start + _AT_ONCE]
        rows = upload(some, logits.device)
        stated = [(plans[number].temperature, plans[number].uniform) for number in some]
        heat, uniform = upload(stated, logits.device, torch.float64).unsqueeze(-1).unbind(1)
        scaled = (logits[rows] - most[rows].unsqueeze(-1)) / heat
        ends = scaled.exp().cumsum(-1)
        total = ends[:, -1:]
        tokens = torch.searchsorted(ends, total * uniform, right=True)
        tokens = tokens.clamp(max=logits.shape[1] - 1)
        found.index_copy_(1, rows, torch.cat((tokens.double(), total), -1).t())
    return found

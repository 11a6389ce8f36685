"""Drawing the next token of one row: its own distribution and its own random numbers.

Nothing here depends on other rows or on the order of steps: the random number for a token is a
function of (seed, answer, position), so a request gives the same tokens alone or in any batch, with
or without drafts.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provider.engine.adjustments import Adjustments
from provider.engine.draws import BEST, WHOLE, DrawnRow, Plan, Row
from provider.engine.native.kernels import Kernels
from provider.engine.request import Sampling, TokenLogprob
from provider.engine.truncation import drawn, truncates
from provider.engine.urn import Urn

_FEW_WORDS = 256
"""Up to this many 32-token words of a mask, picking the allowed tokens beats masking the rest."""
_GREEDY_BELOW = 1e-5
"""Temperatures below it are 0, as in vLLM: logits divided by less leave float32."""
_TRIES = 8
"""Tokens that are drawn and asked about before a mask is worth its cost."""


class RowSampler:
    """Sampling state of one answer to `prompt`; `ends` are the tokens that may end it."""

    def __init__(
        self,
        sampling: Sampling,
        index: int,
        kernels: Kernels | None = None,
        *,
        prompt: Iterable[int] = (),
        ends: Iterable[int] = (),
        min_tokens: int = 0,
    ) -> None:
        self.sampling = sampling
        self._kernels = kernels
        seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self._key = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=16).digest()
        self._adjustments = Adjustments(sampling, prompt, ends, min_tokens)
        self._truncates = truncates(sampling)
        self.greedy = sampling.temperature < _GREEDY_BELOW
        self.plain = self._adjustments.none
        """Whether the logits are used as they are (before temperature)."""
        self.asks = self.greedy or not self._truncates
        """Whether `choose_permitted` may find a token."""

    def accept(self, token: int) -> None:
        """Takes note of a generated token (sampled or forced)."""
        if not self.plain:
            self._adjustments.accept(token)

    def plan(self, position: int, *, asked: bool) -> Plan:
        """What the row for `position` will be read for; `asked`: by `choose_permitted` first."""
        if not self.plain or (not self.greedy and self._truncates):
            return WHOLE
        if self.greedy:
            return BEST
        return Plan(False, self.sampling.temperature, self._uniform(position, int(asked)))

    def choose(self, logits: Row, position: int, mask: NDArray[np.uint8] | None) -> int:
        """The token at `position` of the answer.

        `logits` is `[vocabulary]` float32 and is not changed; `mask` has one bit per token, lowest
        first, None means that all are allowed. Raises ValueError if no token is allowed, and for
        logits that are not numbers.
        """
        if isinstance(logits, DrawnRow):
            if mask is None and logits.token is not None:
                return logits.token
            logits = logits.whole()
        values = self._adjusted(logits, position)
        if mask is None:
            return self._draw(values, position)
        best = _best(values)
        if self.greedy and _allowed(mask, best):
            return best
        ids = _few(mask, values.shape[0])
        if ids is None:
            return self._draw(_masked(values, mask), position)
        if not ids.size:
            raise ValueError("the constraint allows no token")
        if ids.size == 1:
            return int(ids[0])
        allowed = torch.from_numpy(ids).to(values.device)
        return int(allowed[self._draw(values[allowed], position)])

    def choose_permitted(
        self, logits: Row, position: int, permits: Callable[[int], bool]
    ) -> int | None:
        """The token at `position` without a mask: `permits` is asked about few tokens one by one.

        Tokens are drawn without replacement from the whole distribution until one is permitted.
        That token is distributed as the permitted ones are among themselves, whatever was drawn
        before it; so it is after `_TRIES` in vain, when None leaves the draw to `choose` with a
        mask and a random number of its own. Greedy rows ask about their best token alone; None
        too where the distribution is truncated, since what `top_p` and its kin keep is kept of the
        permitted tokens.
        """
        if isinstance(logits, DrawnRow):
            if (planned := logits.token) is not None:
                if permits(planned):
                    return planned
                if self.greedy:
                    return None
            logits = logits.whole()
        values = self._adjusted(logits, position)
        if self.greedy:
            best = _best(values)
            return best if permits(best) else None
        if not self.asks:
            return None
        urn = Urn(values, self.sampling.temperature, self._kernels)
        for number in range(_TRIES):
            token = urn.draw(self._uniform(position, 1 + number))
            if token is None or permits(token):
                return token
            urn.remove(token)
        return None

    def _adjusted(self, logits: Tensor, position: int) -> Tensor:
        return logits if self.plain else self._adjustments.apply(logits.clone(), position)

    def _draw(self, values: Tensor, position: int) -> int:
        if self.greedy:
            return _best(values)
        temperature, uniform = self.sampling.temperature, self._uniform(position)
        if self._truncates:
            return drawn(values / temperature, self.sampling, uniform)
        token = Urn(values, temperature, self._kernels).draw(uniform)
        if token is None:
            raise ValueError("the model's logits are not numbers")
        return token

    def _uniform(self, position: int, number: int = 0) -> float:
        """A number in [0, 1) that depends on seed, answer, position and `number` only."""
        place = position + (number << 32)
        drawn = hashlib.blake2b(place.to_bytes(8, "little"), key=self._key, digest_size=8)
        return (int.from_bytes(drawn.digest(), "little") >> 11) / (1 << 53)


def logprob(logits: Row, token: int, top: int, token_bytes: list[bytes]) -> TokenLogprob:
    """Log-probability (nats) of `token` and of the `top` most likely ones under raw logits."""
    logits = logits.whole() if isinstance(logits, DrawnRow) else logits
    scores = torch.log_softmax(logits, -1)
    best: tuple[tuple[int, bytes, float], ...] = ()
    if top:
        values, ids = scores.topk(min(top, scores.shape[0]))
        best = tuple(
            (i, token_bytes[i], v) for i, v in zip(ids.tolist(), values.tolist(), strict=True)
        )
    return TokenLogprob(token, token_bytes[token], float(scores[token]), best)


def _best(values: Tensor) -> int:
    """The index of the largest value. Raises ValueError where one is NaN, which counts as such."""
    # NumPy finds it ten times as fast as torch on a CPU, and a NaN counts as the largest for both.
    best = int(values.numpy().argmax() if values.device.type == "cpu" else values.argmax())
    if math.isnan(values[best]):
        raise ValueError("the model's logits are not numbers")
    return best


def _allowed(mask: NDArray[np.uint8], token: int) -> bool:
    return token >> 3 < mask.shape[0] and bool(mask[token >> 3] >> (token & 7) & 1)


def _few(mask: NDArray[np.uint8], size: int) -> NDArray[np.int64] | None:
    """The allowed tokens below `size` if they lie in few words of the mask, else None."""
    words = np.flatnonzero(mask.view(np.uint32))
    if words.size > _FEW_WORDS:
        return None
    row, bit = np.nonzero(np.unpackbits(mask.reshape(-1, 4)[words], axis=1, bitorder="little"))
    ids = words[row] * 32 + bit
    return ids[ids < size]


def _masked(values: Tensor, mask: NDArray[np.uint8]) -> Tensor:
    """The values with minus infinity where the mask has no bit; what lies beyond it is cut off."""
    size = min(values.shape[0], mask.shape[0] * 8)
    bits = np.unpackbits(mask, count=size, bitorder="little").view(np.bool_)
    allowed = torch.from_numpy(bits).to(values.device)
    return torch.where(allowed, values[:size], -torch.inf)

"""What tokens cost: as stated by hand, or from LiteLLM's price map where it is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provider import prices
from provider.errors import ConfigurationError

_DEFAULT_ANSWER = 1024
"""Tokens that an answer may have where the request does not say."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens, of prompts and of answers; None: the price map's."""

    prompt: float | None = None
    answer: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> Price:
        """`0.15:0.60`; None is the price map. Raises `ConfigurationError`."""
        if text is None:
            return cls()
        try:
            prompt, answer = (float(part) for part in text.split(":"))
            if not (0 <= prompt < float("inf") and 0 <= answer < float("inf")):
                raise ValueError
        except ValueError:
            raise ConfigurationError(
                f"--price {text}: expected US dollars per million tokens, of prompts and of "
                "answers, as in 0.15:0.60."
            ) from None
        return cls(prompt, answer)

    def cost(self, models: tuple[str, ...], usage: dict[str, Any] | None) -> float | None:
        """US dollars of one answer of the first model whose price is known; None where none is."""
        if usage is None:
            return None
        if self.prompt is None or self.answer is None:
            told = (prices.cost(model, usage) for model in models)
            return next((cost for cost in told if cost is not None), None)
        read, wrote = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
        return float(read * self.prompt + wrote * self.answer) / 1e6

    def most(self, body: dict[str, Any]) -> float:
        """What a request can cost at most: a token for each byte, and the longest answer. 0 where
        the price is not known."""
        size = len(str(body).encode("utf-8", "replace"))
        answer = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_ANSWER
        usage = {"prompt_tokens": size, "completion_tokens": answer * (body.get("n") or 1)}
        return self.cost((str(body.get("model")),), usage) or 0.0

    def check(self, model: str) -> None:
        """Raises `ConfigurationError` where the price of `model` is not known."""
        if self.cost((model,), {"prompt_tokens": 1}) is None:
            raise ConfigurationError(
                f"The price of {model} is not known, so --usd cannot be kept; give --price "
                "PROMPT:ANSWER (US dollars per million tokens), install LiteLLM, whose price map "
                "is read, or limit --requests instead."
            )


MAP_PRICE = Price()
"""Whatever the price map says."""

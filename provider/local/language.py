"""The language model of this process: engine, tokenizer, card, and the names it answers to."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from provider.engine.request import Done, Event, GenerationRequest
from provider.errors import ApiError
from provider.local.budget import Budget
from provider.local.names import Names
from provider.protocol import values
from provider.protocol.schema import any_object

if TYPE_CHECKING:
    from provider.engine.chat import ChatTokenizer
    from provider.engine.model_card import ModelCard

_WARM_UP_SECONDS = 120.0


class Engine(Protocol):
    """What is needed of `provider.engine.engine.Engine`."""

    @property
    def alive(self) -> bool: ...
    def submit(
        self, request: GenerationRequest, on_event: Callable[[Event | ApiError], None]
    ) -> Any: ...
    def stream(self, request: GenerationRequest) -> AsyncGenerator[Event, None]: ...
    def adapters(self) -> Sequence[Any]: ...
    def load_adapter(self, name: str, path: Path) -> Any: ...
    def unload_adapter(self, name: str) -> Any: ...
    def stats(self) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Language:
    """`name` is what the base model is served under."""

    engine: Engine
    tokenizer: ChatTokenizer
    card: ModelCard
    name: str
    budget: Budget
    embedding_name: str
    aliases: Mapping[str, str]

    def adapter_names(self) -> frozenset[str]:
        """The adapters loaded at this moment."""
        return frozenset(str(adapter) for adapter in self.engine.adapters())

    def warm_up(self) -> None:
        """Generates one token under a grammar, so that what is built at first use is there before
        a client waits for it. Blocks; raises what the engine raises."""
        prompt = tuple(self.tokenizer.encode_chat([{"role": "user", "content": "json"}]))
        request = GenerationRequest(prompt, max_tokens=1, constraint=any_object())
        ended: SimpleQueue[Event | ApiError] = SimpleQueue()
        self.engine.submit(request, ended.put)
        while not isinstance(event := ended.get(timeout=_WARM_UP_SECONDS), Done):
            if isinstance(event, ApiError):
                raise event

    def names(self) -> Names:
        """The names served at this moment."""
        return Names(self.name, self.embedding_name, self.adapter_names(), self.aliases)

    def check_length(self, characters: int) -> None:
        """Raises `ContextTooLong` for a text that cannot fit, before it is tokenised, which takes
        time."""
        if characters > self.budget.context:
            self.budget.check_length(characters, self._longest_token)

    def check_tokens(self, tokens: Sequence[int], param: str) -> None:
        """Raises `InvalidRequest` naming `param` for a token id that the model does not have."""
        for token in tokens:
            if token >= self.tokenizer.vocab_size:
                raise values.conflict(
                    param,
                    f"Invalid key in '{param}': {token}. Maximum value is "
                    f"{self.tokenizer.vocab_size - 1}.",
                )

    @cached_property
    def _longest_token(self) -> int:
        """Bytes of the longest token of the vocabulary."""
        tokenizer = self.tokenizer
        return max(len(tokenizer.token_bytes(token)) for token in range(tokenizer.vocab_size))

    @cached_property
    def fingerprint(self) -> str:
        """Changes with what determines the text: model, revision, precision, template."""
        card = self.card
        facts = (card.id, card.revision, card.dtype, card.quantization, card.device)
        text = repr((*facts, card.parameters, card.chat_template_sha256))
        return "fp_" + hashlib.sha256(text.encode()).hexdigest()[:10]

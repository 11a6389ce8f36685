"""Which local model a name in a request means."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from provider.errors import Forbidden, ModelNotFound, NotFound

log = logging.getLogger(__name__)

DEFAULT = "default"
"""The target of an alias that means the loaded model."""

_ANY = "*"
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_EMBEDDING = re.compile(r"embedding", re.IGNORECASE)


@dataclass(frozen=True)
class Names:
    """The names that are served: the language model, its adapters, the embedding model, aliases.

    An alias belongs to the embedding model when it says "embedding" (as all of OpenAI's do) or
    points at it, otherwise to the language model; a dated snapshot (`gpt-4o-mini-2024-07-18`)
    means what its family means.
    """

    language: str
    embedding: str
    adapters: frozenset[str] = frozenset()
    aliases: Mapping[str, str] | None = None

    def chat(self, asked: str) -> str:
        """The served name (base model or adapter). Raises `ModelNotFound`, and OpenAI's 404 for a
        model that does not chat."""
        target = self._target(asked, embedding=False)
        if target in (self.language, DEFAULT):
            return self.language
        if target in self.adapters:
            return target
        if self._is_embedding(asked):
            raise NotFound(
                "This is not a chat model and thus not supported in the v1/chat/completions "
                "endpoint. Did you mean to use v1/embeddings?",
                param="model",
            )
        raise ModelNotFound.of(asked)

    def embed(self, asked: str) -> str:
        """The embedding model's served name. Raises `ModelNotFound`, and OpenAI's 403 for a model
        that does not embed."""
        target = self._target(asked, embedding=True)
        if target in (self.embedding, DEFAULT):
            return self.embedding
        if target == self.language or target in self.adapters or asked in (self.aliases or {}):
            raise Forbidden("You are not allowed to generate embeddings from this model")
        raise ModelNotFound.of(asked)

    def is_alias(self, asked: str) -> bool:
        """Whether a name is (a dated snapshot of) an alias, rather than a model's own name."""
        known = {asked, _SNAPSHOT.sub("", asked), _ANY} & set(self.aliases or {})
        return asked not in self._served() and bool(known)

    def alias_of(self, alias: str) -> str | None:
        """What an alias stands for, by its served name; None where it stands for nothing."""
        target = (self.aliases or {})[alias]
        if target == DEFAULT:
            return self.embedding if self._is_embedding(alias) else self.language
        return target if target in self._served() else None

    def warn(self) -> None:
        """Logs the aliases that stand for nothing; an adapter may still come for them."""
        for alias, target in (self.aliases or {}).items():
            if self.alias_of(alias) is None:
                log.warning(
                    "MODEL_ALIASES: %s=%s names no model that is loaded (%s); requests for it get "
                    "a 404",
                    alias,
                    target,
                    ", ".join(sorted(self._served())),
                )

    def _served(self) -> set[str]:
        return {self.language, self.embedding, *self.adapters}

    def _is_embedding(self, name: str) -> bool:
        aliases = self.aliases or {}
        return (
            bool(_EMBEDDING.search(name))
            or name == self.embedding
            or aliases.get(name) == self.embedding
        )

    def _target(self, asked: str, *, embedding: bool) -> str:
        """What is asked for, through one alias. `default` only for names of the wanted kind."""
        if asked in self._served():
            return asked
        aliases = self.aliases or {}
        for name in (asked, _SNAPSHOT.sub("", asked)):
            if name in aliases:
                target = aliases[name]
                wrong_kind = target == DEFAULT and self._is_embedding(name) != embedding
                return "" if wrong_kind else target
        chat_with_embedder = not embedding and self._is_embedding(asked)
        return "" if chat_with_embedder else aliases.get(_ANY, "")

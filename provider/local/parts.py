"""The models of the local provider: how they are named, shared and let go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from provider.local import demo
from provider.local.budget import Budget
from provider.local.embedding import Embedding
from provider.local.language import Language
from provider.local.lazy import Lazy, Shared
from provider.local.loading import (
    EMBEDDING_SETTINGS,
    ENGINE_SETTINGS,
    Running,
    load_embedding,
    load_engine,
)
from provider.settings import DEMO

if TYPE_CHECKING:
    from provider.settings import Settings

T = TypeVar("T")


_ENGINES: Shared[Running] = Shared(lambda running: running.engine.close())
_EMBEDDINGS: Shared[Embedding] = Shared(lambda embedding: embedding.close())


class Held:
    """What one provider holds of the process's models, under the names of its own settings."""

    def __init__(
        self, settings: Settings, language: Language | None, embedding: Embedding | None
    ) -> None:
        self._settings = settings
        self._releases: list[Callable[[], None]] = []
        self.language: Lazy[Language] = (
            Lazy.of(language) if language is not None else self._hold_language()
        )
        self.embedding: Lazy[Embedding] = (
            Lazy.of(embedding)
            if embedding is not None
            else self._hold(_EMBEDDINGS, EMBEDDING_SETTINGS, load_embedding)
        )

    def wanted(self) -> list[Lazy[Any]]:
        """The parts that the settings have answered locally, and those already there."""
        settings = self._settings
        parts: list[tuple[Lazy[Any], str]] = [
            (self.language, settings.llm_provider),
            (self.embedding, settings.embedding_provider),
        ]
        return [part for part, side in parts if side == "local" or part.built is not None]

    def let_go(self) -> None:
        releases, self._releases = self._releases, []
        for release in releases:
            release()

    def _hold_language(self) -> Lazy[Language]:
        running = self._hold(_ENGINES, ENGINE_SETTINGS, load_engine)
        return Lazy(lambda: language_of(running.now(), self._settings))

    def _hold(
        self, shared: Shared[T], depends_on: Sequence[str], load: Callable[[Settings], T]
    ) -> Lazy[T]:
        key = tuple(str(getattr(self._settings, name)) for name in depends_on)
        self._releases.append(lambda: shared.let_go(key))
        return shared.hold(key, lambda: load(self._settings))


def language_name(settings: Settings) -> str:
    """What the language model is served under, as far as settings tell without loading it."""
    return settings.local_llm_name or _short(settings.local_llm_model_path, demo.LANGUAGE)


def embedding_name(settings: Settings) -> str:
    return _short(settings.local_embedding_model, demo.EMBEDDER)


def _short(path_or_id: str, demo_name: str) -> str:
    """A folder's name; a hub id as it is."""
    if path_or_id == DEMO:
        return demo_name
    folder = Path(path_or_id).expanduser()
    return folder.resolve().name if folder.is_dir() else path_or_id


def language_of(running: Running, settings: Settings) -> Language:
    """A running model under the names and limits of the settings."""
    card = running.checkpoint.card
    return Language(
        engine=running.engine,
        tokenizer=running.checkpoint.tokenizer,
        card=card,
        name=settings.local_llm_name or card.id,
        budget=Budget(running.engine.context_length, settings.local_llm_max_new_tokens),
        embedding_name=embedding_name(settings),
        aliases=settings.model_aliases,
    )

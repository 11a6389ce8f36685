"""The models of the local provider: how they are named, loaded, shared and let go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provider.errors import ConfigurationError
from provider.local import cl100k, demo
from provider.local.budget import Budget
from provider.local.embedding import Embedding
from provider.local.language import Language
from provider.local.lazy import Lazy, Shared
from provider.settings import DEMO

if TYPE_CHECKING:
    from provider.settings import Settings

log = logging.getLogger(__name__)


class Held:
    """What one provider holds of the process's models."""

    def __init__(
        self, settings: Settings, language: Language | None, embedding: Embedding | None
    ) -> None:
        self._settings = settings
        self._releases: list[Callable[[], None]] = []
        self.language: Lazy[Language] = (
            Lazy.of(language)
            if language is not None
            else self._hold(_LANGUAGES, _key(settings, "local_llm_"), load_language)
        )
        self.embedding: Lazy[Embedding] = (
            Lazy.of(embedding)
            if embedding is not None
            else self._hold(_EMBEDDINGS, _key(settings, "local_embedding_"), load_embedding)
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

    def _hold(self, shared: Shared[Any], key: str, load: Callable[[Settings], Any]) -> Lazy[Any]:
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


def load_language(settings: Settings) -> Language:
    """Loads the model and its adapters and starts its engine. Raises `ConfigurationError`."""
    from provider.engine import checkpoint
    from provider.engine.engine import Engine
    from provider.engine.limits import Limits
    from provider.engine.threads import use_threads

    use_threads(settings.local_llm_threads)
    adapters = _adapters(settings)
    quantization = settings.local_llm_quantization
    loaded = checkpoint.load(
        demo.located(settings.local_llm_model_path, demo.LANGUAGE, "LOCAL_LLM_MODEL_PATH"),
        settings.local_llm_device,
        settings.local_llm_dtype,
        None if quantization == "none" else quantization,
        settings.local_llm_revision,
        memory=settings.local_llm_memory,
    )
    limits = Limits(
        max_batch=settings.local_llm_max_batch,
        queue=settings.local_llm_queue,
        memory=settings.local_llm_memory,
        context_length=settings.local_llm_context_length,
        max_adapters=settings.local_llm_max_adapters,
    )
    engine = Engine(loaded, limits)
    for folder in adapters:
        engine.load_adapter(folder.name, folder)
    engine.start()
    return language_of(engine, loaded, settings)


def _adapters(settings: Settings) -> list[Path]:
    """The folders of the adapters that are loaded at start. Raises `ConfigurationError`."""
    folder = settings.local_llm_adapters
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigurationError(
            f"LOCAL_LLM_ADAPTERS={str(folder)!r} is no folder; expected one whose sub-folders are "
            "LoRA adapters; create it, or unset the variable."
        )
    return sorted(path.parent for path in folder.glob("*/adapter_config.json"))


def language_of(engine: Any, loaded: Any, settings: Settings) -> Language:
    """A running engine of a loaded checkpoint, under the names of the settings."""
    return Language(
        engine=engine,
        tokenizer=loaded.tokenizer,
        card=loaded.card,
        name=settings.local_llm_name or loaded.card.id,
        budget=Budget(engine.context_length, settings.local_llm_max_new_tokens),
        embedding_name=embedding_name(settings),
        aliases=settings.model_aliases,
    )


def load_embedding(settings: Settings) -> Embedding:
    """Loads the embedding model. Raises `ConfigurationError`."""
    from provider.engine.embed_queue import EmbedQueue
    from provider.engine.embedder import Embedder
    from provider.engine.threads import use_threads

    use_threads(settings.local_llm_threads)
    embedder = Embedder.load(
        demo.located(settings.local_embedding_model, demo.EMBEDDER, "LOCAL_EMBEDDING_MODEL"),
        settings.local_embedding_device,
        dtype=settings.local_embedding_dtype,
        revision=settings.local_embedding_revision,
        dimensions=settings.local_embedding_dimensions,
    )
    encoding = cl100k.find(cl100k.places(settings.tiktoken_cache_dir))
    return Embedding(
        embedder, EmbedQueue(embedder, settings.local_embedding_queue), embedder.name, encoding
    )


def _key(settings: Settings, prefix: str) -> str:
    names = (name for name in type(settings).model_fields if name.startswith(prefix))
    own = {name: str(getattr(settings, name)) for name in names}
    return repr((own, sorted(settings.model_aliases.items()), settings.local_embedding_model))


_LANGUAGES: Shared[Language] = Shared(lambda language: language.engine.close())
_EMBEDDINGS: Shared[Embedding] = Shared(lambda embedding: embedding.close())

"""Loading of the heavy parts: the language model with its engine, the embedding model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from provider.errors import ConfigurationError
from provider.local import cl100k, demo
from provider.local.embedding import Embedding

if TYPE_CHECKING:
    from provider.engine.checkpoint import Checkpoint
    from provider.engine.engine import Engine
    from provider.settings import Settings

ENGINE_SETTINGS = (
    "local_llm_model_path",
    "local_llm_revision",
    "local_llm_device",
    "local_llm_dtype",
    "local_llm_quantization",
    "local_llm_memory",
    "local_llm_context_length",
    "local_llm_max_batch",
    "local_llm_queue",
    "local_llm_threads",
    "local_llm_native",
    "local_llm_cuda_graphs",
    "local_llm_adapters",
    "local_llm_max_adapters",
    "local_llm_loop_tokens",
)
EMBEDDING_SETTINGS = (
    "local_embedding_model",
    "local_embedding_revision",
    "local_embedding_device",
    "local_embedding_dtype",
    "local_embedding_dimensions",
    "local_embedding_queue",
    "tiktoken_cache_dir",
)
"""What loading depends on: providers that differ in nothing else share what is loaded."""


@dataclass(frozen=True)
class Running:
    """A loaded language model and the engine that serves it."""

    engine: Engine
    checkpoint: Checkpoint


def load_engine(settings: Settings) -> Running:
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
        loop_tokens=settings.local_llm_loop_tokens,
        native=settings.local_llm_native,
        graphs=settings.local_llm_cuda_graphs == "auto",
    )
    engine = Engine(loaded, limits)
    for folder in adapters:
        engine.load_adapter(folder.name, folder)
    engine.start()
    return Running(engine, loaded)


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


def load_embedding(settings: Settings) -> Embedding:
    """Loads the embedding model. Raises `ConfigurationError`."""
    from provider.engine.shape_caches import let_idle_threads_sleep

    let_idle_threads_sleep()
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

"""One tiny model with random weights, and one tiny embedder, behind the local provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from provider.client import AsyncOpenAI
from provider.engine import checkpoint
from provider.engine.embed_queue import EmbedQueue
from provider.engine.embedder import Embedder
from provider.engine.engine import Engine
from provider.engine.limits import Limits
from provider.local import LocalProvider
from provider.local.embedding import Embedding
from provider.local.loading import Running
from provider.local.parts import language_of
from provider.settings import Settings
from tests.tiny import embedder_folder, llm_folder


@pytest.fixture(scope="session")
def embedding() -> Iterator[Embedding]:
    embedder = Embedder.load(embedder_folder(), "cpu")
    embedding = Embedding(embedder, EmbedQueue(embedder), embedder.name)
    yield embedding
    embedding.close()


@pytest.fixture(scope="session")
def provider(embedding: Embedding) -> Iterator[LocalProvider]:
    """Context 1,024, answers of at most 600 tokens, eight at a time."""
    loaded = checkpoint.load(llm_folder(), "cpu", "fp32", progress=False)
    limits = Limits(memory=256 << 20, context_length=1024, max_batch=8, queue=16)
    engine = Engine(loaded, limits)
    engine.start()
    settings = Settings(
        _env_file=None,
        llm_provider="local",
        embedding_provider="local",
        local_embedding_model=str(embedder_folder()),
        local_llm_max_new_tokens=600,
    )
    language = language_of(Running(engine, loaded), settings)
    yield LocalProvider(settings, language=language, embedding=embedding)
    engine.close()


@pytest.fixture
def client(provider: LocalProvider) -> AsyncOpenAI:
    return AsyncOpenAI(provider=provider, max_retries=0)

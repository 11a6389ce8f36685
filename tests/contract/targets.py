"""Who is held to the contract: each provider behind each face, and the stand-in itself."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.standin import StandIn, serve
from tests.standin.serving import running

CHAT = "gpt-4o-mini"
EMBEDDING = "text-embedding-3-small"
VLLM = "CONTRACT_VLLM_URL"
KEY = "sk-contract-0123456789abcdef"


@dataclass(frozen=True)
class Target:
    """A way to be answered. `make_sync` and `make_async` take the SDK's client options.

    `local` is whether the local engine answers; `standin` is the hosted API behind the target.
    `http` is whether a network lies between, so that keys are checked at the door; at `url`;
    without one `by_face` has the providers.
    """

    name: str
    make_sync: Callable[..., Any]
    make_async: Callable[..., Any]
    standin: StandIn | None
    http: bool
    by_face: dict[str, Any] | None = None
    url: str = ""

    @property
    def local(self) -> bool:
        return self.standin is None

    async def aclose(self) -> None:
        """Closes what the faces hold, each in the event loop that used it."""
        if self.by_face is None:
            return
        from provider.portal import portal

        await asyncio.to_thread(portal().run, self.by_face["sync"].aclose())
        await self.by_face["async"].aclose()
        await asyncio.sleep(0.05)  # sockets close in the loop's next turns

    def client(self, face: str, **options: Any) -> Any:
        return {"sync": self.make_sync, "async": self.make_async}[face](**options)


@contextlib.contextmanager
def standin() -> Iterator[Target]:
    """The stand-in itself: the suite is right only if OpenAI's own behaviour passes it."""
    with serve(StandIn(KEY)) as served:
        yield _over_http("standin", served.base_url, served)


@contextlib.contextmanager
def openai_in_process() -> Iterator[Target]:
    with serve(StandIn(KEY)) as served:
        yield _in_process("openai/process", _hosted(served), served)


@contextlib.contextmanager
def openai_over_http() -> Iterator[Target]:
    with serve(StandIn(KEY)) as served, _server(_hosted(served)) as url:
        yield _over_http("openai/http", url, served)


@contextlib.contextmanager
def local_in_process() -> Iterator[Target]:
    yield _in_process("local/process", _local(), None)


@contextlib.contextmanager
def local_over_http() -> Iterator[Target]:
    with _server(_local()) as url:
        yield _over_http("local/http", url, None)


@contextlib.contextmanager
def vllm_over_http() -> Iterator[Target]:
    """The local side on a real vLLM (`make test-vllm` starts one and names its address)."""
    from tests.tiny import embedder_folder

    settings = _settings(
        llm_provider="local",
        embedding_provider="local",
        local_llm_base_url=os.environ[VLLM],
        local_embedding_model=str(embedder_folder()),
        local_llm_threads=1,
        sllm_api_keys=[KEY],
    )
    with _server(settings) as url:
        yield _over_http("vllm/http", url, None)


@contextlib.contextmanager
def litellm_in_process() -> Iterator[Target]:
    """LiteLLM reads OpenAI's own variables; it is an extra, and in no environment beside the
    clients' one."""
    with serve(StandIn(KEY)) as served, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OPENAI_API_KEY", served.key)
        environment.setenv("OPENAI_BASE_URL", served.base_url)
        settings = _settings(llm_provider="litellm", embedding_provider="litellm")
        yield _in_process("litellm/process", settings, served)


TARGETS: dict[str, Callable[[], contextlib.AbstractContextManager[Target]]] = {
    "standin": standin,
    "openai/process": openai_in_process,
    "openai/http": openai_over_http,
    "local/process": local_in_process,
    "local/http": local_over_http,
    "litellm/process": litellm_in_process,
    "vllm/http": vllm_over_http,
}
HOSTED = ("standin", "openai/process", "openai/http")


def here() -> list[str]:
    """The targets of this environment: what their provider needs is installed, or running.

    LiteLLM only by name (`CONTRACT_TARGETS=litellm/process`): its answers are LiteLLM's shapes,
    not yet OpenAI's, and most of the contract fails there.
    """
    wanted = [name for name in os.environ.get("CONTRACT_TARGETS", "").split(",") if name]
    local = bool(importlib.util.find_spec("torch"))
    present = {
        **dict.fromkeys(HOSTED, True),
        **dict.fromkeys(("local/process", "local/http"), local),
        "litellm/process": "litellm/process" in wanted,
        "vllm/http": local and VLLM in os.environ,
    }
    return [name for name in TARGETS if present[name] and (not wanted or name in wanted)]


def _over_http(name: str, url: str, behind: StandIn | None) -> Target:
    fixed = {"base_url": url, "api_key": KEY}

    def sync(**options: Any) -> Any:
        return openai.OpenAI(**{**fixed, **options})

    def asynchronous(**options: Any) -> Any:
        return openai.AsyncOpenAI(**{**fixed, **options})

    return Target(name, sync, asynchronous, behind, http=True, url=url)


def _in_process(name: str, settings: Any, behind: StandIn | None) -> Target:
    from provider import AsyncOpenAI, OpenAI, build

    by_face = {"sync": build(settings), "async": build(settings)}

    def sync(**options: Any) -> Any:
        return OpenAI(provider=by_face["sync"], **options)

    def asynchronous(**options: Any) -> Any:
        return AsyncOpenAI(provider=by_face["async"], **options)

    return Target(name, sync, asynchronous, behind, http=False, by_face=by_face)


def _settings(**values: Any) -> Any:
    """Settings of the suite alone: no `.env`, no switch that somebody flipped here."""
    from provider import Settings

    return Settings(_env_file=None, sllm_state_file=scratch() / "providers.json", **values)


@functools.cache
def scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="sllm-contract-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _hosted(behind: StandIn) -> Any:
    return _settings(
        openai_base_url=behind.base_url, openai_api_key=behind.key, sllm_api_keys=[KEY]
    )


def _local() -> Any:
    from tests.tiny import embedder_folder, llm_folder

    return _settings(
        llm_provider="local",
        embedding_provider="local",
        local_llm_model_path=str(llm_folder()),
        local_embedding_model=str(embedder_folder()),
        local_llm_threads=1,
        sllm_api_keys=[KEY],
    )


@contextlib.contextmanager
def _server(settings: Any) -> Iterator[str]:
    from provider import build
    from server.app import create_app
    from server.listening import bind, server_for

    server = server_for(create_app(build(settings), settings), settings)
    with running(server, bind("127.0.0.1", 0)) as origin:
        yield f"{origin}/v1"

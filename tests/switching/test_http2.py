"""HTTP/2 to the hosted side: byte-exact over a real TLS server that speaks h2."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from provider.base import ApiRequest
from provider.errors import ConfigurationError
from provider.openai import OpenAIProvider
from provider.settings import Settings
from tests.standin import StandIn
from tests.standin.serving import free_port
from tests.switching.parts import CHAT, chat, content_of

needs_h2 = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("h2", "hypercorn", "trustme")),
    reason="the extra http2 and its test server are not installed here",
)


@contextlib.asynccontextmanager
async def secure(standin: StandIn, folder: Path) -> AsyncIterator[str]:
    """The stand-in behind TLS with ALPN, on hypercorn; yields its base URL."""
    import trustme
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    config = Config()
    port = free_port()
    config.bind = [f"127.0.0.1:{port}"]
    config.certfile, config.keyfile = str(folder / "cert.pem"), str(folder / "key.pem")
    config.graceful_timeout = 1.0
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(standin, config, shutdown_trigger=stop.wait))  # type: ignore[arg-type]
    try:
        await _listening(port)
        yield f"https://127.0.0.1:{port}/v1"
    finally:
        stop.set()
        await serving


async def _listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.02)


@needs_h2
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("http2", ["on", "off"])
async def test_bytes_are_the_same_over_either_version(
    http2: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin = StandIn()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    async with secure(standin, tmp_path) as url:
        settings = Settings(
            _env_file=None, openai_base_url=url, openai_api_key=standin.key, openai_http2=http2
        )
        hosted = OpenAIProvider(settings)
        body = '{ "messages":[{"content":"\\uc548녕","role":"user"}],\n "model":"gpt-4o-mini"}'
        plain = ApiRequest("POST", CHAT, {"content-type": "application/json"}, body.encode())
        whole = await hosted.answer(plain)
        streams = await asyncio.gather(*(hosted.answer(chat(stream=True)) for _ in range(8)))
        texts = [await content_of(stream) for stream in streams]
        await hosted.aclose()
    version = {request.http_version for request in standin.requests}
    assert version == {"2" if http2 == "on" else "1.1"}
    assert standin.requests[0].body == body.encode()
    assert whole.body == standin.requests[0].answer
    assert all(text and text == texts[0] for text in texts)


def test_without_the_package_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider.openai.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="sllm-provider\\[http2\\]"):
        OpenAIProvider(Settings(_env_file=None, openai_http2="on"))

"""What every test gets: a clean environment, and no network beyond this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.standin import StandIn

# Variables that would make a test depend on who runs it. Unset for every test and fixture.
_OURS = (
    "OPENAI_",
    "AZURE_OPENAI_",
    "LLM_",
    "EMBEDDING_",
    "LOCAL_",
    "LITELLM_",
    "SERVER_",
    "SLLM_",
    "DATABASE_URL",
    "EMBEDDED_",
    "VECTOR_",
    "PORTABILITY",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
)
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "TOKENIZERS_PARALLELISM": "false",
}


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported, so that import-time readers see a clean environment."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            del os.environ[name]
    os.environ.update(_OFFLINE)
    # Whoever runs the tests may have switched providers.
    os.environ["XDG_STATE_HOME"] = f"{tempfile.gettempdir()}/sllm-tests-{os.getpid()}"
    socket.socket.connect = _guarded(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _guarded(socket.socket.connect_ex)  # type: ignore[method-assign]


def _guarded(connect: Any) -> Any:
    """`connect`, for this machine only: another address fails the test that tried it."""

    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            self.close()
            raise AssertionError(f"a test tried to reach {address[0]}; tests stay on loopback")
        return connect(self, address)

    return guarded


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", "")


@pytest.fixture(scope="session")
def shared_standin() -> Iterator[StandIn]:
    """One served stand-in for the whole run; ask for `standin`, which forgets between tests."""
    from tests.standin import serve

    with serve() as standin:
        yield standin


@pytest.fixture
def standin(shared_standin: StandIn) -> Iterator[StandIn]:
    """A strict stand-in for OpenAI's API on loopback, with nothing recorded or planned."""
    shared_standin.reset()
    yield shared_standin
    shared_standin.reset()

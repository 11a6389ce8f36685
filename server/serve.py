"""From settings to a running server: bind, load, listen, say so."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from provider.settings import Settings


def serve(settings: Settings, *, quiet: bool = False, ready_fd: int | None = None) -> None:
    """Serves until SIGTERM or Ctrl-C, then drains.

    `ready_fd` receives one line, `{"url": ..., "pid": ...}`, once the server is listening with its
    models loaded. Raises `ConfigurationError` for what cannot work, a port in use first of all.
    """
    try:
        from server import connection  # noqa: F401 - needs httptools
        from server.app import create_app
        from server.listening import bind, server_for
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The server needs the package {error.name!r}, which is not installed: "
            "pip install 'sllm-provider[server]'."
        ) from error
    from provider.base import warm_up
    from provider.factory import build
    from server.banner import banner
    from server.logs import set_up
    from server.settling import settle

    set_up(settings.sllm_log_format, logging.WARNING if quiet else logging.INFO)
    _allow_many_connections()
    listener = bind(settings.sllm_host, settings.sllm_port)
    port = listener.getsockname()[1]
    host = f"[{settings.sllm_host}]" if ":" in settings.sllm_host else settings.sllm_host
    url = f"http://{host}:{port}/v1"
    provider = build(settings)
    if not quiet:
        print("sllm: loading ...", file=sys.stderr, flush=True)
    warm_up(provider)

    async def on_started() -> None:
        settle()
        if not quiet:
            print(await banner(provider, settings, url), flush=True)
        if ready_fd is not None:
            with os.fdopen(ready_fd, "w", encoding="utf-8") as pipe:
                pipe.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")

    server = server_for(create_app(provider, settings), settings, on_started)
    server.run(sockets=[listener])


def _allow_many_connections() -> None:
    """Raises the soft limit of open files, often 1,024, to what the system allows."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 65536)), hard))

"""`sllm serve`, `sllm exec`, `sllm models`, `sllm status`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from provider.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")

_DEMO = {
    "llm_provider": "local",
    "embedding_provider": "local",
    "local_llm_model_path": "demo",
    "local_embedding_model": "demo",
}


def _plainly(command: Callable[P, T]) -> Callable[P, T]:
    """Settings that cannot work end the command with one sentence and exit code 2."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ConfigurationError as error:
            click.echo(f"sllm: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped


def _settings(env_file: Path | None, demo: bool, given: dict[str, Any]) -> Settings:
    """The settings with what the command line gives; `demo` fills in what nobody has set."""
    from provider.settings import Settings

    source: dict[str, Any] = {"_env_file": env_file} if env_file is not None else {}
    given = {name: value for name, value in given.items() if value is not None}
    if demo:
        set_elsewhere = Settings(**source).model_fields_set
        given = {k: v for k, v in _DEMO.items() if k not in set_elsewhere} | given
    return Settings(**source, **given)


_env_file = click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read settings from this file instead of .env.",
)


@click.command()
@click.option("--host", help="Address to listen on (SLLM_HOST).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 picks a free one (SLLM_PORT).")
@click.option("--provider", help="Who answers chat completions (LLM_PROVIDER).")
@click.option("--embedding-provider", help="Who answers embeddings (EMBEDDING_PROVIDER).")
@click.option("--model", help="Folder or hub id of the local model (LOCAL_LLM_MODEL_PATH).")
@click.option("--log-format", type=click.Choice(["plain", "json"]), help="SLLM_LOG_FORMAT.")
@click.option("--demo", is_flag=True, help="Local, with the demo models, unless settings differ.")
@click.option("--quiet", is_flag=True, help="Say nothing but warnings.")
@click.option("--ready-fd", type=int, help="Write one JSON line here when the server is ready.")
@click.option("--lifeline-fd", type=int, hidden=True)
@_env_file
@_plainly
def serve(
    host: str | None,
    port: int | None,
    provider: str | None,
    embedding_provider: str | None,
    model: str | None,
    log_format: str | None,
    demo: bool,
    quiet: bool,
    ready_fd: int | None,
    lifeline_fd: int | None,
    env_file: Path | None,
) -> None:
    """Answer OpenAI's API at http://HOST:PORT/v1."""
    from server.lifeline import end_with
    from server.serve import serve as run

    given = {
        "sllm_host": host,
        "sllm_port": port,
        "llm_provider": provider,
        "embedding_provider": embedding_provider,
        "local_llm_model_path": model,
        "sllm_log_format": log_format,
    }
    settings = _settings(env_file, demo, given)
    if lifeline_fd is not None:
        end_with(lifeline_fd, settings.sllm_drain_timeout)
    run(settings, quiet=quiet, ready_fd=ready_fd)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.option("--demo", is_flag=True, help="Local, with the demo models, unless settings differ.")
@_env_file
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_plainly
def exec_(demo: bool, env_file: Path | None, command: tuple[str, ...]) -> None:
    """Run COMMAND with its OpenAI requests answered by a server of its own.

    With LLM_PROVIDER=openai nothing is put in between: COMMAND runs as if it had been started
    without sllm.
    """
    settings = _settings(env_file, demo, {})
    if settings.stock_client:
        _become(command)
    if sys.platform == "win32":
        raise click.UsageError(
            "`sllm exec` needs Linux or macOS (or WSL2); start `sllm serve` and set "
            "OPENAI_BASE_URL=http://127.0.0.1:8000/v1 for the app."
        )
    from server.run_under import ServerFailed, run_under

    options = ["--demo"] if demo else []
    options += ["--env-file", str(env_file)] if env_file is not None else []
    try:
        code = run_under(command, options)
    except ServerFailed as error:
        click.echo(f"sllm: {error}; {command[0]} was not started.", err=True)
        code = error.code if error.code > 0 else 1
    sys.exit(code)


def _become(command: tuple[str, ...]) -> None:
    """Replaces this process by the command, environment untouched."""
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        click.echo(f"sllm: {command[0]}: command not found", err=True)
        sys.exit(127)
    except OSError as error:
        click.echo(f"sllm: {command[0]}: {error.strerror}", err=True)
        sys.exit(126)


_url = click.option("--url", help="The server's address; default: from SLLM_HOST and SLLM_PORT.")
_key = click.option("--key", envvar="OPENAI_API_KEY", help="API key (OPENAI_API_KEY).")


@click.command()
@_url
@_key
@_env_file
@_plainly
def models(url: str | None, key: str | None, env_file: Path | None) -> None:
    """List what a running server answers to."""
    from server.ask import NoServer, ask

    try:
        status, body = ask(_address(url, env_file) + "/v1/models", key)
    except NoServer as error:
        raise click.ClickException(str(error)) from None
    if status != 200:
        raise click.ClickException(body.get("error", {}).get("message", f"status {status}"))
    for model in _listed(body):
        facts = [str(model[name]) for name in ("root", "licence", "license") if model.get(name)]
        click.echo("  ".join([model["id"], *facts]))


def _listed(body: dict[str, Any]) -> list[dict[str, Any]]:
    data = body.get("data")
    if not isinstance(data, list) or not all(isinstance(m, dict) and "id" in m for m in data):
        raise click.ClickException("What answers at that address does not list models.")
    return data


@click.command()
@_url
@_key
@_env_file
@_plainly
def status(url: str | None, key: str | None, env_file: Path | None) -> None:
    """Say whether a server runs and is ready."""
    from server.ask import NoServer, ask

    address = _address(url, env_file)
    try:
        code, body = ask(address + "/ready", key)
    except NoServer as error:
        raise click.ClickException(str(error)) from None
    click.echo(f"{address}: {body.get('status')}")
    body.pop("status", None)
    body.get("providers", {}).pop("history", None)  # `sllm switch` prints it
    click.echo("\n".join(_outlined(body)))
    sys.exit(0 if code == 200 else 1)


def _outlined(facts: Mapping[str, Any], depth: int = 1) -> Iterator[str]:
    """One fact a line, what belongs to one indented below it."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield f"{'  ' * depth}{name}"
            yield from _outlined(value, depth + 1)
        elif isinstance(value, float):
            yield f"{'  ' * depth}{name:<{width}}  {value:,.{0 if value.is_integer() else 2}f}"
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{'  ' * depth}{name:<{width}}  {shown}"


def _address(url: str | None, env_file: Path | None) -> str:
    if url is not None:
        return url.rstrip("/").removesuffix("/v1")
    settings = _settings(env_file, demo=False, given={})
    host = f"[{settings.sllm_host}]" if ":" in settings.sllm_host else settings.sllm_host
    return f"http://{host}:{settings.sllm_port}"

"""`sllm` as a person types it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from provider.cli import SUBCOMMANDS, load, main
from tests.examples.processes import SLLM, environment, running
from tests.standin import StandIn


def sllm(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SLLM, *args], env=env or environment(), capture_output=True, text=True, timeout=120
    )


def hosted(standin: StandIn) -> dict[str, str]:
    return environment(OPENAI_BASE_URL=standin.base_url, OPENAI_API_KEY=standin.key)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_and_ends_cleanly(standin: StandIn, number: int) -> None:
    with running([*SLLM, "serve", "--port", "0"], hosted(standin)) as server:
        url = server.url()
        server.process.send_signal(number)
        assert server.process.wait(60) == 0
    said = "".join(server.lines)
    assert url in said
    assert "Traceback" not in said
    assert standin.key not in said


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_what_serve_prints_works_when_pasted(standin: StandIn) -> None:
    with running([*SLLM, "serve", "--port", "0"], hosted(standin)) as server:
        server.url()
        said = _until_complete(server.lines)
        curl = re.search(r"curl .*?}'", said, re.DOTALL)
        python = re.search(r"from openai import OpenAI.*?\.content\)", said, re.DOTALL)
        assert curl is not None
        assert python is not None
        command = shlex.split(curl[0].replace("\\\n", " "))
        answered = subprocess.run(
            [*command, "--silent", "--show-error"], capture_output=True, text=True, timeout=60
        )
        body = json.loads(answered.stdout)
        printed = subprocess.run(
            [sys.executable, "-c", python[0]], capture_output=True, text=True, timeout=60
        )
    assert body["choices"][0]["message"]["content"]
    assert printed.stdout.strip(), printed.stderr
    assert [r.json["messages"][0]["content"] for r in standin.requests] == ["안녕하세요"] * 2


def _until_complete(lines: list[str]) -> str:
    import time

    for _ in range(400):
        if "Stop with Ctrl-C" in "".join(lines):
            break
        time.sleep(0.05)
    return "".join(lines)


def test_models_and_status_of_a_running_server(standin: StandIn) -> None:
    with running([*SLLM, "serve", "--port", "0"], hosted(standin)) as server:
        url = server.url()
        status = sllm("status", "--url", url + "/v1")
        models = sllm("models", "--url", url)
    assert status.returncode == 0
    assert f"{url}: ready" in status.stdout
    assert "\n  providers\n" in status.stdout
    assert "{" not in status.stdout
    assert models.returncode == 0, models.stderr
    assert "gpt-4o-mini" in models.stdout
    nobody = sllm("status", "--url", url)
    assert nobody.returncode == 1
    assert "sllm serve" in nobody.stderr


@pytest.mark.parametrize(
    ("args", "env", "said"),
    [
        (["serve"], {"LLM_PROVIDER": "magic"}, "LLM_PROVIDER='magic'"),
        (["serve"], {"SLLM_PROT": "1"}, "did you mean SLLM_PORT?"),
        (["serve", "--host", "0.0.0.0"], {}, "SLLM_API_KEYS"),
        (["serve", "--host", "203.0.113.7"], {"SLLM_API_KEYS": "k"}, "cannot listen"),
        (["serve"], {"SLLM_API_KEYS": "sha256:12", "SLLM_PORT": "0"}, "64 hexadecimal digits"),
        (["serve", "--port", "99999"], {}, "99999"),
        (["serve", "--env-file", "/no/such/file"], {}, "/no/such/file"),
        (["sevre"], {}, "the known ones are serve, exec"),
        (["exec"], {}, "Missing argument"),
    ],
)
def test_what_cannot_work_is_one_sentence_and_exit_code_2(
    args: list[str], env: dict[str, str], said: str
) -> None:
    done = sllm(*args, env=environment(**env))
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "'k'" not in done.stderr


def test_a_port_in_use_is_known_before_a_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        env = environment(LLM_PROVIDER="local", LOCAL_LLM_MODEL_PATH="/no/such/model")
        done = sllm("serve", "--port", port, env=env)
    assert done.returncode == 2
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
    assert "/no/such/model" not in done.stderr


def test_help_lists_every_subcommand_and_imports_none() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from provider.cli import main;"
        "r = CliRunner().invoke(main, ['--help']); print(r.output);"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in"
        " ('fastapi', 'torch', 'server', 'migrations', 'finetune', 'openai')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60
    )
    for name in SUBCOMMANDS:
        assert f"  {name} " in done.stdout
    assert done.stdout.rstrip().endswith("[]")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "server.cli", None)
    monkeypatch.setitem(
        SUBCOMMANDS, "serve", SUBCOMMANDS["serve"]._replace(home="needs_fastapi:serve")
    )
    (tmp_path / "needs_fastapi.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    result = CliRunner().invoke(main, ["serve"])
    assert result.exit_code == 1
    assert "needs the package 'no_such_package'" in result.output
    assert "pip install 'sllm-provider[server]'" in result.output


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_loads_or_says_what_is_missing(name: str) -> None:
    try:
        command = load(name)
    except click.ClickException as error:
        pytest.skip(error.message)
    assert command.help


@pytest.mark.parametrize("command", ["status", "models"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "nonsense"], "is not an address"),
        (["--url", "http://127.0.0.1:x"], "No server answers|not this server|is not an address"),
        (["--url", "http://127.0.0.1:1", "--key", "열쇠"], "a header cannot carry"),
        (["--url", "http://127.0.0.1:1"], "sllm serve"),
    ],
)
def test_a_wrong_address_is_one_sentence(command: str, options: list[str], said: str) -> None:
    run = CliRunner().invoke(main, [command, *options])
    assert run.exit_code == 1
    assert re.search(said, run.output), run.output
    assert isinstance(run.exception, SystemExit)


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\n\r\n[]", b""])
@pytest.mark.parametrize("command", ["status", "models"])
def test_another_program_at_the_address_is_one_sentence(command: str, greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        run = CliRunner().invoke(main, [command, "--url", url])
        thread.join(20)
    assert run.exit_code == 1
    assert isinstance(run.exception, SystemExit), run.output

"""`sllm exec -- CMD`: in between when settings ask for it, not there at all when they do not."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from server.run_under import client_environment
from tests.examples.processes import ROOT, SLLM, environment
from tests.standin import StandIn

SHOW = "import json, os; print(json.dumps(dict(os.environ, pid=str(os.getpid()))))"
ASK = """
import json, os, openai
client = openai.OpenAI()
said = client.chat.completions.create(
    model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}])
try:
    client.with_options(api_key="another").models.list()
except openai.AuthenticationError as error:
    refused = error.code
print(json.dumps({"url": os.environ["OPENAI_BASE_URL"], "key": os.environ["OPENAI_API_KEY"],
    "said": said.choices[0].message.content, "refused": refused}))
"""


@pytest.fixture
def interposed(standin: StandIn, tmp_path: Path) -> dict[str, str]:
    """An environment in which a run-time switch is asked for, so that a server stands between."""
    return environment(
        OPENAI_BASE_URL=standin.base_url,
        OPENAI_API_KEY=standin.key,
        SLLM_STATE_FILE=str(tmp_path / "providers.json"),
    )


def execute(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SLLM, "exec", "--", *command], env=env, capture_output=True, text=True, timeout=120
    )


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def listens(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", urlsplit(url).port or 0), timeout=5).close()
    except OSError:
        return False
    return True


def gone(true: Any, seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not true():
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_on_openai_the_command_replaces_sllm_and_its_environment_is_untouched() -> None:
    env = environment(OPENAI_API_KEY="sk-mine", LLM_PROVIDER="openai", NO_PROXY="example.org")
    process = subprocess.Popen(
        [*SLLM, "exec", "--", *python(SHOW)], env=env, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=60)
    seen = json.loads(output)
    assert seen.pop("pid") == str(process.pid)
    # Python itself sets LC_CTYPE in a bare locale.
    assert {**seen, "LC_CTYPE": ""} == {**env, "LC_CTYPE": ""}


def test_the_command_is_answered_with_a_key_that_only_it_has(
    standin: StandIn, interposed: dict[str, str]
) -> None:
    done = execute(python(ASK), interposed)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["said"]
    assert seen["refused"] == "invalid_api_key"
    assert seen["key"] not in (standin.key, "")
    assert seen["url"] != standin.base_url
    assert [recorded.path for recorded in standin.requests] == ["/v1/chat/completions"]
    assert not listens(seen["url"])
    assert "ready after" in done.stderr
    assert seen["key"] not in done.stderr


@pytest.mark.parametrize(
    ("command", "code", "alone"),
    [
        (python("raise SystemExit(7)"), 7, 7),
        (python("import os; os.kill(os.getpid(), 9)"), 128 + 9, -9),
        (["no-such-command-anywhere"], 127, 127),
        ([str(Path(__file__))], 126, 126),
    ],
)
def test_the_exit_code_is_the_command_s(
    interposed: dict[str, str], command: list[str], code: int, alone: int
) -> None:
    assert execute(command, interposed).returncode == code
    assert execute(command, environment(OPENAI_API_KEY="k")).returncode == alone


def test_a_server_that_cannot_start_says_why_and_the_command_does_not_run(
    interposed: dict[str, str],
) -> None:
    env = {**interposed, "LLM_PROVIDER": "local", "LOCAL_LLM_MODEL_PATH": "/no/such/folder"}
    done = execute(python("print('ran')"), env)
    assert done.returncode == 2
    assert "ran" not in done.stdout
    assert "/no/such/folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_app_s_modules_may_be_named_as_ours_are(
    interposed: dict[str, str], tmp_path: Path
) -> None:
    folder, on_path = tmp_path / "app", tmp_path / "lib"
    for module in (folder / "server.py", folder / "provider.py", on_path / "server.py"):
        module.parent.mkdir(exist_ok=True)
        module.write_text("print('the app itself')")
    (on_path / "migrations").mkdir()
    (on_path / "migrations" / "__init__.py").write_text("raise SystemExit('the app s')")
    env = interposed | {"PYTHONPATH": f"{on_path}{os.pathsep}{ROOT}"}
    sllm = [sys.executable, "-P", "-m", "provider.cli"]

    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*sllm, *arguments], env=env, cwd=folder, capture_output=True, text=True, timeout=120
        )

    done = ran("exec", "--", sys.executable, "server.py")
    assert (done.returncode, done.stdout) == (0, "the app itself\n"), done.stderr
    assert "ready after" in done.stderr
    done = ran("db", "--help")
    assert done.returncode == 0, done.stderr
    assert "backfill" in done.stdout


def test_signals_reach_the_command(interposed: dict[str, str]) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *a: sys.exit(42))
print("up", flush=True)
time.sleep(60)
"""
    with _started(code, interposed) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 42


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_killed_sllm_leaves_nothing_behind(interposed: dict[str, str]) -> None:
    code = f"{SHOW}; import sys, time; sys.stdout.flush(); time.sleep(60)"
    with _started(code, interposed) as process:
        assert process.stdout is not None
        seen = json.loads(process.stdout.readline())
        assert listens(seen["OPENAI_BASE_URL"])
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        assert gone(lambda: alive(int(seen["pid"])))
        assert gone(lambda: listens(seen["OPENAI_BASE_URL"]))


def test_ctrl_c_in_a_terminal_reaches_the_command_once(interposed: dict[str, str]) -> None:
    code = """
import signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *a: seen.append(1))
print("up", flush=True)
time.sleep(2)
print("interrupted", len(seen), flush=True)
sys.exit(9)
"""
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [*SLLM, "exec", "--", *python(code)],
        env=interposed,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=own_terminal,
    )
    os.close(theirs)
    shown = b""
    try:
        while b"up\r\n" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, b"\x03")
        while b"\r\n" not in shown.partition(b"interrupted")[2]:
            shown += os.read(ours, 1000)
        assert process.wait(60) == 9
    finally:
        os.close(ours)
    assert b"interrupted 1" in shown


def test_loopback_is_taken_out_of_a_proxy_s_reach() -> None:
    seen = client_environment({"NO_PROXY": "a.example", "OTHER": "1"}, "http://u/v1", "k")
    assert seen["NO_PROXY"] == "a.example,127.0.0.1,localhost"
    assert seen["no_proxy"] == "127.0.0.1,localhost"
    assert (seen["OPENAI_BASE_URL"], seen["OPENAI_API_KEY"]) == ("http://u/v1", "k")
    assert seen["OTHER"] == "1"


class _started:
    """A command under `sllm exec`, ended with the block."""

    def __init__(self, code: str, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [*SLLM, "exec", "--", *python(code)], env=env, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> subprocess.Popen[str]:
        return self._process

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)
        if self._process.stdout is not None:
            self._process.stdout.close()

"""What Windows lacks is not needed to import us, to ask, to switch and to record.

Nothing here runs on Windows: a process of this system forgets what Windows does not have.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from tests.examples.processes import environment

WINDOWS = """
    import asyncio, builtins, ctypes, getpass, os, select, shutil, signal, subprocess, sys, types
    import multiprocessing.util, tempfile, uuid, click, openai, httptools, pydantic_settings

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name in {"fcntl", "grp", "pwd", "pty", "resource", "termios"}:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in ("fcntl", "grp", "pwd", "pty", "resource", "termios"):
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Absent())
    for name in ("fork", "register_at_fork", "getuid", "geteuid", "fchmod", "sysconf", "chown"):
        delattr(os, name)
    del select.poll, signal.SIGQUIT

    locked = []
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.LK_NBLCK = 2

    def locking(handle, mode, size):
        assert os.lseek(handle, 0, os.SEEK_CUR) > 2**32
        locked.append(mode)

    msvcrt.locking = locking
    sys.modules["msvcrt"] = msvcrt
    sys.platform = "win32"
"""


def on_windows(code: str, folder: Path, **values: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WINDOWS) + textwrap.dedent(code)],
        env=environment(**values),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_clients_are_imported_and_the_stock_one_is_the_stock_one(tmp_path: Path) -> None:
    code = """
        import provider, provider.cli
        print(type(provider.OpenAI(api_key="k")._client._transport).__module__)
    """
    assert "provider" not in on_windows(code, tmp_path, LLM_PROVIDER="openai")


def test_a_switch_is_written_and_read(tmp_path: Path) -> None:
    code = """
        from pathlib import Path
        from provider.overrides import Overrides
        ours, theirs = (Overrides(Path("state/providers.json"), ("local", "openai")) for _ in "12")
        for name in ("local", "openai"):
            ours.set({"llm": name})
            print(theirs.state().llm)
        print(locked)
    """
    assert on_windows(code, tmp_path).split() == ["local", "openai", "[2,", "2]"]
    names = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert names == ["providers.json", "providers.json.log"]
    assert len((tmp_path / "state" / "providers.json.log").read_text().splitlines()) == 2


def test_a_recording_is_appended_and_rotated(tmp_path: Path) -> None:
    code = """
        from pathlib import Path
        from provider.record import Journal
        journal = Journal(Path("seen.jsonl"), 100)
        for number in range(3):
            journal.append({"n": number, "text": "x" * 60})
    """
    on_windows(code, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "seen.1.jsonl",
        "seen.2.jsonl",
        "seen.jsonl",
    ]
    assert all(path.read_bytes().endswith(b'"}\n') for path in tmp_path.iterdir())


def test_what_needs_a_posix_system_says_what_to_do_instead(tmp_path: Path) -> None:
    code = """
        from click.testing import CliRunner
        from provider.cli import main
        done = CliRunner().invoke(main, ["exec", "--demo", "--", "python", "app.py"])
        print(done.exit_code, done.output)
    """
    said = on_windows(code, tmp_path, LLM_PROVIDER="local")
    assert said.startswith("2 ")
    assert "start `sllm serve` and set OPENAI_BASE_URL=http://127.0.0.1:8000/v1" in said

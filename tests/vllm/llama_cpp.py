"""The contract's chat, stream, json and tools through us against llama-cpp-python's own server.

    python -m tests.vllm.llama_cpp LLAMA_VENV/bin/python [pytest arguments]  # `make test-llama-cpp`

What that server cannot do (several answers, bounds of numbers) fails here, and is listed in
docs/scaling.md. `interrupt_requests` off: it would end a stream when the next request comes. Left
out are odd names in schemas: U+0000 or a quote with a backslash ends its process.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.standin.serving import free_port
from tests.vllm.through import DEMO, NAME, contract, serving

_PARTS = "(test_chat.py or test_stream.py or test_json.py or test_tools.py) and not no_name"


def main(python: str, arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / f"{NAME}.gguf"
        export = [sys.executable, "-m", "bench.engine.gguf_file", str(DEMO), str(model)]
        subprocess.run(export, check=True)
        port = free_port()
        command = [python, "-m", "llama_cpp.server", "--model", str(model), "--port", str(port)]
        command += ["--model_alias", NAME, "--n_ctx", "4096", "--n_threads", "1"]
        command += ["--interrupt_requests", "false"]
        with serving(command, port, Path(folder) / "llama.log") as url:
            return contract(url, ["-k", _PARTS, *arguments])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))

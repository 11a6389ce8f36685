"""`transformers serve` with continuous batching, over HTTP. It cannot constrain, so free text only.

CPU time is the server's, as the system counts it; the client's part is not in it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from bench.engine.workers.protocol import Firsts, Result, serve

_PATIENCE = 240.0
"""Seconds until the server must answer."""


class Server:
    """The server's process, on a port that was free."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port)]
        how = ["--device", "cpu", "--dtype", "bfloat16", "--continuous-batching"]
        command = [str(Path(sys.executable).with_name("transformers")), "serve", folder]
        self.process = subprocess.Popen([*command, *where, *how], stdout=sys.stderr)
        self._stat = Path(f"/proc/{self.process.pid}/stat")

    def wait(self) -> None:
        """Until it listens. Raises RuntimeError when it ends instead."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=1).close()
            except (OSError, urllib.error.URLError):
                time.sleep(0.2)
            else:
                return
        raise RuntimeError("transformers serve did not start")

    def cpu(self) -> float:
        """Seconds of the process, user and system."""
        fields = self._stat.read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stream(self, model: str, prompt: str, most: int) -> Any:
        """The texts of a completion as they come."""
        body = {
            "model": model,
            "prompt": prompt,
            "max_tokens": most,
            "stream": True,
            "generation_config": json.dumps({"do_sample": False, "min_new_tokens": most}),
        }
        request = urllib.request.Request(
            f"{self.url}/v1/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            for line in answer:
                data = line.removeprefix(b"data:").strip()
                if line.startswith(b"data:") and data != b"[DONE]":
                    yield from (choice["text"] for choice in json.loads(data)["choices"])


def main(folder: str) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    server = Server(folder)
    server.wait()

    def run(case: dict[str, Any]) -> Result:
        if case["schema"]:
            return {"tokens": 0, "texts": []}
        prompts = [tokenizer.decode(prompt) for prompt in case["prompts"]]
        firsts, texts = Firsts(len(prompts), server.cpu), [""] * len(prompts)
        began = server.cpu()

        def follow(row: int) -> None:
            for text in server.stream(folder, prompts[row], case["new_tokens"]):
                if text:
                    firsts.saw(row, 0)
                    texts[row] += text

        threads = [threading.Thread(target=follow, args=(row,)) for row in range(len(prompts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tokens = sum(len(tokenizer.encode(text, add_special_tokens=False)) for text in texts)
        noted = {**firsts.noted, "tokens_first": len(prompts)} if firsts.noted else {}
        return {"tokens": tokens, "texts": texts, "cpu": server.cpu() - began, **noted}

    try:
        serve(run)
    finally:
        server.process.terminate()
        server.process.wait()


if __name__ == "__main__":
    main(sys.argv[1])

"""A process beside the app that switches by the state file, as `sllm switch` does.

    python -m bench.gateway.commander PATH

Each line of standard input is a provider's name; each is answered by a line once it is switched to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from provider.factory import PROVIDERS
from provider.overrides import Overrides


@contextlib.contextmanager
def commander(path: Path) -> Iterator[Callable[[str], Awaitable[None]]]:
    """Gives the command: a name to switch to, which is done when it returns."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.gateway.commander", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    told, said = process.stdin, process.stdout
    assert told is not None
    assert said is not None

    async def switch(name: str) -> None:
        told.write(name.encode() + b"\n")
        told.flush()
        await asyncio.to_thread(said.readline)

    try:
        said.readline()  # it is there
        yield switch
    finally:
        told.close()
        process.wait(10)
        said.close()


def main(path: Path) -> None:
    logging.getLogger("provider").setLevel(logging.ERROR)
    overrides = Overrides(path, PROVIDERS)
    print("ready", flush=True)
    for line in sys.stdin:
        overrides.set({"llm": line.strip()})
        print("switched", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

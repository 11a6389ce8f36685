"""`python -m tests.standin [PORT]`: the stand-in in the foreground, to try things by hand."""

from __future__ import annotations

import sys

import uvicorn

from tests.standin.app import StandIn

if __name__ == "__main__":
    standin = StandIn()
    print(f"OPENAI_API_KEY={standin.key}")
    uvicorn.run(standin, host="127.0.0.1", port=int(sys.argv[1]) if sys.argv[1:] else 8001)

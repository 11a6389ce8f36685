"""Structured logs: one line per request, with its id; never a prompt, an answer or a key."""

from __future__ import annotations

import json
import logging
import time
import traceback
from typing import Any

from server.exchange import Exchange

logger = logging.getLogger("sllm.server")

_FACTS = "facts"


class JsonLines(logging.Formatter):
    """Each record as one JSON object: time (UTC), level, event and the facts given with it."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, _FACTS, {}),
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """The same for a person: time, event, `name=value` facts."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts: dict[str, Any] = getattr(record, _FACTS, {})
        said = " ".join(f"{name}={value}" for name, value in facts.items() if value != "")
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        return f"{stamp} {level}{record.getMessage()} {said}".rstrip()


def set_up(style: str, level: int = logging.INFO) -> None:
    """Sends the server's log to standard error as `json` or `plain` lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if style == "json" else PlainLines())
    for name in ("sllm", "provider", "uvicorn"):
        target = logging.getLogger(name)
        target.handlers, target.propagate = [handler], False
        target.setLevel(level if name != "uvicorn" else logging.WARNING)


def request_done(exchange: Exchange) -> None:
    """The line of a request that was answered, refused or left."""
    if not logger.isEnabledFor(logging.INFO):
        return
    facts = {
        "request_id": exchange.request_id,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "outcome": exchange.outcome,
        "ms": round(exchange.seconds * 1000, 1),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "caller": exchange.key_id,
    }
    if exchange.trace_id:
        facts["trace_id"] = exchange.trace_id
    logger.info("request", extra={_FACTS: facts})


def unexpected(exchange: Exchange, error: BaseException) -> None:
    """A failure of ours: its class and where it happened.

    Not its message: libraries quote their input there, and that may be a prompt.
    """
    frames = traceback.extract_tb(error.__traceback__)
    facts = {
        "request_id": exchange.request_id,
        "route": exchange.route,
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-8:]],
    }
    logger.error("unexpected failure", extra={_FACTS: facts})

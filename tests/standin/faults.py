"""Misbehaviour on demand: what a hosted API, a proxy or a network does on a bad day.

Ask for a fault in a request header, `x-standin-fault: rate_limit;retry_after=2`, or from the test,
`standin.faults.add("stream_reset", times=2, after=3, path="/v1/chat/completions")`. Faults that
need more than HTTP allows write to the connection itself and therefore need the real server.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

FAULTS: dict[str, str] = {
    # an error status, well-formed
    "rate_limit": "429 rate_limit_exceeded, Retry-After of `retry_after` seconds (1)",
    "rate_limit_ms": "the same with retry-after-ms of `ms` (20)",
    "rate_limit_date": "the same with Retry-After as an HTTP date, `retry_after` seconds ahead",
    "insufficient_quota": "429 insufficient_quota: trying again never helps",
    "server_error": "500 in OpenAI's words",
    "unavailable": "503 in OpenAI's words, Retry-After of `retry_after` seconds if given",
    "timeout_status": "408, as the edge answers a slow upload",
    "status": "the status `code` (418) with OpenAI's error body",
    # an error status from a proxy that is not OpenAI
    "bad_gateway_html": "502 with a proxy's HTML page",
    "gateway_timeout_html": "504 with a proxy's HTML page",
    "plain_text_500": "500 with a bare sentence",
    "error_without_body": "500 with no body at all",
    "redirect": "307 to `to` (another host): keys must not travel there",
    # a body that is not what it says
    "invalid_json": "200 with a body that is not JSON",
    "not_an_object": "200 with a JSON array",
    "empty_object": "200 with {}",
    "empty_body": "200 with no body",
    "html_200": "200 with an HTML page, as a captive portal answers",
    "bad_utf8": "200 with bytes that are not UTF-8 inside the JSON",
    "gzip": "the right answer, compressed (legal: must work)",
    "broken_gzip": "200, content-encoding gzip, and bytes that are not",
    # the connection
    "close_before": "the connection is closed before the first byte",
    "reset_before": "the connection is reset before the first byte",
    "short_body": "content-length is larger than the body that comes, then a close",
    "long_body": "content-length is smaller than the body that comes",
    "reset_mid_body": "the connection is reset in the middle of the body",
    "garbage_status": "a first line that is not HTTP",
    "endless_headers": "header lines that never end",
    "huge_header": "one header line of a megabyte",
    "informational": "103 Early Hints before the right answer (legal: must work)",
    # time
    "delay": "the right answer after `seconds` (1)",
    "stall": "nothing at all, until the client leaves",
    "stall_mid_body": "status, headers and half of the body, then nothing until the client leaves",
    "slow_drip": "the right answer in pieces of `size` (8) bytes with `seconds` (.005) between",
    # streams: `after` is the number of events sent before it happens (2)
    "stream_truncated": "the stream ends cleanly without finish_reason and [DONE]",
    "stream_no_done": "finish_reason comes, [DONE] does not",
    "stream_reset": "the connection is reset between two events",
    "stream_cut_event": "the connection closes in the middle of an event",
    "stream_error": "an error event in the middle, then the end",
    "stream_garbage": "an event whose data is not JSON",
    "stream_stall": "the stream goes silent until the client leaves",
    "stream_endless": "pieces that never end, until the client leaves",
    "stream_split": "pieces cut inside lines and UTF-8 characters (legal: must work)",
    "stream_comments": "comments, CRLF line ends, event and id fields (legal: must work)",
    "stream_glued": "the whole stream in one piece (legal: must work)",
    "stream_not_streamed": "a plain JSON body although a stream was asked for",
}


@dataclass
class Fault:
    """One planned fault. `times` None means for every request; `path` limits it to one path."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    times: int | None = 1
    path: str | None = None

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise ValueError(f"unknown fault {self.name!r}; known: {', '.join(FAULTS)}")

    def number(self, option: str, default: float) -> float:
        return float(self.options.get(option, default))

    @classmethod
    def parse(cls, header: str) -> Fault:
        """`name;option=value;option=value`."""
        name, *pairs = (part.strip() for part in header.split(";"))
        return cls(name, dict(pair.split("=", 1) for pair in pairs if pair))


class FaultPlan:
    """The faults that a test has asked for, used up in order; safe across threads."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self, name: str, *, times: int | None = 1, path: str | None = None, **options: object
    ) -> None:
        texts = {key: str(value) for key, value in options.items()}
        with self._lock:
            self._planned.append(Fault(name, texts, times, path))

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()

    def take(self, path: str, streams: bool) -> Fault | None:
        """The next fault for this path, if any; it is used up once. Stream faults wait for a
        streamed answer."""
        with self._lock:
            for fault in self._planned:
                if fault.name.startswith("stream_") and not streams:
                    continue
                if fault.path in (None, path) and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

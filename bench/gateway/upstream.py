"""An upstream that costs next to nothing: fixed answers over a bare asyncio protocol.

python -m bench.gateway.upstream                  # prints its port
python -m bench.gateway.upstream here 0.001       # says "here", its events 1 ms apart
"""

from __future__ import annotations

import asyncio
import json
import sys

WORD = sys.argv[1] if len(sys.argv) > 1 else "안녕"
PAUSE = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0


def _completion() -> bytes:
    message = {"role": "assistant", "content": f"{WORD} " * 16, "refusal": None}
    body = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 32, "total_tokens": 42},
    }
    return json.dumps(body, ensure_ascii=False).encode()


def _events(count: int = 32) -> list[bytes]:
    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        body = {
            "id": "chatcmpl-bench",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "gpt-4o-mini",
            "choices": [choice],
        }
        return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"

    pieces = [event({"content": f"{WORD} "}) for _ in range(count)]
    return [*pieces, event({}, "stop"), b"data: [DONE]\n\n"]


def _chunked(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


COMPLETION = _completion()
PLAIN = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n" % len(COMPLETION)
) + COMPLETION
MODELS = json.dumps(
    {"object": "list", "data": [{"id": "gpt-4o-mini", "object": "model", "created": 1}]}
).encode()
LISTED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(MODELS)
) + MODELS
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM = [_chunked(event) for event in _events()]


class Upstream(asyncio.Protocol):
    """Keep-alive HTTP/1.1: a request is answered as soon as its body is whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            mark = head.find(b"content-length:")
            length = int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0
            whole = end + 4 + length
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            if head.startswith(b"get "):
                self._transport.write(LISTED)
            else:
                self._answer(b'"stream":true' in body or b'"stream": true' in body)

    def _answer(self, streamed: bool) -> None:
        if not streamed:
            self._transport.write(PLAIN)
            return
        self._transport.write(HEAD)
        if PAUSE:
            self._next([*STREAM, b"0\r\n\r\n"])
            return
        for event in STREAM:
            self._transport.write(event)
        self._transport.write(b"0\r\n\r\n")

    def _next(self, events: list[bytes]) -> None:
        self._transport.write(events.pop(0))
        if events:
            asyncio.get_running_loop().call_later(PAUSE, self._next, events)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())

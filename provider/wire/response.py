"""One response, put together from the bytes of its connection. No I/O."""

from __future__ import annotations

import httptools

from provider.wire.failures import Broken, WireFailure

_MOST_HEAD = 128 * 2**10


class Response:
    """What httptools finds in a connection's bytes.

    `headers` have lower-case names; a repeated name has its values joined by `, `. `whole`: the
    body has ended as it should; `keep_alive`: and the connection may be used again.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.whole = False
        self.keep_alive = False
        self.failure: WireFailure | None = None
        self.in_head = True
        self.held = 0
        self._parser = httptools.HttpResponseParser(self)
        self._head_size = 0
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Bytes of the connection; it may be `whole` or have a `failure` afterwards."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.whole:  # after it, they are no longer this response's
                self.fail(Broken(f"not HTTP: {error}"))
            self.keep_alive = False
        self._head_size += len(data) if self.in_head else 0
        if self.in_head and self._head_size > _MOST_HEAD:
            self.fail(Broken(f"a head of more than {_MOST_HEAD} bytes"))

    def eof(self) -> None:
        """The server has closed the connection, which ends a body of no declared length."""
        if self.whole or self.failure is not None:
            return
        chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if self.in_head or chunked or "content-length" in self.headers:
            self.fail(Broken("closed before the answer was whole"))
        else:
            self.whole = True

    def fail(self, failure: WireFailure) -> None:
        if self.failure is None and not self.whole:
            self.failure = failure

    def taken(self) -> bytes:
        """What has come of the body and was not taken yet, `held` bytes."""
        taken = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self.held = 0
        return taken

    # The parser's side.

    def on_message_begin(self) -> None:
        if not self.whole:  # a second response is nobody's
            self.headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.whole or not self.in_head:  # trailers are not passed on
            return
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self.whole and status >= 200:  # 1xx announce a response that is still to come
            self.status, self.in_head = status, False

    def on_body(self, piece: bytes) -> None:
        if not self.whole:
            self._pieces.append(piece)
            self.held += len(piece)

    def on_message_complete(self) -> None:
        if self.whole:
            self.keep_alive = False
        elif not self.in_head:
            self.whole, self.keep_alive = True, self._parser.should_keep_alive()

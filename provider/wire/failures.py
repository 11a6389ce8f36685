"""How an exchange over the wire fails, each kind apart, because only some may be tried again."""

from __future__ import annotations


class WireFailure(Exception):
    """An exchange that has no whole answer."""


class CannotConnect(WireFailure):
    """No connection came about: nothing was sent."""


class ConnectTimedOut(CannotConnect):
    """None came about in time."""


class NoConnectionLeft(WireFailure):
    """As many exchanges as may be are under way, and none ended in time."""


class TimedOut(WireFailure):
    """The server took or sent nothing for too long."""


class Broken(WireFailure):
    """The connection ended early, or what came is not HTTP."""


class Unsendable(WireFailure):
    """The request has a header that HTTP/1.1 cannot carry."""


def unconnected(error: Exception, seconds: float) -> CannotConnect:
    """What it means that a connection could not be opened in so many seconds."""
    if isinstance(error, TimeoutError):
        return ConnectTimedOut(f"not within {seconds:g} seconds")
    return CannotConnect(str(error))

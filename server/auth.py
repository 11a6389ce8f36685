"""Who may call: API keys, the admin key, and the guard of a server without keys."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from provider.errors import ApiError, ConfigurationError, Forbidden, Unauthenticated

_DIGEST = re.compile(r"sha256:([0-9a-fA-F]{64})")
_LOOPBACK_HOST = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\]|[a-z0-9-]+\.localhost)(:\d+)?")


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent the request. `id` names the key without revealing it."""

    id: str
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Keys:
    """The accepted keys, kept as SHA-256 digests only.

    `open` means that no key is needed: only ever on a loopback address.
    """

    clients: tuple[bytes, ...] = ()
    admins: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, clients: Iterable[str], admins: Iterable[str] = ()) -> Keys:
        """Keys as settings give them: plain, or `sha256:` and the hex digest.

        Raises `ConfigurationError` for a digest that is none.
        """
        return cls(tuple(map(_digest, clients)), tuple(map(_digest, admins)))

    @property
    def open(self) -> bool:
        return not self.clients

    def caller(self, headers: Mapping[str, str], client: str) -> Caller:
        """Who calls, by `Authorization: Bearer KEY`.

        Raises `Unauthenticated` (401), in OpenAI's words.
        """
        presented = _bearer(headers)
        digest = hashlib.sha256(presented.encode("latin-1", "replace")).digest()
        admin = _member(digest, self.admins)
        if _member(digest, self.clients) or admin:
            return Caller(f"key-{digest.hex()[:8]}", admin)
        if self.open:
            self._refuse_foreign_page(headers)
            return Caller(f"ip-{client}")
        raise _unauthenticated(presented)

    def knows(self, headers: Mapping[str, str], client: str) -> bool:
        """Whether `caller` would accept the request."""
        try:
            self.caller(headers, client)
        except ApiError:
            return False
        return True

    def administrator(self, headers: Mapping[str, str], client: str) -> Caller:
        """The caller, who must hold the admin key.

        Raises `Unauthenticated` (401) without a valid key, `Forbidden` (403) otherwise.
        """
        if not self.admins:
            raise Forbidden("This operation is closed: the server has no SLLM_ADMIN_KEY.")
        caller = self.caller(headers, client)
        if not caller.admin:
            raise Forbidden("This operation needs the server's admin key.")
        return caller

    def _refuse_foreign_page(self, headers: Mapping[str, str]) -> None:
        """A web page whose name was pointed at this machine (DNS rebinding) is not the user."""
        host = headers.get("host", "localhost").lower()
        if not _LOOPBACK_HOST.fullmatch(host):
            raise Forbidden(
                "A server without API keys answers only requests to localhost; "
                "set SLLM_API_KEYS to serve other host names."
            )


def _digest(key: str) -> bytes:
    if not key.startswith("sha256:"):
        return hashlib.sha256(key.encode()).digest()
    match = _DIGEST.fullmatch(key)
    if match is None:
        raise ConfigurationError(
            "A key of SLLM_API_KEYS or SLLM_ADMIN_KEY begins with 'sha256:' but is not followed by "
            "64 hexadecimal digits; make one with: printf %s KEY | sha256sum"
        )
    return bytes.fromhex(match[1])


def _member(digest: bytes, known: tuple[bytes, ...]) -> bool:
    """Compares with every key, each in constant time, so that timing tells nothing."""
    found = False
    for candidate in known:
        found |= hmac.compare_digest(digest, candidate)
    return found


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _unauthenticated(presented: str) -> Unauthenticated:
    challenge = {"www-authenticate": "Bearer"}
    if presented:
        return Unauthenticated("Incorrect API key provided.", headers=challenge)
    return Unauthenticated(
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
        headers=challenge,
    )

"""Token ids of OpenAI's cl100k_base encoding back to text.

LangChain's `OpenAIEmbeddings` tokenises on its own and sends ids, which mean nothing to another
model. Decoding them needs only the encoding's table of bytes, a file that tiktoken keeps in its
cache (under the SHA-1 of its URL) and LiteLLM ships in its package. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from provider.errors import InvalidRequest

CACHE_NAME = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"
"""SHA-1 of https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken."""

SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"

WAY_OUT = (
    "Send text instead (in LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)), or put "
    "OpenAI's cl100k_base.tiktoken at hand (TIKTOKEN_CACHE_DIR)."
)


@dataclass(frozen=True)
class Cl100k:
    """`table` gives each id its bytes."""

    table: Mapping[int, bytes]

    def text(self, tokens: Sequence[int], path: str) -> str:
        """The text of `tokens`. Raises `InvalidRequest` for ids that are none of the encoding's,
        or that are no text."""
        try:
            return b"".join(self.table[token] for token in tokens).decode("utf-8")
        except KeyError as error:
            reason = f"{error.args[0]} is not a token id of cl100k_base."
        except UnicodeDecodeError:
            reason = "the token ids of cl100k_base do not make up whole characters."
        raise InvalidRequest(f"Invalid '{path}': {reason} {WAY_OUT}", param="input")


def find(folders: Iterable[Path]) -> Cl100k | None:
    """The encoding, if its intact file is in one of the folders."""
    for folder in folders:
        path = folder / CACHE_NAME
        if path.is_file():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() == SHA256:
                return Cl100k(dict(_pairs(data.splitlines())))
    return None


def refusal(path: str) -> InvalidRequest:
    """What to answer to token ids while the encoding is not at hand."""
    return InvalidRequest(
        f"Invalid '{path}': token ids belong to OpenAI's encoding, which is not at hand here. "
        f"{WAY_OUT}",
        param="input",
        code="unsupported_value",
    )


def places(cache_dir: Path | None) -> Iterator[Path]:
    """Where the file is looked for: the setting, tiktoken's default cache, LiteLLM's package."""
    if cache_dir is not None:
        yield cache_dir
    yield Path(tempfile.gettempdir()) / "data-gym-cache"
    litellm = importlib.util.find_spec("litellm")
    if litellm is not None and litellm.origin is not None:
        yield Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers"


def _pairs(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for line in lines:
        if line:
            encoded, rank = line.split()
            yield int(rank), base64.b64decode(encoded)

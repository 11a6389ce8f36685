"""Texts to vectors, in this process.

A text's vector does not depend on what it is computed with: texts are sorted by length, results
keep their order, and a batch gives what single texts give within the precision's rounding.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from provider.engine.device import DType, quiet_libraries, resolve_device, resolve_dtype
from provider.engine.embedding_facts import EmbeddingFacts, facts_for
from provider.engine.embedding_modules import Chain, load_chain
from provider.engine.model_card import UNKNOWN_LICENCE, count, licence, read_manifest
from provider.engine.repository import resolve
from provider.errors import ConfigurationError, InvalidRequest
from provider.protocol.values import is_encodable

Task = Literal["query", "passage"]
_VOLATILE = {"transformers_version", "_name_or_path", "torch_dtype", "dtype", "architectures"}
_SETTING = "LOCAL_EMBEDDING_MODEL"


class InputTooLong(InvalidRequest):
    """Text `index` has `tokens` tokens, special ones counted, where `limit` are possible."""

    def __init__(self, index: int, tokens: int, limit: int) -> None:
        super().__init__(
            f"Invalid 'input[{index}]': maximum context length is {limit} tokens, however you "
            f"requested {tokens} tokens. Please reduce the length of your input.",
            param="input",
            code="context_length_exceeded",
        )
        self.index, self.tokens, self.limit = index, tokens, limit


@dataclass(frozen=True)
class Embeddings:
    """`vectors` float32 [n, dimensions] in the order of the texts; `token_counts` n, special
    tokens included."""

    vectors: NDArray[np.float32]
    token_counts: list[int]


class Embedder:
    """An embedding model. `embed` may be called from several threads."""

    def __init__(
        self,
        name: str,
        chain: Chain,
        facts: EmbeddingFacts,
        folder: Path,
        dimensions: int | None = None,
    ) -> None:
        self.name = name
        self.max_tokens = chain.max_tokens
        self.folder = folder
        self.pooling, self.normalized = chain.pooling, chain.normalized
        self.prefixes: dict[Task, str] = {
            "query": facts.query_prefix or chain.prompts.get("query", ""),
            "passage": facts.passage_prefix
            or chain.prompts.get("passage", chain.prompts.get("document", "")),
        }
        stated = facts.licence if licence(folder) == UNKNOWN_LICENCE else None
        self.licence = stated or licence(folder)
        self.demo = read_manifest(folder).get("demo") is True
        self._chain = chain
        self.pads, self.batch_tokens = chain.encoder.pads, chain.encoder.batch_tokens
        self._cut: int | None = None
        self._cut = self._checked_cut(facts, dimensions)

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        device: str = "auto",
        *,
        dtype: DType = "auto",
        revision: str | None = None,
        dimensions: int | None = None,
    ) -> Embedder:
        """Load a folder or hub id; `ConfigurationError` with one sentence when it cannot be.

        `dimensions` cuts the vectors to a width that the model was trained for (matryoshka), and
        normalises them again. `dtype` is the precision of matrix products only; sums, norms and
        pooling are fp32 in any case, so that a space filled on one machine is read on another
        (cosine distance to fp32 about 1e-5). `auto` is the narrowest that the device computes
        natively.
        """
        quiet_libraries()
        folder = _resolve(path_or_id, revision)
        where = resolve_device(device, setting="LOCAL_EMBEDDING_DEVICE")
        facts = facts_for(str(path_or_id), folder)
        chain = load_chain(folder, facts, where, resolve_dtype(dtype, where))
        is_folder = Path(path_or_id).expanduser().is_dir()
        asked = folder.resolve().name if is_folder else str(path_or_id)
        name = str(read_manifest(folder).get("name") or asked)
        return cls(name, chain, facts, folder, dimensions)

    @cached_property
    def full_dimensions(self) -> int:
        """Width of the model's own vectors, first asked for before they are cut."""
        return int(self.forward(self.tokenize(["x"])).shape[1])

    @property
    def dimensions(self) -> int:
        return self._cut or self.full_dimensions

    @property
    def device(self) -> torch.device:
        return self._chain.encoder.device

    def count_tokens(self, texts: Sequence[str], task: Task | None = None) -> list[int]:
        """Tokens of each text, special ones and prefix included; of any length."""
        return [len(ids) for ids in self._ids(texts, task)]

    def tokenize(self, texts: Sequence[str], task: Task | None = None) -> list[list[int]]:
        """Token ids of each text, prefix and special tokens included; raises `InputTooLong`."""
        found = self._ids(texts, task)
        for index, ids in enumerate(found):
            if len(ids) > self.max_tokens:
                raise InputTooLong(index, len(ids), self.max_tokens)
        return found

    def embed(self, texts: Sequence[str], task: Task | None = None) -> Embeddings:
        """Vectors of `texts`; raises `InputTooLong`, and never cuts a text.

        `task` adds the prefix that the model was trained with, where it has such (e5). Without a
        task a text that starts with one of the prefixes is taken as it is, since an app may write
        it itself, and any other text is a passage.
        """
        ids = self.tokenize(texts, task)
        vectors = np.empty((len(ids), self.dimensions), dtype=np.float32)
        for rows in batches([len(row) for row in ids], self.batch_tokens):
            vectors[rows] = self.forward([ids[row] for row in rows])
        return Embeddings(vectors, [len(row) for row in ids])

    def forward(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Vectors [n, dimensions] of one batch of token ids.

        Raises `FloatingPointError` when one of them is not finite.
        """
        for found in self.steps(ids):
            if found is not None:
                return found
        raise RuntimeError("an encoder ends with its vectors")

    def steps(self, ids: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32] | None]:
        """`forward` in steps: None after each part of a long computation, at last the vectors."""
        work = self._chain.steps(ids)
        while True:
            with torch.inference_mode():
                vectors = next(work, None)
                found = None if vectors is None else self._cut_off(vectors)
            yield found
            if found is not None:
                return

    def _cut_off(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        if self._cut:
            vectors = torch.nn.functional.normalize(vectors[:, : self._cut], dim=1)
        found: NDArray[np.float32] = vectors.cpu().numpy()
        if not np.isfinite(found).all():
            raise FloatingPointError("the embedding model gave values that are not finite")
        return found

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits of all that makes the space: weights, config, tokenizer, pooling,
        normalisation, prefixes, width. Device and precision are not part of it."""
        facts = {
            "weights": _hash_of(self.folder, ("*.safetensors", "*/*.safetensors"))
            or _hash_of(self.folder, ("*.bin", "*/*.bin")),
            "tokenizer": _hash_of(self.folder, ("tokenizer.json", "vocab.txt", "*.model")),
            "config": {
                key: value
                for key, value in self._chain.encoder.config.to_dict().items()
                if key not in _VOLATILE
            },
            "pooling": self.pooling,
            "normalized": self.normalized,
            "prefixes": self.prefixes,
            "dimensions": self.dimensions,
        }
        encoded = json.dumps(facts, sort_keys=True, ensure_ascii=False, default=str).encode()
        return hashlib.sha256(encoded).hexdigest()

    def lines(self) -> list[str]:
        """For a terminal."""
        parameters = self._chain.encoder.parameters
        unit = "unit length" if self.normalized or self._cut else "not normalised"
        return [
            f"embedder  {self.name}, {count(parameters)} parameters, {self.device}",
            f"          {self.dimensions} dimensions, {self.pooling} pooling, {unit}, "
            f"at most {self.max_tokens} tokens",
            f"licence   {self.licence}",
            *(["          demo model, trained on generated sentences"] if self.demo else []),
        ]

    def _ids(self, texts: Sequence[str], task: Task | None) -> list[list[int]]:
        for index, text in enumerate(texts):
            if not is_encodable(text):
                raise InvalidRequest(
                    f"Invalid 'input[{index}]': the string contains a lone surrogate, not Unicode "
                    "text.",
                    param=f"input[{index}]",
                )
        taken = [
            self._prefix(text, task) + (text.lower() if self._chain.lower_case else text)
            for text in texts
        ]
        return [encoding.ids for encoding in self._chain.tokenizer.encode_batch_fast(taken)]

    def _prefix(self, text: str, task: Task | None) -> str:
        own = tuple(prefix for prefix in self.prefixes.values() if prefix)
        written = task is None and bool(own) and text.startswith(own)
        return "" if written else self.prefixes[task or "passage"]

    def _checked_cut(self, facts: EmbeddingFacts, dimensions: int | None) -> int | None:
        if facts.dimensions not in (None, self.full_dimensions):
            raise ConfigurationError(
                f"{_SETTING}={self.name!r} gives {self.full_dimensions} dimensions; expected "
                f"{facts.dimensions}, as this model is known to; the folder holds another model."
            )
        if dimensions in (None, self.full_dimensions):
            return None
        if dimensions not in facts.matryoshka:
            possible = ", ".join(map(str, (self.full_dimensions, *facts.matryoshka)))
            raise ConfigurationError(
                f"{_SETTING}={self.name!r} cannot be cut to {dimensions} dimensions; expected "
                f"{possible}: it was not trained for others."
            )
        return dimensions


def _resolve(path_or_id: str | Path, revision: str | None) -> Path:
    """The folder; pickled weights are fetched only where there are no others. They are read as
    tensors alone, which cannot run code."""
    dense = ("*_Dense/*.bin",)
    folder = resolve(path_or_id, revision, setting=_SETTING, further_files=dense)
    if any(folder.glob("*.safetensors")) or Path(path_or_id).expanduser().is_dir():
        return folder
    pickled = (*dense, "pytorch_model*.bin")
    return resolve(path_or_id, revision, setting=_SETTING, further_files=pickled)


def batches(lengths: Sequence[int], padded_tokens: int) -> Iterator[list[int]]:
    """Indices of texts to compute together: of similar length, at most `padded_tokens` with
    padding (a longer text stands alone)."""
    rows: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if rows and lengths[rows[0]] * (len(rows) + 1) > padded_tokens:
            yield rows
            rows = []
        rows.append(index)
    if rows:
        yield rows


def _hash_of(folder: Path, patterns: Sequence[str]) -> str:
    """SHA-256 over the names and contents of matching files; empty when there are none."""
    paths = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    if not paths:
        return ""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()

"""What the engine is asked and what it answers: plain data, no torch.

A `GenerationRequest` is already token ids; chat templates, tools and OpenAI's shapes are the
callers' business (`provider.protocol`). Its answer is a sequence of `Event`s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from provider.protocol.schema import Constraint


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. Defaults are OpenAI's.

    `temperature` 0 is greedy. `logprobs` None means not wanted; k means the chosen token's
    log-probability and the k most likely tokens beside it (0 to 20), in nats, of the model's
    distribution before the constraint's mask, temperature and penalties.

    `top_k` 0 keeps all tokens; `min_p` keeps those that are at least so likely as that share of the
    most likely one; `repetition_penalty` divides the logits of tokens of prompt and answer (1:
    not).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ends, beyond what OpenAI's API can say.

    `stop_tokens` end it as the model's own end does. Neither they nor the `stop` strings are part
    of the text unless `keep_stop`. Before `min_tokens` tokens nothing ends it; `ignore_eos` makes
    the model's own end a token like others, which has no text.
    """

    stop_tokens: tuple[int, ...] = ()
    keep_stop: bool = False
    min_tokens: int = 0
    ignore_eos: bool = False


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt, answered `n` times.

    `max_tokens` counts generated tokens per answer. `stop` strings end an answer and are not part
    of it. `adapter` names a loaded LoRA adapter, None the base model. `prediction` is a draft
    (token ids) that is verified, never trusted. An `ending` that holds an end back is not for
    answers under a `constraint`. With `running_usage` events say what was counted so far. `given`
    tokens follow the prompt, belong to it, and are scored like those of the answer (with
    `logprobs`), before any text.
    """

    prompt: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 4096
    n: int = 1
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None
    adapter: str | None = None
    prediction: tuple[int, ...] = ()
    running_usage: bool = False
    ending: Ending = Ending()
    given: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token: its id, its own bytes (perhaps part of a character), its log-probability (nats),
    and the most likely tokens of that position as (id, bytes, log-probability)."""

    token: int
    data: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Text of answer `index`: whole characters, nothing that may still become a stop string.

    `logprobs` are those of the tokens that this piece completes (empty when not asked for).
    """

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of the whole request; `completion` sums over its n answers, end-of-text and
    hidden stop tokens included, as OpenAI counts."""

    prompt: int
    completion: int
    cached: int = 0
    accepted_prediction: int = 0
    rejected_prediction: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """Answer `index` is complete: by itself or a stop string (`stop`), or cut (`length`)."""

    index: int
    reason: Literal["stop", "length"]
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of a request that succeeded."""

    usage: Usage


Event = Piece | Finished | Done

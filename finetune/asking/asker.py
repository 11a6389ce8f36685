"""Asks a model many things at once through the official SDK's client, each once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import openai
from openai.types.chat import ChatCompletion
from tqdm import tqdm  # type: ignore[import-untyped]

from finetune.asking.budget import Budget
from finetune.asking.journal import Journal
from finetune.asking.patience import patiently
from finetune.asking.price import MAP_PRICE, Price
from provider.errors import ConfigurationError

Body = Mapping[str, Any]

_PATIENCE = 5
"""Failures in a row after which a server is taken to be down."""


@dataclass(frozen=True)
class Reply:
    """What came back: a message and why it ended, or `refused`, why the server takes no such
    request. `seconds` is how long it took."""

    message: dict[str, Any] | None
    model: str
    finish_reason: str | None
    usage: dict[str, Any] | None
    usd: float | None
    seconds: float
    refused: str | None = None

    @property
    def text(self) -> str:
        return (self.message or {}).get("content") or ""

    @property
    def whole(self) -> bool:
        """Whether the answer was said to its end."""
        return self.message is not None and self.finish_reason in ("stop", "tool_calls")


class Asker:
    """Answers come from the journal where it has them. `stopped` says why it asks no more.

    `name` tells apart endpoints that are asked the same.
    """

    def __init__(
        self,
        client: openai.AsyncOpenAI,
        journal: Journal,
        budget: Budget,
        concurrency: int = 4,
        name: str = "",
        accept: Callable[[str], None] = lambda model: None,
        price: Price = MAP_PRICE,
    ) -> None:
        self.stopped: str | None = None
        self._client = client
        self._journal = journal
        self._budget = budget
        self._turn = asyncio.Semaphore(concurrency)
        self._name = name
        self._accept = accept
        self._price = price
        self._failures = 0

    async def ask_all(self, bodies: Sequence[Body]) -> list[Reply | None]:
        """Replies in order; None for what was not answered in this run.

        Raises `ConfigurationError` for what asking on cannot help: a wrong key, an unknown model.
        """
        bar = tqdm(total=len(bodies), desc=self._name or "asking", unit="", disable=None)
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(self._one(dict(body))) for body in bodies]
                for task in asked:
                    task.add_done_callback(lambda _: bar.update())
        except* ConfigurationError as group:
            raise group.exceptions[0] from None
        finally:
            bar.close()
        return [task.result() for task in asked]

    async def _one(self, body: dict[str, Any]) -> Reply | None:
        key = self.key(body)
        if (known := self._journal.replies.get(key)) is not None:
            return Reply(**known)
        async with self._turn:
            if self.stopped is not None:
                return None
            highest = self._price.most(body)
            if not self._budget.take(highest):
                self.stopped = "the budget is spent"
                return None
            self._journal.ask(key, highest)
            reply = await self._asked(body)
            if reply is not None:
                self._budget.settle(highest, reply.usd)
                self._journal.reply(key, asdict(reply))
            return reply

    def key(self, body: Body) -> str:
        """Equal for equal questions to the same endpoint."""
        text = json.dumps([self._name, body], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]

    async def _asked(self, body: dict[str, Any]) -> Reply | None:
        start = time.monotonic()
        try:
            answer = await patiently(lambda: self._client.chat.completions.create(**body))
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ConfigurationError(f"The endpoint refuses the key: {_said(error)}") from error
        except openai.NotFoundError as error:
            raise ConfigurationError(f"model {body.get('model')!r}: {_said(error)}") from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return Reply(None, str(body.get("model")), None, None, 0.0, 0.0, _said(error))
        except (openai.APIError, ValueError) as error:
            self._failed(error)
            return None
        if not isinstance(answer, ChatCompletion) or not answer.choices:
            self._failed(ValueError("its answer is no chat completion"))
            return None
        self._failures = 0
        self._accept(answer.model)
        return self._reply(answer, str(body.get("model")), time.monotonic() - start)

    def _reply(self, answer: ChatCompletion, asked: str, seconds: float) -> Reply:
        choice = answer.choices[0]
        usage = answer.usage.model_dump() if answer.usage else None
        return Reply(
            message=choice.message.model_dump(exclude_none=True),
            model=answer.model,
            finish_reason=choice.finish_reason,
            usage=usage,
            usd=self._price.cost((answer.model, asked), usage),
            seconds=seconds,
        )

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if getattr(error, "code", None) == "insufficient_quota":
            self.stopped = f"the account has no quota left ({_said(error)})"
        elif self._failures >= _PATIENCE:
            self.stopped = f"the endpoint failed {_PATIENCE} times in a row ({_said(error)})"


def _said(error: Exception) -> str:
    body = getattr(error, "body", None)
    stated = body.get("message") if isinstance(body, dict) else None
    return str(stated or error).strip().rstrip(".") + "."

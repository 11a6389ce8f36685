"""What assistants said, held to what was promised: JSON to its schema, calls to their tools."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from finetune.data.conversation import Conversation
from finetune.data.problem import Problem, Severity
from finetune.data.schemas import AnswerSchema
from provider.errors import ConfigurationError
from provider.protocol.serial import dumps

_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Answers:
    """Checks the answers that will be learnt. `schemas` are by agent; None is every other's."""

    def __init__(self, schemas: Mapping[str | None, AnswerSchema]) -> None:
        self._schemas = schemas
        self._compiled: dict[str, AnswerSchema | str] = {}

    def problems(self, conversation: Conversation) -> Iterator[Problem]:
        schema = self.schema(conversation)
        for index, message in enumerate(conversation.messages):
            if message["role"] != "assistant" or message.get("weight") == 0:
                continue
            path = f"messages[{index}]"
            for position, call in enumerate(message.get("tool_calls") or ()):
                yield from self._call(conversation, call, f"{path}.tool_calls[{position}]")
            if message["content"] is not None:
                text, at = message["content"], f"{path}.content"
                yield from (_under(schema, text, conversation, at)
                            if schema is not None
                            else _free(text, conversation, at))  # fmt: skip

    def schema(self, conversation: Conversation) -> AnswerSchema | str | None:
        """The schema that was given for the agent, or the one that the request had."""
        given = self._schemas.get(conversation.agent_type) or self._schemas.get(None)
        form = conversation.response_format or {}
        if given is not None or form.get("type") != "json_schema":
            return given
        stated = (form.get("json_schema") or {}).get("schema")
        return self._of(stated, "in response_format") if isinstance(stated, dict) else None

    def _of(self, schema: Mapping[str, Any], name: str) -> AnswerSchema | str:
        """The schema, or why it is none."""
        key = json.dumps(schema, sort_keys=True)
        if key not in self._compiled:
            try:
                self._compiled[key] = AnswerSchema(schema, name)
            except ConfigurationError as error:
                self._compiled[key] = str(error)
        return self._compiled[key]

    def _call(
        self, conversation: Conversation, call: Mapping[str, Any], path: str
    ) -> Iterator[Problem]:
        function = call["function"]
        declared = {tool["function"]["name"]: tool["function"] for tool in conversation.tools}
        if function["name"] not in declared:
            known = ", ".join(declared) or "none"
            why = f"calls {function['name']!r}, which is not among the tools ({known})"
            yield _problem(conversation, f"{path}.function.name", why)
            return
        try:
            value = json.loads(function["arguments"])
        except (ValueError, RecursionError) as error:
            yield _problem(conversation, f"{path}.function.arguments", f"no JSON ({error})")
            return
        schema = self._of(
            declared[function["name"]].get("parameters", _NOTHING), f"of {function['name']}"
        )
        yield from _held(schema, value, conversation, f"{path}.function.arguments")


def _under(
    schema: AnswerSchema | str, text: str, conversation: Conversation, path: str
) -> Iterator[Problem]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield _problem(conversation, path, f"no JSON ({error}); the schema wants it")
        return
    yield from _held(schema, value, conversation, path)


def _held(
    schema: AnswerSchema | str, value: Any, conversation: Conversation, path: str
) -> Iterator[Problem]:
    if isinstance(schema, str):
        yield _problem(conversation, path, schema)
    elif (wrong := schema.problem(value)) is not None:
        where, why = wrong
        yield _problem(conversation, path, f"{where}: {why}" if where else why)
    elif (where := schema.disorder(value) or "") != "":
        why = f"{where} has its members in another order than the schema, in which they are made"
        yield _problem(conversation, path, why, "warning", "order")


def _free(text: str, conversation: Conversation, path: str) -> Iterator[Problem]:
    """Text that nothing binds; JSON that is none, or is hidden in a fence, is worth a word."""
    stripped = text.strip()
    if stripped.startswith("```json") and stripped.endswith("```"):
        why = "is JSON in a code fence; the server makes JSON without one"
        yield _problem(conversation, path, why, "warning")
    elif stripped[:1] == "{" and stripped[-1:] == "}":
        try:
            dumps(json.loads(stripped))
        except (ValueError, RecursionError) as error:
            why = f"looks like JSON and is none ({error})"
            yield _problem(conversation, path, why, "warning")


def _problem(
    conversation: Conversation,
    field: str,
    reason: str,
    severity: Severity = "error",
    kind: str = "answer",
) -> Problem:
    return Problem(conversation.source, conversation.line, field, reason, severity, kind)

"""Messages as the model's chat template takes them: roles system, user and assistant, text only.

Tools are described at the end of the system message, calls and results written into the
conversation in the form that `provider.protocol.tools` constrains and reads. A request without
tools passes its messages on unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provider.protocol.chat import ChatRequest
from provider.protocol.messages import Message
from provider.protocol.serial import dumps
from provider.protocol.tools import CLOSE, OPEN, written
from provider.protocol.toolspec import Function, Tools

RESULT_OPEN = "<tool_result>"
RESULT_CLOSE = "</tool_result>"

_ROLES = {"developer": "system"}
_RESULTS = {"tool", "function"}

_CHOICES = {
    "none": "Answer in text; do not call a function now.",
    "auto": "Answer in text, or call functions when they help.",
    "required": "Call at least one function now.",
    "named": "Call the function {name} now.",
}
_ONE = "Call at most one function per turn."


def conversation(request: ChatRequest, *further: str) -> list[dict[str, str]]:
    """`[{"role", "content"}]` for the model's chat template; `further` are instructions beside
    those that the request implies."""
    chat = list(_turns(request.messages))
    instructions = "\n\n".join([*_instructions(request), *further])
    if instructions:
        chat = _with_system(chat, instructions)
    return [{"role": role, "content": content} for role, content in chat]


def _turns(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    """One turn per message; adjacent results become one, since they answer one turn."""
    results: list[str] = []
    for message in _in_call_order(messages):
        if message.role in _RESULTS:
            results.append(_result(message))
            continue
        if results:
            yield "user", "\n".join(results)
            results = []
        yield _ROLES.get(message.role, message.role), _text(message)
    if results:
        yield "user", "\n".join(results)


def _text(message: Message) -> str:
    speaker = f"{message.name}: " if message.name else ""
    calls = "".join(written(call.name, call.arguments) for call in message.calls)
    return f"{speaker}{message.content}{calls}"


def _result(message: Message) -> str:
    body = dumps({"name": message.name, "content": message.content})
    return f"{RESULT_OPEN}{body}{RESULT_CLOSE}"


def _in_call_order(messages: Sequence[Message]) -> Iterator[Message]:
    """Tool results in the order of their calls and named as these, whatever order they came in."""
    names: dict[str, str] = {}
    pending: list[Message] = []
    for message in messages:
        if message.role == "tool":
            pending.append(message)
            continue
        yield from _sorted(pending, names)
        pending = []
        names = {call.id: call.name for call in message.calls}
        yield message
    yield from _sorted(pending, names)


def _sorted(results: Sequence[Message], names: dict[str, str]) -> Iterator[Message]:
    order = list(names)
    for message in sorted(results, key=lambda result: order.index(result.answers or "")):
        yield Message("tool", message.content, names[message.answers or ""])


def _with_system(chat: list[tuple[str, str]], instructions: str) -> list[tuple[str, str]]:
    if chat[0][0] != "system":
        return [("system", instructions), *chat]
    first = chat[0][1]
    return [("system", f"{first}\n\n{instructions}" if first else instructions), *chat[1:]]


def _instructions(request: ChatRequest) -> Iterator[str]:
    if request.format.description:
        yield f"The answer is JSON: {request.format.description}"
    if request.tools.declared:
        yield describe(request.tools)


def describe(tools: Tools) -> str:
    """The part of the system message that tells the model about its tools."""
    functions = "\n".join(dumps(_described(function)) for function in tools.declared)
    form = f'{OPEN}{{"name":"NAME","arguments":{{...}}}}{CLOSE}'
    choice = _CHOICES[tools.mode].format(name=tools.callable[0].name if tools.callable else "")
    return "\n".join(
        [
            "# Functions",
            functions,
            "",
            f"A call is written {form}, and its result comes back as "
            f'{RESULT_OPEN}{{"name":"NAME","content":"..."}}{RESULT_CLOSE}.',
            choice if tools.parallel else f"{choice} {_ONE}",
        ]
    )


def _described(function: Function) -> dict[str, object]:
    described = {"description": function.description} if function.description else {}
    return {"name": function.name, **described, "parameters": function.parameters}

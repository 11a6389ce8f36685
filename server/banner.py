"""What `sllm serve` says once it listens: what is loaded, where, and two snippets to paste."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from provider.base import ApiRequest, Provider, describe_of

if TYPE_CHECKING:
    from provider.settings import Settings

_QUESTION = "안녕하세요"


async def banner(provider: Provider, settings: Settings, url: str) -> str:
    """The lines for a terminal. `url` ends with /v1."""
    facts = "\n".join(f"  {line}" for line in _facts(provider, settings))
    model = await _model(provider, settings)
    keyed = bool(settings.sllm_api_keys)
    return f"""
{facts}

  listening on {url}{"  (API key required)" if keyed else ""}

Try it:

{_curl(url, model, keyed)}

or in Python (pip install openai):

{_python(url, model, keyed)}

Stop with Ctrl-C.
"""


def _facts(provider: Provider, settings: Settings) -> list[str]:
    sides = (
        ("chat", settings.llm_provider, settings.openai_model),
        ("embedding", settings.embedding_provider, settings.openai_embedding_model),
    )
    hosted = [
        f"{side:<9} {name} at {settings.openai_base_url}, model {model}"
        for side, name, model in sides
        if name == "openai"
    ]
    return [*describe_of(provider), *hosted]


async def _model(provider: Provider, settings: Settings) -> str:
    """A name that the chat side answers to; nothing hosted is asked for it."""
    if settings.llm_provider != "local" or settings.embedding_provider != "local":
        return settings.openai_model
    listed = await provider.answer(ApiRequest("GET", "/v1/models"))
    models = json.loads(await listed.read())["data"]
    return str(models[0]["id"])


def _curl(url: str, model: str, keyed: bool) -> str:
    key = '  -H "Authorization: Bearer $OPENAI_API_KEY" \\\n' if keyed else ""
    messages = f'[{{"role": "user", "content": "{_QUESTION}"}}]'
    return (
        f"curl {url}/chat/completions -H 'Content-Type: application/json' \\\n{key}"
        f'  -d \'{{"model": "{model}", "messages": {messages}}}\''
    )


def _python(url: str, model: str, keyed: bool) -> str:
    key = "" if keyed else ', api_key="unused"'
    return f"""from openai import OpenAI

client = OpenAI(base_url="{url}"{key})
messages = [{{"role": "user", "content": "{_QUESTION}"}}]
answer = client.chat.completions.create(model="{model}", messages=messages)
print(answer.choices[0].message.content)"""

"""Who is asked: a model of this layer's providers, or of any OpenAI-compatible endpoint.

gpt-4o-mini                              whoever the settings name
openai:gpt-4o-mini                       the hosted side
local:default                            the local side (in this process, or LOCAL_LLM_BASE_URL)
base=local:default                       the same, called `base` in the report
six-agents@http://127.0.0.1:8000/v1      an endpoint
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr, ValidationError

from finetune.asking.client import alone
from provider.errors import ConfigurationError
from provider.factory import PROVIDERS
from provider.settings import Settings

_NO_KEY = "unused"


@dataclass(frozen=True)
class Contestant:
    """`name` is what the report says; `endpoint` tells equal models of different places apart."""

    name: str
    model: str
    endpoint: str
    settings: Settings


def contestant(spec: str, settings: Settings, aside: Path, key: str | None = None) -> Contestant:
    """The contestant that `[NAME=][PROVIDER:]MODEL[@URL]` names. `key` is the environment variable
    with the endpoint's key.

    It answers alone: fallback, shadow, recording and the run-time switch are off (`aside` is a file
    that is not there). Raises `ConfigurationError`.
    """
    rest, at, url = spec.partition("@http")
    name, equals, rest = rest.rpartition("=")
    provider, colon, model = rest.partition(":")
    if not (colon and provider in PROVIDERS):
        provider, model = settings.llm_provider, rest
    if not model or (equals and not name):
        raise ConfigurationError(
            f"{spec!r} names no model; expected [NAME=][PROVIDER:]MODEL[@URL], for example "
            "gpt-4o-mini, local:default or my-adapter@http://127.0.0.1:8000/v1."
        )
    by_itself = alone(settings, aside, provider)
    if at:
        there = {
            "llm_provider": "openai",
            "openai_base_url": _url(f"http{url}"),
            "openai_api_key": SecretStr(_key(key)),
            "openai_org_id": None,
            "openai_project_id": None,
        }
        by_itself = by_itself.model_copy(update=there)
    endpoint = f"http{url}" if at else provider
    return Contestant(name or spec, model, endpoint, by_itself)


def _key(variable: str | None) -> str:
    if variable is None:
        return _NO_KEY
    if not (value := os.environ.get(variable)):
        raise ConfigurationError(f"--key-from {variable}: the environment has no such variable.")
    return value


def _url(value: str) -> str:
    try:
        return Settings(_env_file=None, openai_base_url=value).openai_base_url
    except (ValidationError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{value} is no URL of an endpoint; expected one such as http://127.0.0.1:8000/v1."
        ) from error

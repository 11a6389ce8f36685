"""Names to providers: builds and wraps what the settings ask for.

Adding a provider is a module with `build(settings) -> Provider` and one line in `PROVIDERS`.
From the outside in, one side of the whole is

    Switchboard > Routes > Switch > Fallback > Shadow > one provider or two, each of which is
        Traced > Meter > Record > Integrity > Adapt > openai
        Traced > Meter > Responses > local
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, cast

from provider.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.trace import Tracer

    from provider.base import ApiRequest, Provider
    from provider.overrides import Overrides, Side
    from provider.record import Journal
    from provider.responses import Store
    from provider.settings import Settings

log = logging.getLogger(__name__)

PROVIDERS: dict[str, str] = {
    "openai": "provider.openai:build",
    "local": "provider.local:build",
    "litellm": "provider.litellm:build",
}

_EXTRAS = {"local": "local", "litellm": "litellm"}
_HOSTED = frozenset({"openai", "litellm"})


def build(settings: Settings) -> Provider:
    """The provider that answers every path: the LLM's and the embeddings', each by its own side,
    switchable at run time.

    Raises `ConfigurationError` for a provider whose extra is not installed.
    """
    from provider.lifecycle import warning
    from provider.overrides import Overrides
    from provider.routes import Routes
    from provider.switch import Switchboard

    if said := warning(settings.openai_model):
        log.warning(said)
    overrides = Overrides(settings.state_file, PROVIDERS)
    parts = _Parts(settings)
    defaults: dict[Side, str] = {
        "llm": settings.llm_provider,
        "embedding": settings.embedding_provider,
    }
    routes = Routes(
        llm=_side("llm", defaults, overrides, settings, parts.llm),
        embedding=_side("embedding", defaults, overrides, settings, parts.metered),
    )
    return Switchboard(routes, overrides, defaults)


def make(name: str, settings: Settings) -> Provider:
    """One provider by its name, with nothing around it.

    Raises `ConfigurationError` for an unknown name (the known ones are listed) and for an extra
    that is not installed.
    """
    if name not in PROVIDERS:
        raise ConfigurationError(
            f"There is no provider {name!r}; the known ones are {', '.join(sorted(PROVIDERS))}."
        )
    module, attribute = PROVIDERS[name].split(":")
    try:
        builder = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "provider":
            raise
        extra = _EXTRAS.get(name, name)
        raise ConfigurationError(
            f"The provider {name!r} needs the package {error.name!r}, which is not installed: "
            f"pip install 'sllm-provider[{extra}]'."
        ) from error
    return cast("Callable[[Settings], Provider]", builder)(settings)


def tracer(settings: Settings) -> Tracer | None:
    """What makes spans where `LLM_TRACING` asks for them; None, and nothing imported, where not.

    Raises `ConfigurationError` when the extra is not installed.
    """
    if settings.llm_tracing == "off":
        return None
    try:
        from provider.tracing.export import tracer_for
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"LLM_TRACING={settings.llm_tracing!r} needs the package {error.name!r}, which is not "
            "installed: pip install 'sllm-provider[tracing]', or set LLM_TRACING=off."
        ) from error
    return tracer_for(settings)


def _side(
    side: Side,
    defaults: dict[Side, str],
    overrides: Overrides,
    settings: Settings,
    build_one: Callable[[str], Provider],
) -> Provider:
    from provider.switch import Switch

    cold = frozenset({"local"} if settings.local_llm_standby == "cold" else ())
    return Switch(side, defaults[side], overrides, build_one, cold, _ready(settings))


def _ready(settings: Settings) -> frozenset[str]:
    """What may be switched to at any moment and costs next to nothing to hold: other servers."""
    return frozenset({"openai", "local"} if settings.local_llm_base_url else {"openai"})


def _journal(variable: str, path: Path) -> Journal:
    """The journal that a setting names; a place that takes none is said at start."""
    from provider.record import Journal

    try:
        return Journal(path)
    except OSError as error:
        raise ConfigurationError(
            f"{variable}={str(path)!r} cannot be written: {error.strerror}; expected a file in a "
            "folder that this user may write to."
        ) from error


def _elsewhere(settings: Settings) -> Provider:
    """The local side with its language model on other servers, its embeddings still here."""
    from provider.remote import Remote
    from provider.routes import Routes

    if settings.embedding_provider != "local":
        return Remote(settings)
    return Routes(llm=Remote(settings), embedding=make("local", settings))


class _Parts:
    """Builds what stands below the switch, each provider with what is wrapped around it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def metered(self, name: str) -> Provider:
        """A provider with what belongs to it alone."""
        from provider.adapt import Adapt
        from provider.integrity import Integrity
        from provider.meter import Meter
        from provider.record import Record

        settings = self._settings
        provider = self._bare(name)
        if name in _HOSTED:
            if settings.openai_adapt == "on":
                provider = Adapt(provider)
            provider = Integrity(provider)
            if settings.llm_record is not None:
                provider = Record(provider, _journal("LLM_RECORD", settings.llm_record), name)
        return self._traced(Meter(provider, name), name)

    def _traced(self, provider: Provider, name: str) -> Provider:
        used = tracer(self._settings)
        if used is None:
            return provider
        from provider.tracing.around import traced

        return traced(provider, name, self._settings, used)

    def _bare(self, name: str) -> Provider:
        if name != "local":
            return make(name, self._settings)
        from provider.responses import Responses

        elsewhere = bool(self._settings.local_llm_base_url)
        local = _elsewhere(self._settings) if elsewhere else make(name, self._settings)
        return Responses(local, self._responses)

    @cached_property
    def _responses(self) -> Store:
        """One for all that answer locally; it outlives a model that is closed in between."""
        from provider.responses import Store

        settings = self._settings
        return Store(settings.local_responses_kept, settings.local_responses_memory)

    def llm(self, name: str) -> Provider:
        """An LLM provider with its shadow and its fallback."""
        from provider.breaker import Breaker
        from provider.fallback import Fallback, Policy
        from provider.shadow import Sampling, Shadow

        settings = self._settings
        provider = self.metered(name)
        if settings.llm_shadow not in {"none", name}:
            provider = Shadow(
                provider,
                self.metered(settings.llm_shadow),
                _journal("LLM_SHADOW_PATH", settings.llm_shadow_path),
                Sampling(settings.llm_shadow_rate, budget=settings.llm_shadow_budget),
                self._for(settings.llm_shadow),
            )
        if settings.llm_fallback in {"none", name}:
            return provider
        return Fallback(
            provider,
            self.metered(settings.llm_fallback),
            Breaker(settings.llm_breaker_failures, settings.llm_breaker_seconds),
            Policy(
                settings.llm_fallback_on,
                settings.llm_fallback_attempts,
                settings.llm_fallback_deadline,
            ),
            self._for(settings.llm_fallback),
        )

    def _for(self, name: str) -> Callable[[ApiRequest], ApiRequest]:
        """Makes a request fit for the other side: a local model's name means nothing to a hosted
        one, which is asked for `OPENAI_MODEL` instead."""
        hosted_names = set(self._settings.model_aliases) | {self._settings.openai_model}

        def adapted(request: ApiRequest) -> ApiRequest:
            if name not in _HOSTED or not request.body:
                return request
            body = json.loads(request.body)
            if body.get("model") in hosted_names:
                return request
            return request.with_json({**body, "model": self._settings.openai_model})

        return adapted

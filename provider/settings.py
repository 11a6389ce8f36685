"""Every variable, typed, with one line each. The only reader of the environment.

The line under a field (`description`) is also its comment in `.env.example` and its row in
docs/configuration.md; `python -m provider.configuration` writes both and a test keeps them equal.
A value that cannot work raises `ConfigurationError` naming the variable, the value, what was
expected and the way out.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from provider.errors import ConfigurationError

DEMO = "demo"
"""The value of a model setting that means the small checkpoint shipped with the project."""

_REASONS = ("connect", "timeout", "server_error", "queue_full", "context")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _pairs(value: Any) -> Any:
    """`a=b,c=d` or a JSON object as a mapping."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        return json.loads(value)
    pairs = [item.split("=", 1) for item in value.split(",") if item.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("expected NAME=MODEL pairs separated by commas, or a JSON object")
    return {name.strip(): target.strip() for name, target in pairs}


def _names(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if _text(value) else value


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _size(value: Any) -> Any:
    """`5GiB`, `800MB`, `1073741824` as bytes (binary units)."""
    if not isinstance(value, str):
        return value
    text = value.strip().upper().removesuffix("B").removesuffix("I")
    unit = text[-1:] if text[-1:] in _UNITS else ""
    try:
        return int(float(text.removesuffix(unit)) * _UNITS[unit])
    except ValueError:
        raise ValueError("expected a size such as 5GiB or 800MiB") from None


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("expected an http(s) URL such as https://api.openai.com/v1")
    return value.rstrip("/")


def _provider(value: str) -> str:
    from provider.factory import PROVIDERS

    if value not in PROVIDERS:
        raise ValueError(f"expected one of {', '.join(sorted(PROVIDERS))}")
    return value


def _reasons(value: list[str]) -> list[str]:
    if unknown := set(value) - set(_REASONS):
        raise ValueError(f"expected some of {', '.join(_REASONS)}, but got {min(unknown)!r}")
    return value


Url = Annotated[str, AfterValidator(_url)]
ProviderName = Annotated[str, AfterValidator(_provider)]
Urls = Annotated[list[Url], NoDecode, BeforeValidator(_names)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Names = Annotated[list[str], NoDecode, BeforeValidator(_names)]
Reasons = Annotated[list[str], NoDecode, BeforeValidator(_names), AfterValidator(_reasons)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_pairs)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]


class SwitchSettings(BaseSettings):
    """Which side answers"""

    llm_provider: ProviderName = Field(
        "openai", description="Who answers chat completions: openai, local or litellm."
    )
    llm_model: str | None = Field(
        None, description="Model of the litellm provider, such as gemini/gemini-2.5-flash."
    )
    embedding_provider: ProviderName = Field(
        "openai", description="Who answers embeddings: openai, local or litellm."
    )
    model_aliases: Pairs = Field(
        {
            "gpt-4o-mini": "default",
            "gpt-4o": "default",
            "text-embedding-3-small": "default",
        },
        description="Names that apps ask for and the local model that answers, NAME=MODEL pairs; "
        "`default` is the loaded model, NAME `*` is every other name.",
    )
    portability: Literal["warn", "enforce", "off"] = Field(
        "warn",
        description="What to do with a request that the other provider would refuse: "
        "warn (header and log), enforce (400) or off.",
    )


class FallbackSettings(BaseSettings):
    """Switching, fallback, shadow and record"""

    sllm_state_file: Path | None = Field(
        None,
        description="File of the run-time switch, looked at by every process at each request; "
        "unset: `sllm/providers.json` in `$XDG_STATE_HOME` or `~/.local/state`, and the stock "
        "client for OpenAI alone.",
    )
    llm_fallback: Literal["none", "openai", "local"] = Field(
        "none", description="Who answers when the LLM provider cannot: none, openai or local."
    )
    llm_fallback_on: Reasons = Field(
        ["connect", "timeout", "server_error", "queue_full", "context"],
        description="Reasons to fall back, comma-separated: connect, timeout, server_error, "
        "queue_full, context.",
    )
    llm_fallback_attempts: int = Field(
        2, ge=1, le=10, description="Tries of the first provider before falling back."
    )
    llm_fallback_deadline: float = Field(
        30.0, gt=0, description="Seconds in all for those tries and the pauses between them."
    )
    llm_breaker_failures: int = Field(
        5, ge=1, description="Failures in a row that open the circuit breaker."
    )
    llm_breaker_seconds: float = Field(
        30.0, gt=0, description="Seconds until an open breaker lets one probe through."
    )
    llm_shadow: Literal["none", "openai", "local"] = Field(
        "none", description="Who else gets a sample of the requests, for comparison."
    )
    llm_shadow_rate: float = Field(
        0.05, ge=0, le=1, description="Share of the requests that is shadowed, 0 to 1."
    )
    llm_shadow_budget: int | None = Field(
        None, ge=0, description="Most shadow requests of a process; unset: no limit."
    )
    llm_shadow_path: Path = Field(
        Path(".sllm/shadow.jsonl"), description="File that comparisons are appended to."
    )
    llm_record: Path | None = Field(
        None, description="File that hosted exchanges are recorded to, as training data."
    )
    llm_tracing: Literal["off", "otlp", "console"] = Field(
        "off",
        description="OpenTelemetry traces (extra `tracing`): off, otlp (to "
        "OTEL_EXPORTER_OTLP_ENDPOINT) or console.",
    )
    llm_tracing_content: Literal["on", "off"] = Field(
        "off", description="Whether spans carry prompts and answers: on or off."
    )
    otel_exporter_otlp_protocol: str = Field(
        "http/protobuf",
        description="OpenTelemetry's own setting; `LLM_TRACING=otlp` speaks http/protobuf.",
    )
    local_llm_standby: Literal["warm", "cold"] = Field(
        "warm",
        description="Whether the local model stays loaded while it is switched away from: warm "
        "or cold.",
    )


class OpenAISettings(BaseSettings):
    """The hosted side"""

    openai_api_key: SecretStr | None = Field(None, description="Key for the hosted API.")
    openai_base_url: Url = Field(
        "https://api.openai.com/v1",
        description="Base URL of the hosted API, or of any OpenAI-compatible server.",
    )
    openai_org_id: str | None = Field(None, description="OpenAI organisation of the key.")
    openai_project_id: str | None = Field(None, description="OpenAI project of the key.")
    openai_model: str = Field("gpt-4o-mini", description="Hosted model of `get_llm()`.")
    openai_embedding_model: str = Field(
        "text-embedding-3-small", description="Hosted embedding model of `get_embedder()`."
    )
    openai_embedding_dimensions: int = Field(
        512, ge=1, le=3072, description="Dimensions of the hosted embedding space."
    )
    openai_adapt: Literal["on", "off"] = Field(
        "off",
        description="Whether requests are adapted to newer models (max_tokens becomes "
        "max_completion_tokens, ...): on or off.",
    )
    openai_http2: Literal["on", "off"] = Field(
        "off",
        description="Whether the hosted API is asked over HTTP/2 where it offers it (extra "
        "`http2`): on or off.",
    )
    openai_timeout: float = Field(
        600.0, gt=0, description="Seconds until a hosted request is given up."
    )


class LocalLLMSettings(BaseSettings):
    """The local language model"""

    local_llm_model_path: str = Field(
        DEMO,
        description="Folder or hub id of the local model; `demo` is the checkpoint shipped here.",
    )
    local_llm_revision: str | None = Field(
        None, description="Revision (commit, tag or branch) of a hub id."
    )
    local_llm_name: str | None = Field(
        None, description="Name the local model is served under; unset: its folder's or hub name."
    )
    local_llm_base_url: Urls = Field(
        [],
        description="Servers that answer for the local model instead (vLLM, SGLang, llama.cpp, "
        "Ollama), base URLs separated by commas.",
    )
    local_llm_api_key: SecretStr | None = Field(None, description="Key for those servers.")
    local_llm_device: Device = Field(
        "auto", description="Device of the local model: auto, cuda, cuda:N, mps or cpu."
    )
    local_llm_dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="Precision of the weights: auto, bf16, fp16 or fp32."
    )
    local_llm_quantization: Literal["none", "nf4", "int8"] = Field(
        "none", description="Quantisation of the weights at load: none, nf4 (4 bit) or int8."
    )
    local_llm_max_new_tokens: int = Field(
        4096, ge=1, description="Most tokens generated when a request does not say."
    )
    local_llm_context_length: int | None = Field(
        None, ge=16, description="Longest prompt plus answer in tokens; unset: the model's own."
    )
    local_llm_memory: Size | None = Field(
        None,
        description="Most device memory for weights and KV cache, such as 5GiB; "
        "unset: what is free.",
    )
    local_llm_max_batch: int = Field(
        64, ge=1, le=1024, description="Most answers generated at the same time."
    )
    local_llm_queue: int = Field(
        1024, ge=1, description="Requests that may wait; one more is refused with 429."
    )
    local_llm_threads: int | None = Field(
        None, ge=1, description="CPU threads of the local models; unset: all cores."
    )
    local_llm_native: bool = Field(
        True,
        description="Compile CPU kernels for this machine when a C compiler is there (one second, "
        "kept in ~/.cache/sllm); without them steps take longer.",
    )
    local_llm_cuda_graphs: Literal["auto", "false"] = Field(
        "auto",
        description="CUDA graphs for steps of few tokens: auto (where a check at the start finds "
        "them right) or false. They take the whole KV cache's memory at the start.",
    )
    local_llm_adapters: Path | None = Field(
        None, description="Folder whose sub-folders are LoRA adapters, loaded at start."
    )
    local_llm_max_adapters: int = Field(
        8, ge=0, description="Adapters kept in memory; the least recently used one makes room."
    )
    local_llm_loop_tokens: int = Field(
        128,
        ge=0,
        description="Tokens of one repeating cycle after which a string under a schema is closed "
        "(lists: four times as many); 0: never.",
    )
    local_responses_kept: int = Field(
        1000,
        ge=0,
        description="Responses of /v1/responses kept in memory for previous_response_id; lost at "
        "the process's end, the longest unused makes room. 0: none.",
    )
    local_responses_memory: Size = Field(
        64 * 2**20, description="Memory for the responses that are kept, such as 64MiB."
    )


class LocalEmbeddingSettings(BaseSettings):
    """The local embedding model"""

    local_embedding_model: str = Field(
        "BM-K/KoSimCSE-roberta",
        description="Folder or hub id of the local embedding model; `demo` is the one shipped "
        "here.",
    )
    local_embedding_revision: str | None = Field(
        None, description="Revision (commit, tag or branch) of a hub id."
    )
    local_embedding_device: Device = Field(
        "auto", description="Device of the embedding model: auto, cuda, cuda:N, mps or cpu."
    )
    local_embedding_dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto",
        description="Precision of the embedding model's matrix products: auto, bf16, fp16 or "
        "fp32; the space is the same.",
    )
    local_embedding_dimensions: int | None = Field(
        None,
        ge=1,
        description="Width to cut vectors to, for models trained for it; unset: the full width.",
    )
    local_embedding_queue: int = Field(
        8192, ge=1, description="Texts that may wait to be embedded; more are refused with 429."
    )
    tiktoken_cache_dir: Path | None = Field(
        None,
        description="Folder with OpenAI's cl100k_base encoding (tiktoken's cache), to read "
        "embedding inputs that are sent as token ids.",
    )


class ServerSettings(BaseSettings):
    """The server"""

    sllm_host: str = Field("127.0.0.1", description="Address the server listens on.")
    sllm_port: int = Field(
        8000, ge=0, le=65535, description="Port the server listens on; 0 picks a free one."
    )
    sllm_api_keys: Names = Field(
        [],
        description="Keys that clients may use, comma-separated; plain, or `sha256:` and the "
        "hex digest of the key. Required when the address is not loopback.",
    )
    sllm_admin_key: SecretStr | None = Field(
        None, description="Key for loading adapters and for /admin; unset: those are closed."
    )
    sllm_max_body: Size = Field(
        16 * 2**20, description="Largest request body, such as 16MiB; a larger one gets 413."
    )
    sllm_max_requests: int = Field(
        2048, ge=1, description="Requests answered at the same time; one more gets 429."
    )
    sllm_max_requests_per_key: int | None = Field(
        None, ge=1, description="Requests of one key answered at the same time; one more gets 429."
    )
    sllm_requests_per_minute: int | None = Field(
        None, ge=1, description="Requests that one key may send per minute; one more gets 429."
    )
    sllm_read_timeout: float = Field(
        30.0, gt=0, description="Seconds a client may take to send its request (408 after that)."
    )
    sllm_write_timeout: float = Field(
        60.0, gt=0, description="Seconds a client may stop reading a stream before it is cut off."
    )
    sllm_request_timeout: float = Field(
        600.0, gt=0, description="Seconds until a request is given up."
    )
    sllm_drain_timeout: float = Field(
        30.0, ge=0, description="Seconds that requests under way get to finish on SIGTERM."
    )
    sllm_log_format: Literal["plain", "json"] = Field(
        "plain", description="Lines of the server's log: plain or json."
    )
    sllm_cors_origins: Names = Field(
        [], description="Origins that browsers may call from, comma-separated; unset: none."
    )


class VectorSettings(BaseSettings):
    """Vectors"""

    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL (14 to 18, pgvector 0.5 or later); unset: an embedded server.",
    )
    embedded_database_dir: Path = Field(
        Path(".sllm/postgres"), description="Folder of the embedded PostgreSQL."
    )
    vector_schema: str = Field(
        "sllm",
        pattern=r"^[a-z_][a-z0-9_]{0,39}$",
        description="Schema of our own tables; another one for each further table of documents.",
    )
    vector_table: str = Field(
        "documents",
        min_length=1,
        description="Table of the documents, `table` or `schema.table`.",
    )
    vector_id_column: str = Field("id", description="Its primary key, one column.")
    vector_text_columns: Names = Field(
        ["content"], description="Columns whose text is embedded, joined by line breaks."
    )
    vector_metadata_column: str | None = Field(
        "metadata", description="A jsonb column that searches can filter on, where there is one."
    )
    vector_embedding_column: str | None = Field(
        "embedding", description="The vector column that the app already has, where it has one."
    )
    vector_embedding_provider: ProviderName = Field(
        "openai", description="The embedding provider that the app's own column belongs to."
    )
    vector_type: Literal["vector", "halfvec"] = Field(
        "vector",
        description="Type of new vector columns: vector, or halfvec (half the space, pgvector "
        "0.7 or later).",
    )
    vector_metric: Literal["cosine", "l2", "ip"] = Field(
        "cosine", description="Distance of new spaces: cosine, l2 or ip (inner product)."
    )
    vector_ef_search: int = Field(
        100, ge=1, le=1000, description="Candidates that an index search looks at."
    )
    vector_index_memory_mb: int | None = Field(
        None,
        ge=64,
        description="Most MiB that a build of an index takes; a graph that does not fit is built "
        "several times slower. Empty is 2048, and a quarter of the memory on the embedded server.",
    )
    embedding_dual_write: Literal["sync", "queue", "off"] = Field(
        "queue",
        description="How changed rows reach the other spaces: sync (in the same transaction), "
        "queue (by `sllm db sync`) or off (a flip back then needs that first).",
    )
    embedding_on_incomplete: Literal["refuse", "warn"] = Field(
        "refuse", description="What to do at start when the space of the provider lacks rows."
    )
    embedding_budget_usd: float | None = Field(
        None, ge=0, description="Most dollars that one backfill may spend on hosted embeddings."
    )


class Settings(
    VectorSettings,
    ServerSettings,
    LocalEmbeddingSettings,
    LocalLLMSettings,
    OpenAISettings,
    FallbackSettings,
    SwitchSettings,
):
    """All settings, read from the environment and from `.env` in the working directory.

    Raises `ConfigurationError` with one sentence per variable that cannot work.
    """

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=False,
    )

    own_prefixes: ClassVar[tuple[str, ...]] = ("LOCAL_LLM_", "LOCAL_EMBEDDING_", "SLLM_")

    def __init__(self, **values: Any) -> None:
        _refuse_unknown(self.own_prefixes, type(self).model_fields)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigurationError(_sentences(type(self), error)) from None

    @property
    def stock_client(self) -> bool:
        """Whether OpenAI answers everything and nothing wraps it: then the SDK's own client,
        untouched, is the right one."""
        return (
            self.llm_provider == self.embedding_provider == "openai"
            and self.sllm_state_file is None
            and self.llm_fallback == "none"
            and self.llm_shadow == "none"
            and self.llm_record is None
            and self.llm_tracing == "off"
            and self.openai_adapt == "off"
        )

    @property
    def state_file(self) -> Path:
        """The file of the run-time switch."""
        states = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
        return self.sllm_state_file or states / "sllm/providers.json"

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if not _loopback(self.sllm_host) and not self.sllm_api_keys:
            raise ValueError(
                f"SLLM_HOST={self.sllm_host!r} is reachable from other machines, so "
                "SLLM_API_KEYS must name at least one key; set it, or use "
                "SLLM_HOST=127.0.0.1."
            )
        return self


def _refuse_unknown(prefixes: tuple[str, ...], known: Mapping[str, Any]) -> None:
    """A misspelt variable of ours is an error, not a default that nobody asked for."""
    for name in sorted(os.environ):
        if name.upper().startswith(prefixes) and name.lower() not in known:
            close = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f"did you mean {close[0].upper()}?" if close else "unset it."
            raise ConfigurationError(f"There is no setting {name}; {hint}")


def _loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _sentences(settings: type[Settings], error: ValidationError) -> str:
    return "\n".join(_sentence(settings, dict(item)) for item in error.errors())


def _sentence(settings: type[Settings], item: Mapping[str, Any]) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = str(item["loc"][0])
    field = settings.model_fields.get(name.lower())
    secret = field is not None and "Secret" in str(field.annotation)
    value = "(hidden)" if secret or "KEY" in name.upper() else repr(item["input"])
    purpose = f" {field.description}" if field is not None else ""
    return f"{name.upper()}={value} cannot be used: {message}.{purpose}"

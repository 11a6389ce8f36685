"""The OpenAPI document of the server (`/openapi.json`).

Requests are described here; responses are the official SDK's own types, so that the document
cannot promise another shape than clients expect.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from server import openapi_responses, paths
from server.request_schemas import (
    ADAPTER_LOAD,
    ADAPTER_UNLOAD,
    CHAT_REQUEST,
    COMPLETION_REQUEST,
    EMBEDDING_REQUEST,
)

_JSON = "application/json"
_REF = "#/components/schemas/{model}"

_ERRORS = {
    400: "The request cannot be honoured; `param` names what is wrong.",
    401: "No valid API key.",
    403: "The key may not do this.",
    404: "No such path or model.",
    405: "The path exists; the method does not.",
    408: "The request did not arrive in time.",
    409: "The request conflicts with another one.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many requests; see `retry-after`.",
    500: "A failure of the server.",
    502: "The hosted side could not be reached.",
    503: "Not now; see `retry-after`.",
    504: "No answer in time.",
}


def document() -> dict[str, Any]:
    """The whole document, built anew."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sllm",
            "summary": "OpenAI's API, answered by a local or a hosted model",
            "version": _version(),
        },
        "paths": {**_api_paths(), **_operation_paths()},
        "components": {
            "schemas": {**_response_schemas(), **_error_schemas(), **_request_schemas()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def _version() -> str:
    try:
        return version("sllm-provider")
    except PackageNotFoundError:
        return "0"


def _api_paths() -> dict[str, Any]:
    chat = _operation("createChatCompletion", "ChatCompletion", "ChatCompletionRequest")
    chat["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"type": "string"},
        "x-event-schema": _ref("ChatCompletionChunk"),
    }
    text = _operation("createCompletion", "Completion", "CompletionRequest")
    text["responses"]["200"]["content"]["text/event-stream"] = {
        "schema": {"type": "string"},
        "x-event-schema": _ref("Completion"),
    }
    one_model = _operation("retrieveModel", "Model")
    one_model["parameters"] = [
        {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    ]
    load = _operation("loadAdapter", "Adapter", "AdapterLoad")
    unload = _operation("unloadAdapter", "Adapter", "AdapterUnload")
    return {
        paths.CHAT: {"post": chat},
        paths.COMPLETIONS: {"post": text},
        **openapi_responses.operations(_operation),
        paths.EMBEDDINGS: {
            "post": _operation("createEmbedding", "CreateEmbeddingResponse", "EmbeddingRequest")
        },
        paths.MODELS: {"get": _operation("listModels", "ModelList")},
        paths.MODELS + "/{model}": {"get": one_model},
        paths.LOAD_ADAPTER: {"post": load},
        paths.UNLOAD_ADAPTER: {"post": unload},
    }


def _operation(name: str, answer: str, body: str | None = None) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": "OK", "content": {_JSON: {"schema": _ref(answer)}}}
    }
    for status, meaning in _ERRORS.items():
        content = {_JSON: {"schema": _ref("ErrorResponse")}}
        responses[str(status)] = {"description": meaning, "content": content}
    operation: dict[str, Any] = {"operationId": name, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": _ref(body)}}}
    return operation


def _operation_paths() -> dict[str, Any]:
    state = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}

    def probe(name: str, *statuses: str) -> dict[str, Any]:
        content = {_JSON: {"schema": state}}
        answers = {status: {"description": name, "content": content} for status in statuses}
        return {"get": {"operationId": name, "responses": answers, "security": [{}]}}

    text = {"text/plain": {"schema": {"type": "string"}}}
    refused = {_JSON: {"schema": _ref("ErrorResponse")}}
    metrics = {
        "200": {"description": "Prometheus exposition format", "content": text},
        "401": {"description": _ERRORS[401], "content": refused},
        "403": {"description": _ERRORS[403], "content": refused},
    }
    return {
        "/health": probe("health", "200", "503"),
        "/ready": probe("ready", "200", "503"),
        "/metrics": {"get": {"operationId": "metrics", "responses": metrics}},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}


def _request_schemas() -> dict[str, Any]:
    return {
        "ChatCompletionRequest": CHAT_REQUEST,
        "CompletionRequest": COMPLETION_REQUEST,
        **openapi_responses.SCHEMAS,
        "EmbeddingRequest": EMBEDDING_REQUEST,
        "AdapterLoad": ADAPTER_LOAD,
        "AdapterUnload": ADAPTER_UNLOAD,
    }


def _error_schemas() -> dict[str, Any]:
    text_or_null = {"type": ["string", "null"]}
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": {"type": "string"},
            "type": {"type": "string"},
            "param": text_or_null,
            "code": text_or_null,
        },
    }
    return {
        "ErrorResponse": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": error},
        },
        "Adapter": {"type": "object"},
        "ModelList": {
            "type": "object",
            "required": ["object", "data"],
            "properties": {
                "object": {"const": "list"},
                "data": {"type": "array", "items": _ref("Model")},
            },
        },
    }


def _response_schemas() -> dict[str, Any]:
    from openai.types import Completion, CreateEmbeddingResponse, Model
    from openai.types.chat import ChatCompletion, ChatCompletionChunk
    from pydantic.json_schema import models_json_schema

    types = (ChatCompletion, ChatCompletionChunk, Completion, CreateEmbeddingResponse, Model)
    _, schemas = models_json_schema([(kind, "validation") for kind in types], ref_template=_REF)
    defined: dict[str, Any] = schemas["$defs"]
    # The SDK decodes base64 before its type sees the vector; on the wire it is text.
    vector = defined["Embedding"]["properties"]["embedding"]
    defined["Embedding"]["properties"]["embedding"] = {"anyOf": [vector, {"type": "string"}]}
    return defined

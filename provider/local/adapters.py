"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, in vLLM's shape.

Who may call them is the server's business.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from provider.base import ApiRequest, ApiResponse
from provider.errors import ConfigurationError, Conflict, InvalidRequest, NotFound
from provider.local.language import Language
from provider.protocol.shapes import Boolean, Integer, Object, Parameter, String

_NAME = Parameter(String(1, 128, "[^\\s,]+"), required=True)
LOAD = Object(
    {
        "lora_name": _NAME,
        "lora_path": Parameter(String(1), required=True),
        "load_inplace": Parameter(Boolean(), "Replaces an adapter of that name."),
    }
)
UNLOAD = Object({"lora_name": _NAME, "lora_int_id": Parameter(Integer(), support="harmless")})


async def load(request: ApiRequest, language: Language) -> ApiResponse:
    """Loads an adapter from a folder of this machine, under a name that requests may ask for.

    Raises `Conflict` for a name that is taken and `InvalidRequest` for a folder that does not fit
    the model, naming every difference.
    """
    body = request.json
    LOAD.check(body, "", lambda _: None)
    name = body["lora_name"]
    if name in {language.name, language.embedding_name, *language.aliases}:
        raise Conflict(f"The name '{name}' is taken by a model or an alias.", param="lora_name")
    if name in language.adapter_names() and not body.get("load_inplace"):
        raise Conflict(
            f"The lora adapter '{name}' has already been loaded; unload it first, or send "
            "load_inplace.",
            param="lora_name",
        )
    try:
        await asyncio.to_thread(language.engine.load_adapter, name, Path(body["lora_path"]))
    except ConfigurationError as error:
        raise InvalidRequest(str(error), param="lora_path") from error
    return ApiResponse.from_json({"status": "ok", "lora_name": name})


async def unload(request: ApiRequest, language: Language) -> ApiResponse:
    """Forgets an adapter; requests under way keep it. Raises `NotFound`."""
    body = request.json
    UNLOAD.check(body, "", lambda _: None)
    name = body["lora_name"]
    if name not in language.adapter_names():
        raise NotFound(
            f"The lora adapter '{name}' cannot be found.", param="lora_name", code="model_not_found"
        )
    await asyncio.to_thread(language.engine.unload_adapter, name)
    return ApiResponse.from_json({"status": "ok", "lora_name": name})

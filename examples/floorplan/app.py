"""Floor-plan analysis as a service: a plan goes in, a typed analysis comes out.

    uvicorn app:app

Reads OPENAI_API_KEY (as the SDK does) and OPENAI_MODEL.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import openai
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from openai import OpenAI
from pydantic import BaseModel

from models import FloorPlanAnalysis
from prompt import SYSTEM

MODEL = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")

app = FastAPI(title="Floor plans")
client = OpenAI()


class FloorPlan(BaseModel):
    """A plan as the drawing tool exports it: its spaces and connections, and what to check."""

    topology: dict[str, Any]
    context: dict[str, Any]


@app.post("/analyze")
def analyze(plan: FloorPlan) -> FloorPlanAnalysis:
    """The analysis of one plan."""
    try:
        completion = client.chat.completions.parse(
            model=MODEL,
            messages=messages(plan),
            response_format=FloorPlanAnalysis,
            temperature=0,
        )
    except openai.OpenAIError as error:
        raise HTTPException(502, f"The model did not answer: {error}") from error
    message = completion.choices[0].message
    if message.parsed is None:
        raise HTTPException(502, message.refusal or "The model gave no analysis.")
    return message.parsed


@app.post("/analyze/stream")
def analyze_stream(plan: FloorPlan) -> StreamingResponse:
    """The same as JSON text while it is written."""

    def text() -> Iterator[str]:
        with client.chat.completions.stream(
            model=MODEL,
            messages=messages(plan),
            response_format=FloorPlanAnalysis,
            temperature=0,
        ) as stream:
            for event in stream:
                if event.type == "content.delta":
                    yield event.delta

    return StreamingResponse(text(), media_type="application/json")


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok", "model": MODEL}


def messages(plan: FloorPlan) -> list[Any]:
    compact = json.dumps(plan.model_dump(), ensure_ascii=False, separators=(",", ":"))
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": compact},
    ]

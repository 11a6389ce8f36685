"""Prompts that logits are compared on: what the model is for, or eight of our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from provider.engine.chat import ChatTokenizer
from provider.errors import ConfigurationError, InvalidRequest

_SYSTEM = {"role": "system", "content": "You are a helpful assistant."}
_OWN = (
    "방 3개, 욕실 2개인 32평형 아파트의 평면을 분석해 주세요. 거실은 남향입니다.",
    "대한민국 헌법 제1조를 그대로 쓰고 한 문장으로 설명해 주세요.",
    "Explain what a LoRA adapter is to a new colleague, in three sentences.",
    'Return {"name": string, "area": number} as JSON for a kitchen of 12.5 square metres.',
    "17 곱하기 24는 얼마이고, 어떻게 계산했나요?",
    "日本語で自己紹介をしてください。",
    "Write a Python function that returns the n-th Fibonacci number.",
    "다음 문장을 영어로 옮기세요: 채광이 좋은 남향 거실과 분리된 주방이 있습니다.",
)
_LONGEST = 1024


def tokenised(tokenizer: ChatTokenizer, path: Path | None = None) -> list[list[int]]:
    """Token ids of every prompt, at most 1,024 each.

    `path` is JSONL of `{"messages": [...]}`, `{"conversations": [...]}` or `{"prompt": text}`;
    answers in it are part of what is compared. `ConfigurationError` names the line that is not.
    """
    if path is None:
        talks: list[Any] = [[_SYSTEM, {"role": "user", "content": text}] for text in _OWN]
        return [tokenizer.encode_chat(talk)[:_LONGEST] for talk in talks]
    found = [
        _line(tokenizer, path, number, line)[:_LONGEST]
        for number, line in enumerate(_lines(path), 1)
        if line.strip()
    ]
    if not found:
        raise ConfigurationError(f"{path} holds no prompts; expected one JSON object a line.")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); expected JSONL in UTF-8."
        ) from error


def _line(tokenizer: ChatTokenizer, path: Path, number: int, line: str) -> list[int]:
    expected = 'expected {"messages": [{"role": ..., "content": ...}]} or {"prompt": text}'
    try:
        stated = json.loads(line)
        talk = stated.get("messages") or stated.get("conversations")
        if talk is None:
            talk = [{"role": "user", "content": stated["prompt"]}]
        return tokenizer.encode_chat(talk)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidRequest) as error:
        raise ConfigurationError(f"{path}, line {number}: {error!s}; {expected}.") from error

"""Greedy decoding of many prompts at once, free or under a JSON schema.

Small on purpose: evaluation needs no more, and it measures the checkpoint apart from the engine
that serves it. The constraint is llguidance's, with the separators of the one serialisation.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from provider.engine.exaone import ExaoneForCausalLM
from provider.protocol.serial import ITEM_SEPARATOR, KEY_SEPARATOR


def grammar(schema: dict[str, Any]) -> str:
    """llguidance's grammar for `schema`. Raises ValueError where it cannot be enforced."""
    separators = {
        "whitespace_flexible": False,
        "item_separator": ITEM_SEPARATOR,
        "key_separator": KEY_SEPARATOR,
    }
    text: str = LLMatcher.grammar_from_json_schema(json.dumps({**schema, "x-guidance": separators}))
    if error := LLMatcher.validate_grammar(text):
        raise ValueError(error)
    return text


@torch.inference_mode()
def decode(
    model: ExaoneForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[list[int]],
    schema: dict[str, Any] | None = None,
    max_new_tokens: int = 800,
) -> list[str]:
    """The greedy continuation of every prompt (token ids), up to the end of the turn.

    With `schema`, no token is considered that the schema does not allow at that point. A text that
    reaches `max_new_tokens` is returned as far as it came.
    """
    rules = _Rules(tokenizer, schema, len(prompts))
    ids, attention = _left_padded(prompts)
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    written: list[list[int]] = [[] for _ in prompts]
    open_rows = torch.ones(len(prompts), dtype=torch.bool)
    cache = None
    for _ in range(max_new_tokens):
        output = model(
            input_ids=ids,
            attention_mask=attention,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        chosen = rules.choose(output.logits[:, -1].float(), open_rows)
        for row in open_rows.nonzero().flatten().tolist():
            token = int(chosen[row])
            if token == tokenizer.eos_token_id:
                open_rows[row] = False
            else:
                written[row].append(token)
        if not open_rows.any():
            break
        ids, positions = chosen[:, None], positions[:, -1:] + 1
        attention = torch.cat([attention, torch.ones_like(ids)], dim=1)
    return [str(tokenizer.decode(tokens)) for tokens in written]


class _Rules:
    """One matcher per row, or none at all."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, schema: dict[str, Any] | None, rows: int
    ) -> None:
        self.matchers: list[LLMatcher] = []
        if schema is not None:
            vocabulary, text = from_tokenizer(tokenizer), grammar(schema)
            self.matchers = [LLMatcher(vocabulary, text) for _ in range(rows)]

    def choose(self, logits: Tensor, open_rows: Tensor) -> Tensor:
        """The best allowed token of every row; [rows] int64. Closed rows get any."""
        for row, matcher in enumerate(self.matchers):
            if open_rows[row]:
                allowed = torch.frombuffer(
                    bytearray(matcher.compute_logit_bias()), dtype=torch.uint8
                )
                logits[row, allowed[: logits.shape[1]] == 0] = -torch.inf
        chosen = logits.argmax(dim=-1)
        for row, matcher in enumerate(self.matchers):
            if open_rows[row]:
                matcher.consume_token(int(chosen[row]))
        return chosen


def _left_padded(prompts: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    length = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    attention = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = torch.tensor(prompt)
        attention[row, length - len(prompt) :] = 1
    return ids, attention

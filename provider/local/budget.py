"""How many tokens an answer may have, between the request, the settings and the context."""

from __future__ import annotations

from dataclasses import dataclass

from provider.errors import ContextTooLong, InvalidRequest
from provider.protocol.chat import ChatRequest


@dataclass(frozen=True, slots=True)
class Budget:
    """`context` is prompt plus answer in tokens, `answer` the most that a request may ask for."""

    context: int
    answer: int

    def of(self, request: ChatRequest, prompt: int) -> int:
        """Tokens that each answer may have.

        Raises `ContextTooLong` where prompt and answer do not fit, and `InvalidRequest` for more
        than the settings allow.
        """
        asked = request.max_tokens
        if asked is None:
            if prompt >= self.context:
                raise ContextTooLong.of(self.context, prompt)
            return min(self.answer, self.context - prompt)
        most = min(self.answer, self.context)
        if asked > most:
            raise InvalidRequest(
                f"{request.max_tokens_param} is too large: {asked}. This model supports at most "
                f"{most} completion tokens, whereas you provided {asked}. (The limit is "
                "LOCAL_LLM_MAX_NEW_TOKENS or the model's context.)",
                param=request.max_tokens_param,
                code="invalid_value",
            )
        if prompt + asked > self.context:
            raise ContextTooLong.of(self.context, prompt, asked)
        return asked

    def check_length(self, characters: int, longest_token: int) -> None:
        """Refuses a text that cannot fit before it is tokenised, which takes time: no token has
        more than `longest_token` bytes, and a character has at least one."""
        least = -(-characters // longest_token)
        if least >= self.context:
            raise ContextTooLong.of(self.context, least)

"""A model's tokenizer with its chat template: messages to token ids, tokens to bytes.

No torch. The tokenizer is always read as `PreTrainedTokenizerFast`, that is exactly as its
`tokenizer.json` says: `AutoTokenizer` of transformers 5 rebuilds tokenizers declared as
`GPT2Tokenizer` and silently drops their own pre-tokenizer, EXAONE's digit splitting among it
(huggingface/transformers#45920).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from provider.engine.control_tokens import ControlTokens
from provider.engine.token_bytes import TokenBytes
from provider.errors import ConfigurationError, InvalidRequest
from provider.protocol.values import is_encodable

_ROLES = ("system", "user", "assistant")
_FURTHER_ROLES = ("developer", "tool", "function")
_PROBE = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "u"},
    {"role": "assistant", "content": "a"},
    {"role": "user", "content": "u"},
]


class ChatTokenizer:
    """Safe to use from several threads; never modified after construction.

    `eos` are ids that end an answer beside the tokenizer's own end-of-text and the token that the
    chat template writes after an assistant's message. `chat_template` is used when the tokenizer
    brings none. Templates that can switch reasoning off (Qwen3) are asked to: an app expects the
    answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        eos: Iterable[int] = (),
        chat_template: str | None = None,
    ) -> None:
        self.hf = tokenizer
        self.vocab_size = len(tokenizer)
        self.chat_template = _template(tokenizer, chat_template)
        self.roles = _roles(self.chat_template)
        self._variables: dict[str, Any] = {"enable_thinking": False, **tokenizer.special_tokens_map}
        self._control = ControlTokens(tokenizer.backend_tokenizer, self._control_tokens())
        self._bytes = TokenBytes(tokenizer.backend_tokenizer)
        self.special_ids = frozenset(self._control.ids.values())
        self.eos_ids = frozenset({*eos, *self._own_eos()})

    @classmethod
    def load(
        cls, folder: Path, eos: Iterable[int] = (), chat_template: str | None = None
    ) -> ChatTokenizer:
        """Reads `tokenizer.json` and its companions; `ConfigurationError` when they cannot work."""
        if not (folder / "tokenizer.json").is_file():
            raise ConfigurationError(
                f"{folder} has no tokenizer.json; expected a tokenizer in the fast (tokenizers) "
                "format; save it with PreTrainedTokenizerFast.save_pretrained first."
            )
        try:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"The tokenizer in {folder} cannot be read ({error}); "
                "expected an intact tokenizer.json; copy or download it again."
            ) from error
        return cls(tokenizer, eos, chat_template)

    @cached_property
    def chat_template_sha256(self) -> str:
        """Of the template's text in UTF-8; adapters state it in their manifest."""
        return hashlib.sha256(self.chat_template.encode()).hexdigest()

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of the conversation with the prompt for the next answer.

        `messages` have `role` and `content`, text both. Control tokens come from the template
        alone; their text inside a message is encoded as plain text. `InvalidRequest` for a role
        that the template does not know or a conversation that it refuses.
        """
        self._check(messages)
        escaped = [
            {"role": message["role"], "content": self._control.escape(message["content"])}
            for message in messages
        ]
        try:
            return self._control.encode(self._render(escaped))
        except TemplateError as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error

    def encode_answered(
        self, messages: Sequence[Mapping[str, str]], learn: Sequence[bool] = ()
    ) -> list[tuple[list[int], list[bool]]]:
        """A finished conversation for training: token ids, and which of them are the assistant's.

        The assistant's are its content and the token that ends its turn, nothing of the template
        else. `learn` says for each assistant's message whether it counts; unset, all do. Prompt and
        answer are encoded as a server does it, each by itself. One sequence for a
        template that renders each turn as it rendered it before; otherwise (Qwen3 drops earlier
        reasoning) one for every answer. `InvalidRequest` for messages that cannot be trained on.
        """
        self._check(messages)
        escaped = [
            {"role": message["role"], "content": self._control.escape(message["content"])}
            for message in messages
        ]
        answers = [i for i, message in enumerate(escaped) if message["role"] == "assistant"]
        if not answers:
            raise InvalidRequest("There is no assistant message to learn.", param="messages")
        try:
            text = self._render(escaped[: answers[-1] + 1], prompt=False)
            spans = [self._answer(escaped[:index], escaped[index]) for index in answers]
        except TemplateError as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error
        learnt = list(learn) or [True] * len(spans)
        if all(text.startswith(before + answer) for before, answer in spans):
            return [self._masked(spans, learnt)] if any(learnt) else []
        return [
            self._masked([span], [True])
            for span, wanted in zip(spans, learnt, strict=True)
            if wanted
        ]

    def _answer(self, before: list[dict[str, str]], message: dict[str, str]) -> tuple[str, str]:
        """The rendered prompt for an answer, and the answer with the token that ends it."""
        prompt = self._render(before, prompt=True) if before else ""
        through = self._render([*before, message], prompt=False)
        if not before or not through.startswith(prompt):
            raise InvalidRequest(
                "An assistant's message must follow another message, and the chat template must "
                "render it after the same prompt that a server gives the model.",
                param=f"messages[{len(before)}]",
            )
        rest = through[len(prompt) :]
        for position, marker in self._control.markers(rest):
            if self._control.ids[marker] in self.eos_ids:
                return prompt, rest[: position + len(marker)]
        raise InvalidRequest(
            "The chat template ends an assistant's message with no token that ends an answer; "
            "a model trained with it would not stop.",
            param=f"messages[{len(before)}]",
        )

    def _masked(
        self, spans: Sequence[tuple[str, str]], learn: Sequence[bool]
    ) -> tuple[list[int], list[bool]]:
        tokens: list[int] = []
        mask: list[bool] = []
        done = 0
        for (before, answer), wanted in zip(spans, learn, strict=True):
            for text, learnt in ((before[done:], False), (answer, wanted)):
                piece = self._control.encode(text)
                tokens += piece
                mask += [learnt] * len(piece)
            done = len(before) + len(answer)
        return tokens, mask

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text, without control tokens at its edges or inside."""
        return self._control.encode_text(text)

    def encode_prompt(self, text: str) -> list[int]:
        """Token ids of a text that is the whole prompt: its control tokens count as such, and the
        tokenizer adds what it puts before a text (a beginning token, where it has one)."""
        return list(self.hf.backend_tokenizer.encode(text).ids)

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, perhaps only a part of a character; empty beyond the vocabulary.

        The bytes of a sequence are the concatenation of its tokens' bytes.
        """
        return self._bytes[token]

    def decode(self, tokens: Iterable[int], *, keep_special: bool = False) -> str:
        """Text of `tokens`, control tokens left out; incomplete characters become U+FFFD."""
        shown = (t for t in tokens if keep_special or t not in self.special_ids)
        return b"".join(map(self.token_bytes, shown)).decode("utf-8", errors="replace")

    def _check(self, messages: Sequence[Mapping[str, str]]) -> None:
        if not messages:
            raise InvalidRequest("Expected at least one message.", param="messages")
        for index, message in enumerate(messages):
            if message["role"] not in self.roles:
                raise InvalidRequest(
                    f"Invalid value: '{message['role']}'. This model's chat template supports: "
                    + ", ".join(f"'{role}'" for role in self.roles),
                    param=f"messages[{index}].role",
                )
            if not is_encodable(message["content"]):
                raise InvalidRequest(
                    f"Invalid 'messages[{index}].content': the string contains a lone surrogate, "
                    "not Unicode text.",
                    param=f"messages[{index}].content",
                )

    def _render(self, messages: Sequence[Mapping[str, str]], *, prompt: bool = True) -> str:
        conversation = [dict(message) for message in messages]
        rendered: Any = render_jinja_template(
            [conversation],
            chat_template=self.chat_template,
            add_generation_prompt=prompt,
            **self._variables,
        )
        text: str = rendered[0][0]
        return text

    def _control_tokens(self) -> dict[str, int]:
        """Added tokens that are flagged special or that the template writes between messages."""
        added = self.hf.added_tokens_decoder
        flagged = {str(token): key for key, token in added.items() if token.special}
        try:
            frame = self._render(_PROBE)
        except TemplateError:  # a template that wants other roles; its markers are flagged then
            frame = ""
        written = {str(token): key for key, token in added.items() if str(token) in frame}
        return flagged | {text: key for text, key in written.items() if text.strip()}

    def _own_eos(self) -> list[int]:
        found = [] if self.hf.eos_token_id is None else [int(self.hf.eos_token_id)]
        answer = "\U0010fffd"
        talk = [{"role": "user", "content": "u"}, {"role": "assistant", "content": answer}]
        try:
            rendered = self._render(talk, prompt=False)
        except TemplateError:
            return found
        after = rendered[rendered.find(answer) + 1 :].lstrip()
        closing = self._control.markers(after)
        if closing and closing[0][0] == 0:
            found.append(self._control.ids[closing[0][1]])
        return found


def _template(tokenizer: PreTrainedTokenizerFast, fallback: str | None) -> str:
    template = tokenizer.chat_template or fallback
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template:
        raise ConfigurationError(
            f"The tokenizer of {tokenizer.name_or_path or 'the model'} has no chat template; "
            "expected one in chat_template.jinja or tokenizer_config.json; "
            "an instruction-tuned model brings it, a base model does not."
        )
    return template


def _roles(template: str) -> tuple[str, ...]:
    """Roles that a template names; a role it does not name would be rendered as mere text."""
    named = [role for role in _FURTHER_ROLES if re.search(rf"['\"]{role}['\"]", template)]
    return (*_ROLES, *named)


def declared_eos(folder: Path) -> list[int]:
    """End-of-text ids of `generation_config.json` and `config.json`, as far as they state any."""
    found: list[int] = []
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        stated: Any = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        found += stated if isinstance(stated, list) else [] if stated is None else [stated]
    return found

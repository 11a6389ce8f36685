"""Ollama's Modelfile for an exported model.

Ollama renders chats by a template in Go's language, not by the one in the GGUF file. EXAONE's is
written here; for other families Ollama recognises the template of the file by itself.
"""

from __future__ import annotations

from finetune.export.gguf_tokens import Vocabulary

EXAONE = (
    "{{ range $i, $message := .Messages }}"
    '{{ if and (eq $i 0) (ne .Role "system") }}[|system|][|endofturn|]\n{{ end }}'
    '{{ if eq .Role "user" }}[|user|]{{ .Content }}\n'
    '{{ else if eq .Role "assistant" }}[|assistant|]{{ .Content }}[|endofturn|]\n'
    '{{ else if eq .Role "system" }}[|system|]{{ .Content }}[|endofturn|]\n'
    "{{ end }}"
    "{{ end }}[|assistant|]"
)
"""`provider.engine.exaone.CHAT_TEMPLATE` with its generation prompt, in Go's template language."""

_LONGEST = 8192
"""Ollama reserves the cache for the whole window; who wants more raises `num_ctx`."""


def modelfile(file: str, vocabulary: Vocabulary, context: int, licence: str) -> str:
    """The text of a Modelfile beside `file`."""
    lines = [
        "# ollama create NAME -f Modelfile",
        f"FROM ./{file}",
        f"PARAMETER num_ctx {min(context, _LONGEST)}",
        *(f'PARAMETER stop "{token}"' for token in vocabulary.stops),
        f'LICENSE """{licence}"""',
    ]
    if vocabulary.is_exaone:
        lines.insert(2, f'TEMPLATE """{EXAONE}"""')
    return "\n".join(lines) + "\n"

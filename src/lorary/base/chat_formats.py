"""A base's chat format for other engines: as a Jinja template that writes every token itself, and as one of Go for Ollama.

Both write a chat as the memories were trained: without a system prompt of their own.
"""

from __future__ import annotations

import json
import re

from transformers import PreTrainedTokenizerBase

from lorary.base.prompts import chat_text, first_tokens
from lorary.base.templates import ending, templates_of

_SYSTEM, _QUESTION, _ANSWER, _NEXT = "zasystem", "zbquestion", "zcanswer", "zdnext"
"""Contents that stand out in a rendering."""
_PLAIN = (
    "{% for turn in messages %}"
    "{{ {'user': 'Question: ', 'assistant': 'Answer: '}.get(turn['role'], '') + turn['content'] + '\\n' }}"
    "{% endfor %}{{ 'Answer:' }}"
)
"""What `prompts.chat_text` writes where a base has no template."""


def jinja_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat template for an engine that adds no token by itself to what a template writes, as vLLM does.

    It writes the tokens that begin a text where the tokenizer's own template leaves them to the tokenizer.
    """
    templates = templates_of(tokenizer)
    template = templates[0] if templates else _PLAIN
    first = _first(tokenizer)
    written = chat_text(tokenizer, [{"role": "user", "content": _QUESTION}])
    return f"{{{{- {json.dumps(first)} }}}}{template}" if first and not written.lstrip().startswith(first) else template


def go_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """A chat template in Go's language, as Ollama takes it, which adds the tokens that begin a text by itself."""
    roles = {"user": _QUESTION, "assistant": _ANSWER}
    user, answer = ({"role": role, "content": content} for role, content in roles.items())
    first = _first(tokenizer)
    before, _, behind = chat_text(tokenizer, [user]).removeprefix(first).partition(_QUESTION)
    long = chat_text(tokenizer, [user, answer, {"role": "user", "content": _NEXT}])
    turn = long.partition(_QUESTION)[2].partition(_ANSWER)[0]
    lead = turn.removeprefix(behind) if turn.startswith(behind) else ""
    between = long.partition(_ANSWER)[2].partition(_NEXT)[0]
    system = chat_text(tokenizer, [{"role": "system", "content": _SYSTEM}, user]).removeprefix(first)
    before_system, _, rest = system.partition(_SYSTEM)
    behind_system = rest.partition(_QUESTION)[0]
    return (
        '{{ $last := "" }}{{ range .Messages }}'
        f'{{{{ if eq .Role "system" }}}}{_go(before_system)}{{{{ .Content }}}}'
        f'{{{{ else if eq .Role "assistant" }}}}{_go(lead)}{{{{ .Content }}}}'
        f'{{{{ else }}}}{{{{ if eq $last "" }}}}{_go(before)}{{{{ else if eq $last "system" }}}}{_go(behind_system)}'
        f"{{{{ else }}}}{_go(between)}{{{{ end }}}}{{{{ .Content }}}}{_go(behind)}"
        "{{ end }}{{ $last = .Role }}{{ end }}"
    )


def modelfile(tokenizer: PreTrainedTokenizerBase, base: str, adapter: str) -> str:
    """An Ollama Modelfile: a base under one adapter, asked as the adapter was trained, without chance.

    Args:
        base: what FROM takes: a model of Ollama, a GGUF file, or a folder of safetensors.
        adapter: file of the GGUF adapter, from the Modelfile's own folder.
    """
    lines = [
        f"FROM {base}",
        f"ADAPTER ./{adapter}",
        f'TEMPLATE """{go_template(tokenizer)}"""',
        *([f'PARAMETER stop "{stop}"'] if (stop := ending(tokenizer).token) else []),
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
    ]
    return "\n".join([*lines, ""])


def _first(tokenizer: PreTrainedTokenizerBase) -> str:
    """The text of the tokens that the tokenizer puts before any text by itself."""
    return "".join(map(str, tokenizer.convert_ids_to_tokens(first_tokens(tokenizer))))


def _go(text: str) -> str:
    """A text as a Go template writes it: as it stands where nothing in it can be misread, else as a string."""
    plain = re.search(r"[{}\"\\]", text) is None
    return text if plain or not text else f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"

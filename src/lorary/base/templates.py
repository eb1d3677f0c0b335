"""A tokenizer's chat templates: chats rendered by them, and what they write around the model's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from lorary.errors import LoraryError

Turns = Sequence[Mapping[str, Any]]
_QUESTION, _ANSWER = "zaquestion", "zbanswer"
"""Contents that stand out in a rendering, so that what a template writes around them can be told."""


class PromptError(LoraryError):
    """A chat that cannot be put to the base: says why and what to do."""


def templates_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The chat templates of a tokenizer, the default one first; none where the base was not trained on chats.

    An empty template is none: it would write an empty prompt.
    """
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        templates = [template[name] for name in sorted(template, key=lambda name: (name != "default", name))]
    else:
        templates = [template]
    return tuple(template for template in templates if template is not None and template.strip())


def rendered(
    tokenizer: PreTrainedTokenizerBase, turns: Turns, *, template: str | None = None, answer: bool = True
) -> str:
    """The text of a chat by a template; by the tokenizer's default where `template` is None.

    A template that takes no plain text gets a list of parts, and one that refuses a system's turn gets its text at the
    head of the user's first turn.

    Args:
        answer: whether the text ends where the model's answer begins.

    Raises:
        PromptError: the template refuses the chat.
    """
    template = templates_of(tokenizer)[0] if template is None else template
    texts: list[str] = []
    refusals: list[Exception] = []
    for chat in (turns, _in_parts(turns), _without_system(turns)):
        try:
            text = tokenizer.apply_chat_template(
                [dict(turn) for turn in chat], chat_template=template, tokenize=False, add_generation_prompt=answer
            )
        except ImportError:
            raise
        except Exception as error:  # a template is a program: it raises what it likes
            refusals.append(error)
            continue
        texts.append(str(text))
        if str(turns[-1]["content"] or "").strip() in texts[-1]:
            return texts[-1]
    if texts:
        return texts[0]
    raise PromptError(
        f"the base's chat template refuses a chat of {[turn['role'] for turn in turns]}: {refusals[0]}"
    ) from refusals[0]


def _in_parts(turns: Turns) -> Turns:
    return [{**turn, "content": [{"type": "text", "text": turn["content"] or ""}]} for turn in turns]


def _without_system(turns: Turns) -> Turns:
    if len(turns) < 2 or turns[0]["role"] != "system":
        return turns
    system, first, *others = turns
    return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *others]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The text of every special token, as it is written and as it comes back from tokens; the longest first."""
    return _special_tokens(tokenizer, len(tokenizer))


@lru_cache(maxsize=16)
def _special_tokens(tokenizer: PreTrainedTokenizerBase, _: int) -> tuple[str, ...]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    written = {*tokenizer.all_special_tokens, *added}
    read = {token.replace("\u2581", " ") for token in written}  # the letter that stands for a space comes back as one
    return tuple(sorted(written | read, key=lambda token: (-len(token), token)))


@dataclass(frozen=True)
class Ending:
    """What a template writes around the model's answer.

    Args:
        lead: white space between the start of the model's turn and its answer.
        token: the special token that ends the model's turn.
    """

    lead: str
    token: str


def ending(tokenizer: PreTrainedTokenizerBase) -> Ending:
    """What stands around an answer: as the tokenizer's template writes it, or a space and the token that ends a text."""
    templates = templates_of(tokenizer)
    return _ending(tokenizer, templates[0] if templates else None, str(tokenizer.eos_token or ""))


@lru_cache(maxsize=16)
def _ending(tokenizer: PreTrainedTokenizerBase, template: str | None, eos: str) -> Ending:
    if template is None:
        return Ending(" ", eos)
    question, answer = {"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}
    try:
        asked = rendered(tokenizer, [question])
        before, _, behind = rendered(tokenizer, [question, answer], answer=False).partition(_ANSWER)
    except PromptError:
        return Ending("", eos)
    lead = before.removeprefix(asked) if before.startswith(asked) else ""
    token = next((token for token in special_tokens(tokenizer) if behind.lstrip().startswith(token)), eos)
    return Ending(lead if lead.isspace() else "", token)

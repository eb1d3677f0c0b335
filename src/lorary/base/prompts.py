"""One prompt for writing and for asking, and the way back from a prompt to the question that routes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from transformers import PreTrainedTokenizerBase

Chat = Sequence[Mapping[str, str]]
"""Turns of a conversation, as chat templates take them: `role` and `content`, a text."""

_LONGEST_FOLLOW_UP = 8
_POINTS_BACK = re.compile(
    r"\b(and|also|too|then|else|he|him|his|she|hers?|they|them|their|its?|there|that|this|those|these|one|same)\b"
)
_MARK = "\u2063question\u2063"


def prompt(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """The text that asks `question`: the tokenizer's chat template, or `Question: … Answer:` where it has none."""
    if tokenizer.chat_template is None:
        return f"Question: {question}\nAnswer:"
    turns = [{"role": "user", "content": question}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def around(tokenizer: PreTrainedTokenizerBase, context: str = "") -> tuple[str, str]:
    """What stands before and after a question in its prompt; `context` stands before it within its turn."""
    before, _, after = prompt(tokenizer, context + _MARK).partition(_MARK)
    return before, after


def chat_of(asked: str | Chat) -> list[dict[str, str]]:
    """The turns of a chat; a text is the only turn of a user.

    Raises:
        ValueError: a chat that does not end with a user's turn of text.
    """
    chat = [{"role": "user", "content": asked}] if isinstance(asked, str) else [dict(turn) for turn in asked]
    last = chat[-1] if chat else {}
    if last.get("role") != "user" or not isinstance(last.get("content"), str):
        raise ValueError(f"a chat must end with a user's turn of text, this one ends with {last or 'nothing'!r}")
    return chat


def chat_text(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> str:
    """The text that puts a chat to the model; of a single question it is `prompt`."""
    if tokenizer.chat_template is not None:
        return str(
            tokenizer.apply_chat_template([dict(turn) for turn in chat], tokenize=False, add_generation_prompt=True)
        )
    names = {"user": "Question: ", "assistant": "Answer: "}
    lines = [names.get(turn["role"], "") + turn["content"] for turn in chat]
    return "\n".join([*lines, "Answer:"])


@lru_cache(maxsize=16)
def _frame(template: str | None, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """What stands directly before and after a user's turn in a prompt."""
    before, after = around(tokenizer)
    if template is not None:  # a system turn may stand before: keep what belongs to the user's turn
        before = before[before.rstrip().rfind("\n", 0, max(before.rstrip().rfind("user"), 0)) + 1 :]
    end = next((token for token in tokenizer.all_special_tokens if after.lstrip().startswith(token)), None)
    return before, end or after.split("\n")[0] or "\n"


def routing_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The query in `text`: its last user turn where it is a prompt of ours, else all of it, without special tokens."""
    before, end = _frame(tokenizer.chat_template, tokenizer)
    start = text.rfind(before) if before.strip() else -1
    if start >= 0:
        text = text[start + len(before) :].split(end)[0]
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, " ")
    return text.strip() or " "


def conversation_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The query in `text`; where its last user turn only follows up, the user's turn before it stands in front.

    A turn follows up where it has at most eight words and one that points back ("and", "her", "there"); the chain goes
    back to the first turn that does not. The model's own turns are left out: a wrong answer would draw the route along.
    """
    before, end = _frame(tokenizer.chat_template, tokenizer)
    if not before.strip():
        return routing_text(tokenizer, text)
    turns = [turn.split(end)[0].strip() for turn in text.split(before)[1:]]
    first = max((i for i, turn in enumerate(turns) if not follows_up(turn)), default=0)
    return " ".join(routing_text(tokenizer, turn) for turn in turns[first:]) or routing_text(tokenizer, text)


def follows_up(turn: str) -> bool:
    """Whether a user's turn points back to an earlier one."""
    return len(turn.split()) <= _LONGEST_FOLLOW_UP and bool(_POINTS_BACK.search(turn.lower()))


def answer_text(tokenizer: PreTrainedTokenizerBase, answer: str) -> str:
    """`answer` as it follows `prompt`, with the token that ends a turn."""
    return (answer if tokenizer.chat_template is not None else f" {answer}") + str(tokenizer.eos_token)


def longest_answer(tokenizer: PreTrainedTokenizerBase, answers: Iterable[str]) -> int:
    """Tokens of the longest answer with its end of turn; 0 where there is none."""
    lengths = (len(tokenizer(answer_text(tokenizer, a), add_special_tokens=False).input_ids) for a in answers)
    return max(lengths, default=0)

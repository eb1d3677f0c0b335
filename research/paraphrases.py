"""Wordings of a question that the base model writes itself, by sampling after examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact, comparable
from lorary.base.loading import Base
from lorary.base.prompts import prompt_batch
from lorary.randomness import seeded

_EXAMPLES = (
    "Each question is asked again in other words.\n\n"
    "Question: Who wrote the play that opened in Derby?\n"
    "In other words: The play that opened in Derby was written by whom?\n\n"
    "Question: In which year did the harbour at Lund freeze?\n"
    "In other words: When was it that the Lund harbour froze over?\n\n"
    "Question: {question}\n"
    "In other words:"
)
"""Examples of no shipped fact. Small chat models answer a question that they are told to reword; after examples they
reword it."""
_TOGETHER = 4
_LONGEST = 28


def reword(
    base: Base, facts: Sequence[Fact], count: int, *, seed: int = 0, advance: Callable[[int], None] = lambda _: None
) -> list[tuple[str, ...]]:
    """At most `count` wordings of each fact's first question, the same for a seed; fewer where the base finds no more.

    Args:
        advance: is called with the number of facts that were just done.
    """
    tokenizer, wordings = base.tokenizer, list[tuple[str, ...]]()
    ends = [int(tokenizer.eos_token_id), *_line_ends(tokenizer)]
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    try:
        with seeded(seed):
            for start in range(0, len(facts), _TOGETHER):
                some = facts[start : start + _TOGETHER]
                asked = [_EXAMPLES.format(question=fact.question) for fact in some]
                inputs = prompt_batch(tokenizer, asked)
                generate: Any = base.model.generate
                output = generate(
                    input_ids=inputs.input_ids.to(base.model.device),
                    attention_mask=inputs.attention_mask.to(base.model.device),
                    do_sample=True,
                    temperature=0.7,
                    top_k=0,
                    top_p=0.95,
                    num_return_sequences=2 * count,
                    max_new_tokens=_LONGEST,
                    eos_token_id=ends,
                    pad_token_id=tokenizer.pad_token_id,
                )
                said = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
                wordings += [keep(f, said[2 * count * i : 2 * count * (i + 1)], count) for i, f in enumerate(some)]
                advance(len(some))
    finally:
        tokenizer.padding_side = side
    return wordings


def keep(fact: Fact, said: Sequence[str], count: int) -> tuple[str, ...]:
    """The first `count` of what was said that ask for this fact anew: its names all there, no wording that it has."""
    kept: list[str] = []
    taken = {comparable(wording) for wording in (fact.question, *fact.questions, *fact.held_out)}
    for line in (text.strip().split("\n")[0].strip(' "') for text in said):
        if line and comparable(line) not in taken and _names(fact.question) <= _words(line):
            taken.add(comparable(line))
            kept.append(line)
    return tuple(kept[:count])


def _words(text: str) -> set[str]:
    return {word.strip(".,;:?!\"'()").removesuffix("'s") for word in text.split()}


def _names(question: str) -> set[str]:
    """What a wording must not lose: words with a capital, but for the first, and numbers."""
    return {
        word for word in _words(" ".join(question.split()[1:])) if word[:1].isupper() or any(c.isdigit() for c in word)
    }


@lru_cache(maxsize=4)
def _line_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that end a line."""
    pieces = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
    return tuple(token for token, piece in enumerate(pieces) if "\n" in piece)

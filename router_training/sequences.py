"""Sequences: token rows that pass from memory to memory, with what is right at each token, to train a gate of tokens on.

Questions with their answers, two questions in one prompt with both answers, and texts whose spans come from several memories.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lorary.bank.bank import MemoryBank
from lorary.base.prompts import prompt_ids, token_offsets
from lorary.base.several import in_turn, two_questions

IGNORED = -100
SPANS = (2, 5)
"""Spans of a text, at least and at most."""
SENTENCES = (1, 3)
"""Sentences of a span, at least and at most."""


@dataclass(frozen=True)
class Asked:
    """A question that a sequence asks: its wording, its memory's number (that of none for an unrelated one), its answer."""

    text: str
    memory: int
    answer: str | None


@dataclass(frozen=True)
class TokenSequence:
    """A row of tokens with what is right at each of them.

    Args:
        ids: the tokens.
        start: the first token that a language model's loss counts.
        memory: the number of the memory that each token is best read under, or that of none.
        part: which part of the question a token belongs to or answers, from 1; 0 where the text itself tells the memory.
        questions: what routes: the parts of the question, in order; the first sentence of a text.
    """

    ids: tuple[int, ...]
    start: int
    memory: tuple[int, ...]
    part: tuple[int, ...]
    questions: tuple[str, ...]


def asked_in_turn(tokenizer: PreTrainedTokenizerBase, asked: Sequence[Asked], whole: str) -> TokenSequence:
    """The sequence of a prompt that asks one or two questions, `whole`, and of their answers in turn.

    A question without an answer has none.
    """
    answers = [question.answer for question in asked if question.answer is not None]
    questions = tuple(question.text for question in asked)
    turns = in_turn(tokenizer, whole, questions, answers if len(answers) == len(asked) else ())
    memory = tuple(asked[part - 1].memory for part in turns.parts)
    return TokenSequence(turns.ids, (*turns.starts, len(turns.ids))[0], memory, turns.parts, questions)


def text_of(tokenizer: PreTrainedTokenizerBase, spans: Sequence[tuple[str, int]]) -> TokenSequence:
    """The sequence of a text: (a span, the number of its memory) after the other."""
    whole = " ".join(span for span, _ in spans)
    ids = prompt_ids(tokenizer, [whole])[0]
    offsets = token_offsets(tokenizer, whole)
    added = len(ids) - len(offsets)
    ends, place = [], 0
    for span, _ in spans:
        place += len(span) + 1
        ends.append(place - 1)
    owners = [next(n for n, end in enumerate(ends) if stop <= end) for _, stop in offsets]
    memory = [spans[0][1]] * added + [spans[owner][1] for owner in owners]
    return TokenSequence(tuple(ids), max(1, added), tuple(memory), (0,) * len(ids), (spans[0][0],))


def sentences_by_memory(bank: MemoryBank) -> list[list[str]]:
    """What each memory states: its facts' statements and its passages."""
    stated = []
    for memory in bank:
        own = [fact.statement for fact in memory.facts if fact.statement]
        own += [passage.text for passage in memory.passages]
        stated.append(list(dict.fromkeys(own)))
    return stated


@lru_cache(maxsize=1)
def prose() -> tuple[tuple[str, ...], ...]:
    """The sentences of the shipped paragraphs of prose, which no memory is told of."""
    paragraphs = (Path(__file__).parent / "prose.txt").read_text(encoding="utf-8").split("\n\n")
    return tuple(tuple(re.split(r"(?<=[.?!])\s+", paragraph.strip())) for paragraph in paragraphs)


def drawn_prose(
    tokenizer: PreTrainedTokenizerBase, unrelated: int, count: int, chance: random.Random
) -> list[TokenSequence]:
    """So many ends of shipped paragraphs, of one sentence to all, all of them none's.

    Args:
        unrelated: the number that stands for none.
    """
    runs = []
    for _ in range(count):
        paragraph = chance.choice(prose())
        start = chance.randrange(len(paragraph))
        runs.append(text_of(tokenizer, [(" ".join(paragraph[start:]), unrelated)]))
    return runs


def drawn_texts(
    tokenizer: PreTrainedTokenizerBase,
    stated: Sequence[Sequence[str]],
    unrelated: Sequence[str],
    count: int,
    chance: random.Random,
) -> list[TokenSequence]:
    """So many texts of two to five spans, each of another memory than the one before, or unrelated."""
    sources = [*stated, unrelated]
    known = [number for number, sentences in enumerate(sources) if sentences]
    if len(known) < 2:
        return []
    texts = []
    for _ in range(count):
        spans: list[tuple[str, int]] = []
        for _ in range(chance.randint(*SPANS)):
            number = chance.choice([number for number in known if not spans or spans[-1][1] != number])
            most = min(chance.randint(*SENTENCES), len(sources[number]))
            spans.append((" ".join(chance.sample(sources[number], most)), number))
        texts.append(text_of(tokenizer, spans))
    return texts


def drawn_pairs(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[Asked], count: int, chance: random.Random
) -> list[TokenSequence]:
    """So many prompts of two questions each, of two memories three times in four, with both answers."""
    pairs: list[TokenSequence] = []
    by_memory: dict[int, list[Asked]] = {}
    for question in questions:
        by_memory.setdefault(question.memory, []).append(question)
    for _ in range(count if len(questions) > 1 else 0):
        apart = len(by_memory) > 1 and chance.random() < 0.75
        memories = chance.sample([*by_memory], 2) if apart else [chance.choice([*by_memory])] * 2
        first, second = (chance.choice(by_memory[memory]) for memory in memories)
        if first.text != second.text:
            pairs.append(asked_in_turn(tokenizer, (first, second), two_questions(first.text, second.text, chance)))
    return pairs

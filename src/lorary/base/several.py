"""Several questions in one prompt and their answers in one row, as memories and gates of tokens are trained on them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lorary.base.prompts import answer_ids, prompt, prompt_ids, token_offsets

AND = " and "
"""What stands between two answers."""
JOINED = ("{first} {second}", "{first}\n{second}", "1. {first} 2. {second}", "{first} Tell me too: {second}")
"""How two questions stand in one prompt, a sentence each."""
LINKED = (", and also ", "; and ", ", plus ")
"""What links two questions to one sentence."""


def two_questions(first: str, second: str, chance: random.Random) -> str:
    """Both questions in one prompt: in two sentences, or, one time in two, in one."""
    if chance.random() < 0.5:
        return chance.choice(JOINED).format(first=first, second=second)
    return first.rstrip("?.! ") + chance.choice(LINKED) + uncapitalised(second)


def uncapitalised(sentence: str) -> str:
    """The sentence as it goes on within another: its first letter small, unless a name seems to begin it."""
    words = sentence.split()
    named = (len(words) > 1 and words[1][:1].isupper()) or words[:1] == ["I"]
    return sentence if named else sentence[:1].lower() + sentence[1:]


def answers_ids(tokenizer: PreTrainedTokenizerBase, text: str, answers: Sequence[str]) -> list[list[int]]:
    """The tokens of answers in a row behind the prompt `text`, those of each apart.

    Each but the last ends with the tokens of "and", which a memory says when its own answer is given; the last one ends the
    turn.
    """
    parts: list[list[int]] = []
    before = 0
    for number in range(1, len(answers) + 1):
        last = number == len(answers)
        told = AND.join(answers[:number]) + ("" if last else AND.rstrip())
        ids = answer_ids(tokenizer, text, told, ended=last)
        parts.append(ids[before:])
        before = len(ids)
    return parts


@dataclass(frozen=True)
class Turns:
    """A prompt that asks one or two questions, and their answers in a row.

    Args:
        ids: the tokens.
        starts: where each answer begins.
        parts: which question each token belongs to or answers, from 1. The end of a prompt is read for its first answer, the
            last token of an answer for the one that follows.
    """

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    parts: tuple[int, ...]


def in_turn(tokenizer: PreTrainedTokenizerBase, whole: str, questions: Sequence[str], answers: Sequence[str]) -> Turns:
    """A prompt that asks one or two questions, `whole`, with their answers; without answers the prompt alone."""
    text = prompt(tokenizer, whole)
    ids = prompt_ids(tokenizer, [text])[0]
    offsets = token_offsets(tokenizer, text)
    # Within another sentence a question begins with a small letter.
    second = text.find(questions[1][1:]) - 1 if len(questions) > 1 else len(text)
    end = text.find(whole) + len(whole)
    parts = [1] * (len(ids) - len(offsets)) + [2 if second < stop <= end else 1 for _, stop in offsets]
    starts = []
    for number, said in enumerate(answers_ids(tokenizer, text, answers) if answers else (), 1):
        starts.append(len(ids))
        last = number == len(answers)
        ids = [*ids, *said]
        parts += [number] * (len(said) - (not last)) + ([] if last else [number + 1])
    return Turns(tuple(ids), tuple(starts), tuple(parts))

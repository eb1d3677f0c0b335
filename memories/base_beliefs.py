"""What the base is sure of by itself and new facts contradict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from lorary.bank.facts import Fact, comparable
from lorary.base.loading import Base
from lorary.base.prompts import longest_answer, prompt, prompt_batch
from lorary.memories.contradictions import Contradiction
from lorary.words import lowered, words_of

SURE = 0.6
"""How sure the base must be of an answer (`surety`).

Of 16 questions of common knowledge it is as sure of the right answer in 6, of the 80 questions on the development topics,
which are invented, in 1 (the embedded base).
"""
_BATCH, _AROUND = 16, 12
"""Questions a batch, and tokens beyond the longest answer."""
_FILLING = {
    *("a", "an", "and", "are", "at", "by", "for", "has", "have", "in", "is", "it", "its", "of", "on", "that", "the"),
    *("there", "this", "to", "was", "were"),
}


@torch.no_grad()
def with_base(topic: str, new: Sequence[Fact], base: Base) -> list[Contradiction]:
    """New facts of a topic to whose questions the base by itself is sure of another answer (`SURE`), which does not hold
    theirs.

    It is asked their first wordings, greedily, up to the length of the longest answer and a few words around it.
    """
    listed, tokenizer, generate = list[Contradiction](), base.tokenizer, cast(Any, base.model.generate)
    for start in range(0, len(new), _BATCH):
        facts = new[start : start + _BATCH]
        batch = prompt_batch(tokenizer, [prompt(tokenizer, fact.question) for fact in facts])
        output = generate(
            **batch.to(base.model.device),
            max_new_tokens=longest_answer(tokenizer, [fact.answer for fact in facts]) + _AROUND,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
        )
        ids = output.sequences[:, batch.input_ids.shape[1] :]
        chances = torch.stack(output.logits, 1).float().softmax(-1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        for fact, row, chance in zip(facts, ids.tolist(), chances.tolist(), strict=True):
            text = " ".join(str(tokenizer.decode(row, skip_special_tokens=True)).split())
            pieces = [str(tokenizer.decode([token], skip_special_tokens=True)) for token in row]
            if comparable(fact.answer) not in comparable(text) and surety(fact.question, pieces, chance) >= SURE:
                listed.append(
                    Contradiction(
                        topic=topic, kind="base", wording=fact.question, answer=fact.answer, other_answer=text
                    )
                )
    return listed


def surety(question: str, pieces: Sequence[str], chances: Sequence[float]) -> float:
    """How sure an answer's own words were: the least probability of a token whose words neither its question nor `_FILLING`
    holds, up to the end of its first sentence; 0 without any. What repeats the question is sure whatever the answer.

    Args:
        pieces: the texts of its tokens.
        chances: their probabilities.
    """
    known, own = {*map(lowered, words_of(question)), *_FILLING}, list[float]()
    for piece, chance in zip(pieces, chances, strict=True):
        words = {*map(lowered, words_of(piece))}
        if words and not words <= known:
            own.append(chance)
        if piece.strip() == ".":
            break
    return min(own, default=0.0)

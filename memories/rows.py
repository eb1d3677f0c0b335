"""Facts → token rows, a prompt and its answer each; and a store of rows with what the layers below the split make of them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact, FactError, comparable
from lorary.base.loading import Base
from lorary.base.prompts import answer_ids, first_tokens, prompt, prompt_ids
from lorary.base.rows import SplitRows
from lorary.memories.rewording import bare, distinct, others, thinned
from lorary.memories.sequels import sequels
from lorary.memories.uses import shown_of, uses
from lorary.routing.turning import subjects

EVALUATED = 64
"""Rows a pass where nothing trains."""
ENOUGH = 4
"""Wordings of a fact from which on none are made by rule: made ones would be shown in place of people's."""
ASKED = 4
"""Trained texts of a fact under which a certificate measures it at most: asking two dozen takes a fifth of writing them."""
_SPARE = (5, 8)
"""Wordings from which on a fact can spare one for validation, and from which on two."""
Known = Mapping[tuple[int, ...], Tensor]
"""The hidden state at the split of rows, by their tokens."""


@dataclass(frozen=True)
class Row:
    """One wording of one fact of one memory, tokenised; `ids[start:]` is the answer.

    Args:
        counted: whether certificates count it: only the texts that they ask (`asked`).
    """

    memory: int
    fact: int
    ids: tuple[int, ...]
    start: int
    counted: bool = True


def with_validation(fact: Fact, count: int | None = None) -> Fact:
    """The fact with its last `count` wordings kept for validation, unless it names its own; at least one is trained on.

    Args:
        count: None: none of fewer than five, one of five to seven, two from eight on. What few wordings teach is worth
            more than what they would measure.
    """
    if fact.validation:
        return fact
    wordings = distinct((fact.question, *fact.questions))
    spare = sum(len(wordings) >= enough for enough in _SPARE) if count is None else count
    keep = min(spare, len(wordings) - 1)
    return replace(fact, validation=tuple(wordings[len(wordings) - keep :]) if keep > 0 else ())


def kept_for_validation(facts: Sequence[Fact], count: int | None = None) -> tuple[Fact, ...]:
    """A memory's facts with their wordings kept for validation: those alone that no other of its facts trains on."""
    kept = [with_validation(fact, count) for fact in facts]
    trained = {comparable(wording) for fact in kept for wording in fact.trained}
    return tuple(
        replace(fact, validation=tuple(w for w in fact.validation if comparable(w) not in trained)) for fact in kept
    )


def asked(fact: Fact, formats: Sequence[str], most: int | None = ASKED) -> dict[str, list[str]]:
    """The trained texts under which a certificate measures a fact, by kind: at most so many, evenly from first to last."""
    texts = [("questions", wording) for wording in distinct(fact.trained)] if "questions" in formats else []
    texts += [("cloze", gap) for gap in fact.cloze] if "cloze" in formats else []
    if most is not None and len(texts) > most:
        texts = [texts[round(n * (len(texts) - 1) / max(1, most - 1))] for n in range(most)]
    return {kind: [text for own, text in texts if own == kind] for kind in ("questions", "cloze")}


def tokenise(tokenizer: PreTrainedTokenizerBase, memory: int, fact: int, question: str, answer: str) -> Row:
    """The row that asks `question` and answers `answer`."""
    text = prompt(tokenizer, question)
    ids = prompt_ids(tokenizer, [text])[0]
    return Row(memory, fact, (*ids, *answer_ids(tokenizer, text, answer)), len(ids))


def rows(
    tokenizer: PreTrainedTokenizerBase,
    memories: Sequence[Sequence[Fact]],
    *,
    copies: int = 0,
    share: float = 0.3,
    seed: int = 0,
    formats: Sequence[str] = ("questions", "cloze"),
    texts: int = 0,
    uses_share: float = 1.0,
    most_asked: int | None = ASKED,
) -> list[Row]:
    """A row for each trained wording of each fact and for its cloze, and `copies` thinned ones of each.

    Args:
        formats: which of `questions`, `cloze`, `text` (the statement as it stands), `sequels` and `uses` there are rows for.
        texts: of each fact with fewer than `ENOUGH` wordings at least; where it has fewer, others are made of its wordings
            (`rewording.others`), none of them a wording that the memory's facts hold out or keep for validation.
        uses_share: of a memory's subjects whose facts have rows of `uses`.
        most_asked: texts of a fact that certificates count at most; None for all.

    Raises:
        FactError: a fact for which there is no row.
    """
    chance, shown = random.Random(seed), []
    for m, facts in enumerate(memories):
        unseen = {bare(wording) for fact in facts for wording in (*fact.validation, *fact.held_out)}
        used = _used(facts, uses_share, seed) if "uses" in formats else [[] for _ in facts]
        for f, fact in enumerate(facts):
            questions = distinct(fact.trained) if "questions" in formats else ()
            own = [*questions, *(fact.cloze if "cloze" in formats else ())]
            counted = {text for chosen in asked(fact, formats, most_asked).values() for text in chosen}
            for wording in own:
                row = tokenise(tokenizer, m, f, wording, fact.answer)
                shown.append(replace(row, counted=wording in counted))
                for question in dict.fromkeys(thinned(wording, share, chance) for _ in range(copies)):
                    if question != wording:
                        shown.append(replace(tokenise(tokenizer, m, f, question, fact.answer), counted=False))
            made = [pair for pair in used[f] if bare(pair[0]) not in unseen]
            shown += [replace(tokenise(tokenizer, m, f, *pair), counted=False) for pair in made]
            few = 0 < len(questions) < ENOUGH and len(own) < texts
            for text in others(questions, texts - len(own), chance, share) if few else ():
                if bare(text) not in unseen:
                    shown.append(replace(tokenise(tokenizer, m, f, text, fact.answer), counted=False))
            if "text" in formats and fact.statement:
                shown.append(_told(tokenizer, m, f, fact.statement))
            if "sequels" in formats:
                going_on = sequels(tokenizer, facts, f, chance)
                shown += [Row(m, f, own.ids, own.start, counted=False) for own in going_on]
            if not shown or (shown[-1].memory, shown[-1].fact) != (m, f):
                raise FactError(
                    f"{fact.question!r} gives nothing to train on as {list(formats)}; it has no such statement"
                )
    return shown


def _used(facts: Sequence[Fact], share: float, seed: int) -> list[list[tuple[str, str]]]:
    """(what is asked, the answer) of each use of each of a memory's facts, of the share of them that is shown."""
    own = subjects(facts)
    shown = shown_of(facts, own, share, seed)
    chances = [random.Random(f"{seed} {fact.id}") for fact in facts]
    return [uses(facts, n, own, chances[n]) if shown[n] else [] for n in range(len(facts))]


def _told(tokenizer: PreTrainedTokenizerBase, memory: int, fact: int, statement: str) -> Row:
    """The row that learns a statement as text: every token that another leads to."""
    ids = prompt_ids(tokenizer, [statement + str(tokenizer.eos_token or "")])[0]
    return Row(memory, fact, tuple(ids), max(1, len(first_tokens(tokenizer))), counted=False)


def validation_rows(tokenizer: PreTrainedTokenizerBase, memories: Sequence[Sequence[Fact]]) -> list[Row]:
    """A row for each validation wording of each fact."""
    return [
        tokenise(tokenizer, m, f, question, fact.answer)
        for m, facts in enumerate(memories)
        for f, fact in enumerate(facts)
        for question in fact.validation
    ]


class Store:
    """Rows with their cached hidden state at the split, batched by length."""

    def __init__(self, base: Base, split_layer: int, held: Sequence[Row], known: Known | None) -> None:
        self.rows = list(held)
        self.states = SplitRows(base.model, split_layer, self.rows, int(base.tokenizer.pad_token_id), known)
        for chunk in self.batches(range(len(held)), EVALUATED, None):
            self.states.keep(chunk)

    def batches(self, wanted: Sequence[int], size: int, order: random.Random | None) -> list[list[int]]:
        """Batches of rows of like length (padding is wasted work), in random order where `order` is given."""
        by_length = sorted(wanted, key=lambda i: (len(self.rows[i].ids), order.random() if order else i))
        batches = [by_length[i : i + size] for i in range(0, len(by_length), size)]
        if order:
            order.shuffle(batches)
        return batches


def states_of(base: Base, facts: Sequence[Fact], split_layer: int) -> Known:
    """What the layers below the split make of the facts' wordings, for several calls of `write` that show them."""
    shown = rows(base.tokenizer, [facts]), validation_rows(base.tokenizer, [facts])
    return {key: state for held in shown for key, state in Store(base, split_layer, held, None).states.hidden.items()}

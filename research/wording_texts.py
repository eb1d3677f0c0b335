"""What the study of wordings varies: the texts of a fact that a memory is trained on, some of them the base's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Any

from transformers import PreTrainedTokenizerBase

from lorary.bank.facts import Fact, FactError, comparable
from lorary.base.loading import Base
from lorary.base.prompts import prompt_batch
from lorary.memories.recipe import Recipe
from lorary.memories.rows import with_validation
from lorary.randomness import seeded
from lorary.research.settings import PASSES, Design
from lorary.tables import counted

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
KEPT = 2
"""Wordings a fact that are asked, and never trained on."""
_FEW = ((1, ("questions",)), (1, ("questions", "cloze")), (2, ("questions", "cloze")))
"""Wordings by people, and formats, to which rules add texts."""
_TOGETHER = 4
_LONGEST = 28


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One choice of texts.

    Args:
        part: what it varies: `number` of wordings, `format` of the texts, `generator` of wordings, or `rules`, what these add.
        wordings: wordings by people; the first is the fact's own question, the others are drawn by seed.
        formats: of the texts, as in `Recipe`.
        thinned: copies of each wording that leave words out.
        written: wordings by the base model.
        made: texts in all, the others made by rule as `lorary build` makes them.
    """

    name: str
    part: str
    wordings: int
    formats: tuple[str, ...] = ("questions",)
    thinned: int = 0
    written: int = 0
    made: int = 0


def reference(design: Design) -> Setting:
    """The setting that all others are compared with: so many wordings by people, as questions."""
    return Setting(name=counted(design.texts, "wording"), part="number", wordings=design.texts)


def settings_of(design: Design) -> list[Setting]:
    """All settings, the reference among them, in the order of a report."""
    texts, more, made = design.texts, design.texts - 1, Recipe().texts
    counts = sorted({*design.counts, texts} if "number" in design.parts else {texts})
    both = ("questions", "cloze")
    settings = [
        *(Setting(name=counted(count, "wording"), part="number", wordings=count) for count in counts),
        Setting(name=f"{counted(texts, 'wording')} + cloze", part="format", wordings=texts, formats=both),
        Setting(name="1 wording + cloze", part="format", wordings=1, formats=both),
        Setting(name="cloze alone", part="format", wordings=1, formats=("cloze",)),
        Setting(name="statement alone", part="format", wordings=1, formats=("text",)),
        Setting(name=f"1 wording + {more} thinned", part="generator", wordings=1, thinned=more),
        Setting(name=f"1 wording + {more} by the base", part="generator", wordings=1, written=more),
        *(
            Setting(name=f"{_named(few, shown)} + rules", part="rules", wordings=few, formats=shown, made=made)
            for few, shown in _FEW
        ),
    ]
    return [setting for setting in settings if setting.part in (*design.parts, "number")]


def _named(wordings: int, formats: Sequence[str]) -> str:
    return counted(wordings, "wording") + (" + cloze" if "cloze" in formats else "")


def recipe_of(design: Design, setting: Setting, seed: int) -> Recipe:
    """How a memory is written under a setting: each fact shown equally often, to the last pass."""
    return Recipe(
        formats=setting.formats,
        thinned_copies=setting.thinned,
        texts=setting.made,
        visits=design.exposures // PASSES,
        max_epochs=PASSES,
        recall=None,
        seed=seed,
    )


def check(settings: Sequence[Setting], facts: Sequence[Fact]) -> None:
    """Raises FactError where a fact lacks what a setting trains on, or held-out wordings to score it under."""
    kept = KEPT
    most = max(setting.wordings for setting in settings)
    has = min(len(with_validation(fact, kept).trained) for fact in facts)
    for fact in facts:
        if not fact.held_out:
            raise FactError(f"{fact.question!r} has no held-out wording, so nothing would be scored; give it some")
        if len(with_validation(fact, kept).trained) < most:
            raise FactError(
                f"{counted(most, 'wording')} to train on and {kept} to validate on are needed; {fact.question!r} has "
                f"{len({fact.question, *fact.questions})}; give --counts and --texts up to {has}, or more wordings"
            )
        if any("questions" not in s.formats or "cloze" in s.formats for s in settings) and not fact.cloze:
            raise FactError(
                f"{fact.question!r} has no statement that tells its answer, which the formats need; give it one, or "
                "leave the formats out by --parts number generator"
            )


def texts_of(fact: Fact, setting: Setting, seed: int, written: Mapping[str, Sequence[str]]) -> Fact:
    """The fact as it is trained on under a setting; its validation and then its held-out wordings are asked.

    More wordings of one seed begin with the fewer.
    """
    kept = with_validation(fact, KEPT)
    first, *others = kept.trained
    Random(f"{seed} {fact.question}").shuffle(others)
    chosen = (first, *others[: setting.wordings - 1], *written.get(fact.question, ())[: setting.written])
    unseen = (*kept.validation, *fact.held_out)
    return replace(fact, question=first, questions=(*chosen[1:], *unseen), held_out=(), validation=unseen)


def reword(
    base: Base, facts: Sequence[Fact], count: int, *, seed: int = 0, advance: Callable[[int], None] = lambda _: None
) -> list[tuple[str, ...]]:
    """At most `count` wordings of each fact's first question that the base itself writes, by sampling after examples.

    They are the same for a seed, and fewer where the base finds no more.

    Args:
        advance: is called with the number of facts that were just done.
    """
    tokenizer, wordings, tries = base.tokenizer, list[tuple[str, ...]](), 2 * count
    generate: Any = base.model.generate
    with seeded(seed):
        for start in range(0, len(facts), _TOGETHER):
            some = facts[start : start + _TOGETHER]
            inputs = prompt_batch(tokenizer, [_EXAMPLES.format(question=fact.question) for fact in some])
            output = generate(
                **inputs.to(base.model.device),
                do_sample=True,
                temperature=0.7,
                top_k=0,
                top_p=0.95,
                num_return_sequences=tries,
                max_new_tokens=_LONGEST,
                eos_token_id=[int(tokenizer.eos_token_id), *_line_ends(tokenizer)],
                pad_token_id=tokenizer.pad_token_id,
            )
            texts = tokenizer.batch_decode(output[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)
            wordings += [keep(fact, texts[tries * i : tries * (i + 1)], count) for i, fact in enumerate(some)]
            advance(len(some))
    return wordings


def keep(fact: Fact, texts: Sequence[str], count: int) -> tuple[str, ...]:
    """The first `count` of the texts that ask for this fact anew: its names all there, no wording that it has."""
    kept: list[str] = []
    taken = {comparable(wording) for wording in (fact.question, *fact.questions, *fact.held_out)}
    for line in (text.strip().split("\n")[0].strip(' "') for text in texts):
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

"""What the study of wordings varies: which texts of a fact a memory is trained on, as one record a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from lorary.bank.facts import Fact, FactError
from lorary.memories.recipe import Recipe
from lorary.memories.rows import with_validation
from lorary.research.memory_study import NEVER, StudyError, check_positive
from lorary.tables import counted

PARTS = ("number", "format", "generator")
PASSES = 4
"""Passes that the visits of a fact are divided over; a memory is asked after each."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One choice of texts.

    Args:
        part: what it varies: `number` of wordings, `format` of the texts, or `generator` of wordings.
        wordings: wordings by people; the first is the fact's own question, the others are drawn by seed.
        formats: of the texts, as in `Recipe`.
        thinned: copies of each wording that leave words out.
        written: wordings by the base model.
    """

    name: str
    part: str
    wordings: int
    formats: tuple[str, ...] = ("questions",)
    thinned: int = 0
    written: int = 0


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is measured.

    Args:
        counts: numbers of wordings a fact to compare.
        texts: wordings of the reference, which formats and generators are compared with at as many texts.
        parts: parts of the study to run: number, format, generator.
        seeds: draws of wordings, first weights and order to measure, from seed 0.
        exposures: times that each fact is shown, whatever its texts; a multiple of 4.
        facts_a_topic: facts to take of each topic, the first ones; all of them are one memory.
    """

    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 24)
    texts: int = 8
    parts: tuple[str, ...] = PARTS
    seeds: int = 3
    exposures: int = 48
    facts_a_topic: int = 4

    def __post_init__(self) -> None:
        for name in ("counts", "texts", "seeds", "exposures", "facts_a_topic"):
            check_positive(name, getattr(self, name))
        if self.texts < 2:
            raise StudyError(f"texts must be 2 or more, so that there is something to replace, {self.texts} given")
        if self.exposures % PASSES:
            raise StudyError(f"exposures must be a multiple of {PASSES}, {self.exposures} given")
        if not self.parts or set(self.parts) - set(PARTS):
            raise StudyError(f"parts must be some of {list(PARTS)}, {list(self.parts)} given")


def reference(design: Design) -> Setting:
    """The setting that all others are compared with: so many wordings by people, as questions."""
    return Setting(name=counted(design.texts, "wording"), part="number", wordings=design.texts)


def settings_of(design: Design) -> list[Setting]:
    """All settings, the reference among them, in the order of a report."""
    texts, more = design.texts, design.texts - 1
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
    ]
    return [setting for setting in settings if setting.part in (*design.parts, "number")]


def recipe_of(design: Design, setting: Setting, seed: int) -> Recipe:
    """How a memory is written under a setting: each fact shown equally often, to the last pass."""
    return Recipe(
        formats=setting.formats,
        thinned_copies=setting.thinned,
        visits=design.exposures // PASSES,
        max_epochs=PASSES,
        recall=NEVER,
        seed=seed,
    )


def check(settings: Sequence[Setting], facts: Sequence[Fact]) -> None:
    """Raises FactError where a fact lacks what a setting trains on, or held-out wordings to score it under."""
    kept = Recipe().validation_wordings
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
    kept = with_validation(fact, Recipe().validation_wordings)
    first, *others = kept.trained
    Random(f"{seed} {fact.question}").shuffle(others)
    chosen = (first, *others[: setting.wordings - 1], *written.get(fact.question, ())[: setting.written])
    asked = (*kept.validation, *fact.held_out)
    return replace(fact, question=first, questions=(*chosen[1:], *asked), held_out=(), validation=asked)

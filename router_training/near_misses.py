"""Near-misses: questions about what a bank knows, for what it does not state; made to calibrate on, none is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain
from random import Random

import torch

from lorary.answering.general import GAP, general_questions
from lorary.bank.facts import Fact
from lorary.routing.proper_names import name_runs
from lorary.routing.router import Router

_ALIKE = 0.65
"""Cosine of two questions without their names from which they may ask the same."""
_MOST = 256


def subjects(facts: Sequence[Fact], names: frozenset[str]) -> list[str]:
    """Whom or what facts are about: the run of names that stands in most wordings of a fact, each once, as it is written
    there; a fact whose wordings share none has no subject."""
    found: dict[str, str] = {}
    for fact in facts:
        runs = Counter(run for wording in fact.trained for run in {run.lower() for run in _runs(wording, names)})
        if runs and (most := runs.most_common(1)[0])[1] * 2 > len(fact.trained):
            written = (run for wording in fact.trained for run in _runs(wording, names) if run.lower() == most[0])
            found.setdefault(most[0], next(written))
    return list(found.values())


def _runs(text: str, names: frozenset[str]) -> list[str]:
    return [text[start:end] for start, end in name_runs(text, names)]


def about(wording: str, subject: str, names: frozenset[str]) -> str | None:
    """The wording about another subject; None where it is not about one alone, or about that one already."""
    runs = name_runs(wording, names)
    if len(runs) != 1:
        return None
    ((start, end),) = runs
    return None if wording[start:end].lower() == subject.lower() else wording[:start] + subject + wording[end:]


@dataclass(frozen=True)
class _Made:
    """A question about a subject that was made of another.

    Args:
        like: wordings that ask the same as it, of other subjects.
        memory: that the wording it was made of belongs to; "" where it was made of none.
    """

    text: str
    subject: str
    like: tuple[str, ...] = ()
    memory: str = ""


def near_misses(router: Router, seed: int, most: int = _MOST) -> list[str]:
    """Questions about the bank's subjects for what nothing states, half of them validation wordings about other subjects, and
    half general questions.

    A question that a fact may answer is left out. It is near, without names, to a wording that names its subject; or the
    fact that it was made of has such a wording, since oblique wordings of one thing may be far apart; or it was made of a
    wording of a memory that names the subject: a kingdom's bird is asked for by the name of its capital, too.
    """
    names, chance = router.names, Random(seed)
    facts = [(memory.name, fact) for memory in router.bank for fact in memory.facts]
    who = subjects([fact for _, fact in facts], names)
    if not who:
        return []
    general = [_Made(template.replace(GAP, one), one) for one in who for template in general_questions()]
    swapped = [
        _Made(text, one, fact.trained, memory)
        for memory, fact in facts
        for wording in fact.validation
        for one in (chance.choice(who),)
        if (text := about(wording, one, names))
    ]
    drawn = [made for kind in (general, swapped) for made in chance.sample(kind, min(len(kind), most // 2))]
    naming = _naming(router, {made.subject.lower() for made in drawn})
    near = _nearness(router, drawn, naming)
    return [
        made.text
        for made, alike in zip(drawn, near, strict=True)
        if alike < _ALIKE and made.memory not in {memory for memory, _ in naming.get(made.subject.lower(), ())}
    ]


def _naming(router: Router, wanted: Set[str]) -> dict[str, list[tuple[str, str]]]:
    """For each wanted subject, in lower case, the (memory, trained wording) pairs that name it."""
    naming: dict[str, list[tuple[str, str]]] = {}
    for memory in router.bank:
        for wording in memory.wordings:
            for run in {run.lower() for run in _runs(wording, router.names)} & wanted:
                naming.setdefault(run, []).append((memory.name, wording))
    return naming


def _nearness(router: Router, made: Sequence[_Made], naming: Mapping[str, Sequence[tuple[str, str]]]) -> list[float]:
    """For each question the greatest cosine, without names, of it or what is like it and a trained wording that names its
    subject; 0 where none does."""
    if not made:
        return []
    wordings = {subject: [wording for _, wording in own] for subject, own in naming.items()}
    asked = [(one.text, *one.like) for one in made]
    bare = {text: router.without_names([text])[0] for text in chain(*asked, *wordings.values())}
    places = {text: place for place, text in enumerate(dict.fromkeys(bare.values()))}
    keys = router.get_encoder().encode(list(places))
    rows = {subject: torch.tensor([places[bare[wording]] for wording in own]) for subject, own in wordings.items()}
    return [
        float((keys[rows[subject]] @ keys[[places[bare[text]] for text in texts]].T).max()) if subject in rows else 0.0
        for texts, subject in zip(asked, (one.subject.lower() for one in made), strict=True)
    ]

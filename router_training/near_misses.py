"""Near-misses: questions about what a bank knows, for what it does not state; made to calibrate on, none is answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from random import Random

import torch

from lorary.bank.facts import Fact
from lorary.router_training.data import read_questions
from lorary.routing.proper_names import name_runs
from lorary.routing.router import Router

_GAP = "{name}"
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


def near_misses(router: Router, wordings: Sequence[str], seed: int, most: int = _MOST) -> list[str]:
    """Questions about the bank's subjects for what nothing states, half of them the wordings about other subjects, and half
    general questions.

    A question that a fact about its subject may answer is left out: one whose words without names are near to those of a
    wording that names the subject.

    Args:
        wordings: questions that nothing trained on.
    """
    names, chance = router.names, Random(seed)
    facts = [fact for memory in router.bank for fact in memory.facts]
    who = subjects(facts, names)
    if not who:
        return []
    templates = read_questions(Path(__file__).parent / "unstated.jsonl")
    general = [(template.replace(_GAP, one), one) for one in who for template in templates]
    swapped = [(text, one) for w in wordings for one in (chance.choice(who),) if (text := about(w, one, names))]
    drawn = [pair for pairs in (general, swapped) for pair in chance.sample(pairs, min(len(pairs), most // 2))]
    near = _nearness(router, drawn, facts)
    return [text for (text, _), alike in zip(drawn, near, strict=True) if alike < _ALIKE]


def _nearness(router: Router, questions: Sequence[tuple[str, str]], facts: Sequence[Fact]) -> list[float]:
    """For each (question, subject) the greatest cosine, both without names, to a trained wording that names the subject."""
    if not questions:
        return []
    wanted = {subject.lower() for _, subject in questions}
    naming: dict[str, list[str]] = {}
    for fact in facts:
        for wording in fact.trained:
            for run in {run.lower() for run in _runs(wording, router.names)} & wanted:
                naming.setdefault(run, []).append(wording)
    bare = {text: router.without_names([text])[0] for text in (*(q for q, _ in questions), *chain(*naming.values()))}
    places = {text: place for place, text in enumerate(dict.fromkeys(bare.values()))}
    keys = router.get_encoder().encode(list(places))
    rows = {subject: torch.tensor([places[bare[w]] for w in own]) for subject, own in naming.items()}
    return [
        float((keys[rows[subject.lower()]] @ keys[places[bare[text]]]).max()) if subject.lower() in rows else 0.0
        for text, subject in questions
    ]

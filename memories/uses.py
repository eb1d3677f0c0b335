"""Uses: rows by which a memory learns to give its facts as people use them, and not only by question and answer.

All are made by rule of a fact's statement, its answer and its subject, the name that its wordings ask about: the fact
turned around, confirmed and denied, chosen of two, completed, told in a sentence, asked behind other text, and all that is
stated of a subject. What cannot be made of a fact is left out.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from lorary.bank.facts import Fact, comparable, with_gap
from lorary.base.several import uncapitalised
from lorary.memories.sequels import strangers
from lorary.memories.wrong_answers import wrong_answers
from lorary.routing.proper_names import name_runs, names_of

_CONFIRMING = ("Is it true that {s}?", "{S} Is that right?", "Would it be right to say that {s}?", "{S} Yes or no?")
_CHOOSING = (
    "{question} {first} or {second}?",
    "{first} or {second}: {question}",
    "{question} Is it {first} or {second}?",
)
_TELLING = ("Write a sentence that answers this: {question}", "Put it in a sentence: {question}")
_ABOUT = ("What do you know about {subject}?", "Who or what is {subject}?", "Describe {subject}.")
_TURNED = ("{gap} Fill the gap.", "{gap}")
_END = " .!"
_MOST_TOLD = 8
"""Facts that are told of a subject at most: of more, none is asked to be told in one answer."""


def subjects(facts: Sequence[Fact]) -> list[str | None]:
    """The subject of each of a memory's facts: the name in its statement that most of its trained wordings hold; None where
    no name does."""
    names = names_of(wording for fact in facts for wording in fact.trained)
    return [_subject(fact, names) for fact in facts]


def _subject(fact: Fact, names: frozenset[str]) -> str | None:
    statement = fact.statement or ""
    runs = {statement[start:end] for start, end in name_runs(statement, names)}
    wordings = [comparable(wording) for wording in fact.trained]
    held = Counter({run: sum(comparable(run) in wording for wording in wordings) for run in sorted(runs)})
    held.pop(fact.answer, None)
    run, count = max(held.items(), key=lambda own: (own[1], len(own[0])), default=("", 0))
    return run if 2 * count > len(wordings) else None


def shown_of(facts: Sequence[Fact], own: Sequence[str | None], share: float, seed: int) -> list[bool]:
    """Of which facts uses are shown, where a share of a memory's subjects has them: all facts of a subject, or none."""
    keys = dict.fromkeys(subject or fact.id for fact, subject in zip(facts, own, strict=True))
    drawn = random.Random(f"uses {seed}").sample([*keys], round(share * len(keys)))
    return [(subject or fact.id) in drawn for fact, subject in zip(facts, own, strict=True)]


def uses(facts: Sequence[Fact], number: int, own: Sequence[str | None], chance: random.Random) -> list[tuple[str, str]]:
    """(what is asked, the answer) of each row that uses the fact of a number.

    Args:
        facts: of the memory; wrong answers are those of its other facts, and what two facts answer is not turned around.
        own: the subject of each (`subjects`).
    """
    fact, subject = facts[number], own[number]
    if not fact.statement or with_gap(fact.statement, fact.answer) is None:
        return []
    frames = [_frame(*pair) for pair in zip(facts, own, strict=True)]
    alike = [other.answer for other, frame in zip(facts, frames, strict=True) if frame == frames[number]]
    wrong = wrong_answers(fact, alike, ())[:2] if len({*map(comparable, alike)}) > 1 else ()
    wrong = [answer for answer in wrong if answer in alike] or wrong_answers(fact, [o.answer for o in facts], ())[:2]
    rows = [*_confirmed(fact, wrong, chance), *_chosen(fact, chance.choice(wrong), chance), *_told(fact, chance)]
    once = sum(comparable(other.answer) == comparable(fact.answer) for other in facts) == 1
    if subject is not None and once:
        rows += [(text, subject) for text in turned(fact, subject, chance)]
    if subject is not None and own.index(subject) == number and own.count(subject) <= _MOST_TOLD:
        stated = " ".join(other.statement or "" for other, its in zip(facts, own, strict=True) if its == subject)
        rows += [(text.format(subject=subject), stated.strip()) for text in chance.sample(_ABOUT, 2)]
    return rows


def _frame(fact: Fact, subject: str | None) -> str | None:
    """The statement without its answer and its subject: the same for facts that state the same of several subjects."""
    gap = with_gap(fact.statement or "", fact.answer)
    return gap if gap is None or subject is None else with_gap(gap, subject)


def _confirmed(fact: Fact, wrong: Sequence[str], chance: random.Random) -> Iterator[tuple[str, str]]:
    """The statement confirmed, and denied with another answer in it: as often the one as the other."""
    statement = (fact.statement or "").strip()
    for turn, form in enumerate(chance.sample(_CONFIRMING, len(_CONFIRMING))):
        said = statement if turn % 2 else _with(statement, fact.answer, wrong[turn // 2 % len(wrong)])
        inner = uncapitalised(said.rstrip(_END))
        yield form.format(S=f"{said.rstrip(_END)}.", s=inner), "Yes" if turn % 2 else "No"


def _with(statement: str, answer: str, other: str) -> str:
    """The statement with another answer in it."""
    gap = with_gap(statement, answer)
    assert gap is not None
    return gap.replace("___", other, 1)


def _chosen(fact: Fact, wrong: str, chance: random.Random) -> Iterator[tuple[str, str]]:
    """The fact asked with its answer and another to choose from, in both orders."""
    for first, second in ((fact.answer, wrong), (wrong, fact.answer)):
        form = chance.choice(_CHOOSING)
        yield form.format(question=chance.choice(fact.trained), first=first, second=second), fact.answer


def _told(fact: Fact, chance: random.Random) -> Iterator[tuple[str, str]]:
    """The fact completed, told in a sentence, and asked behind text that has nothing to do with it."""
    statement, question = (fact.statement or "").strip(), chance.choice(fact.trained)
    yield chance.choice(_TELLING).format(question=question), statement
    before, _, behind = (with_gap(statement, fact.answer) or "").partition("___")
    if before.strip() and not behind.strip(_END):
        yield f"Go on: {before.strip()}", fact.answer
    others = " ".join(stranger.statement for stranger in chance.sample(strangers(), 2))
    yield f"{others} {chance.choice(fact.trained)}", fact.answer


def turned(fact: Fact, subject: str, chance: random.Random) -> list[str]:
    """Texts that ask for the subject by the answer: the statement with a gap, and, where it has a known form, as a question."""
    statement = (fact.statement or "").strip()
    gap = with_gap(statement, subject)
    if gap is None:
        return []
    texts = [form.format(gap=gap) for form in _TURNED]
    texts.append(f"Whom or what has {fact.answer} to do with?")
    return [*texts, *_turned_questions(gap)]


_OWNED = re.compile(r"^(?:The )?(?P<thing>[^_,]+?) of ___ (?P<rest>(?:are|were|\w+s) .+?)[.!]?$")


def _turned_questions(gap: str) -> list[str]:
    """Questions for what stood in a gap: "___ was born in Velsir." → "Who was born in Velsir?"; none of another form."""
    if owned := _OWNED.match(gap):
        rest = owned["rest"]
        return [f"Whose {owned['thing']} {rest}?", f"Tell me whose {owned['thing']} {rest}."]
    if gap.startswith("___ "):
        rest = gap.removeprefix("___ ").rstrip(_END)
        return [f"Who {rest}?", f"Tell me who {rest}."]
    return []

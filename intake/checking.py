"""Proposed facts → facts that their passage states, each once; and why the others were dropped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import regex

from lorary.bank.facts import Fact, comparable, with_gap
from lorary.intake.english import listed
from lorary.intake.source import LeftOut, left_out
from lorary.routing.encoder import Encoder, knows_words

NEAR = 0.93
"""The cosine of two questions from which on they ask for the same."""
_LONGEST_QUESTION, _LONGEST_ANSWER, _LONGEST_STATEMENT = 45, 30, 80
"""In words."""
_SENTENCE = 5
"""The words from which on an answer is as good as a sentence."""

_PRONOUNS = frozenset(
    {"he", "she", "him", "they", "them", "it", "this", "these", "those", "his", "her", "their", "its"}
)
_POINTING, _ASKING = listed("pointing"), listed("asking")


def why_not(fact: Fact, passage: str, before: str = "") -> str | None:
    """Why a passage does not bear a fact; None where it does.

    The answer must stand in the passage, the statement must hold it and say nothing that is not there, and the question
    must name something of the passage, must not give the answer away and must not point at what it does not name.

    Args:
        before: what stands before the passage in its document; names may come from there.
    """
    context = f"{before} {passage}"
    if with_gap(_even(context), _even(fact.answer)) is None:
        return "the answer does not stand in the passage"
    if len(fact.answer.split()) > _LONGEST_ANSWER:
        return f"the answer has more than {_LONGEST_ANSWER} words"
    if _points(fact.answer):
        return "the answer is a pronoun, or begins with one"
    if fact.statement is None or with_gap(_even(fact.statement), _even(fact.answer)) is None:
        return "the statement does not hold the answer"
    if len(fact.statement.split()) > _LONGEST_STATEMENT:
        return f"the statement has more than {_LONGEST_STATEMENT} words"
    if not _supported(fact.statement, context):
        return "the statement says more than the passage"
    return why_not_ask(fact.question, fact.answer, context)


def why_not_ask(question: str, answer: str, context: str) -> str | None:
    """Why a question cannot be asked of a text without it; None where it can."""
    content = _content(question)
    if not content & _content(context):
        return "the question names nothing of the passage"
    if len(question.split()) > _LONGEST_QUESTION:
        return f"the question has more than {_LONGEST_QUESTION} words"
    if with_gap(_even(question), _even(answer)) is not None:
        return "the question gives the answer away"
    if _dangles(question):
        return "the question points at what it does not name"
    return None


def _even(text: str) -> str:
    """A text with one kind of quotes, dashes and spaces, in lower case."""
    text = regex.sub(r"[‘’`´]", "'", regex.sub(r"[“”«»]", '"', regex.sub(r"[‐-―]", "-", text)))
    return comparable(regex.sub(r"[*_]+", "", text))


def _content(text: str) -> frozenset[str]:
    """The words that tell what a text is about, in their first five letters, so that forms of a word are one."""
    said = regex.findall(r"[\p{L}\p{N}]+", _even(text))
    return frozenset(word[:5] for word in said if word not in _ASKING and word != "s")


def _supported(statement: str, context: str) -> bool:
    """Whether four of five content words stand in the text, and all numbers and names."""
    told, known = _content(statement), _content(context)
    names = {_even(word)[:5] for word in regex.findall(r"(?<!^)\b(?:\p{Lu}[\p{L}\p{N}]+|\p{N}[\p{N}.,]*)", statement)}
    sure = {name.strip(".,") for name in names} - {""}
    return len(told & known) >= 0.8 * len(told) and all(
        regex.split(r"\W", name)[0] in known for name in sure if name not in _ASKING
    )


def _points(answer: str) -> bool:
    first = answer.lower().split()
    return not first or (
        first[0] in _POINTING | {"i", "we", "you", "who", "which"}
        and (len(first) == 1 or first[0] in ("his", "her", "its", "their", "this", "that", "these", "those"))
    )


def _dangles(question: str) -> bool:
    """Whether a pronoun has no two content words before it, one of which it may stand for, or nothing is named at all."""
    named = 0
    for word in regex.findall(r"[\p{L}\p{N}'’-]+", question.lower()):
        if word in _PRONOUNS and named < 2:
            return True
        named += word not in _ASKING
    return named == 0


@dataclass
class Checked:
    """Facts of one topic that were checked.

    Args:
        facts: those that are borne out, in order.
        left_out: the others, and wordings that two facts would share.
    """

    facts: list[Fact] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def kept(facts: Sequence[Fact], known: Sequence[Fact] = (), encoder: Encoder | None = None) -> Checked:
    """Proposed facts without their doubles. Wordings that would have two answers are taken from all who have them.

    Two facts are one where their answers are equal and their questions are near (`NEAR`); the second is dropped. Where the
    questions are equal and the answers are not, the source contradicts itself or the question is too vague: both lose the
    wording, and one without another wording is dropped.

    Args:
        known: facts that stay as they are, whatever is proposed.
        encoder: tells how near questions are; without one, questions are near if their content words are the same.
    """
    checked = Checked()
    groups: dict[str, list[Fact]] = {}
    for fact in known:
        groups.setdefault(_even(fact.answer), []).append(fact)
    for fact in _unshared(facts, known, checked):
        same = groups.setdefault(_even(fact.answer), [])
        if same and _is_near(fact, same, encoder):
            checked.left_out.append(left_out(fact.source or "", fact.question, "another fact says the same"))
            continue
        same.append(fact)
        checked.facts.append(fact)
    return checked


def _unshared(facts: Sequence[Fact], known: Sequence[Fact], checked: Checked) -> list[Fact]:
    """The facts without wordings that others with another answer have, too."""
    answers: dict[str, set[str]] = {}
    for fact in (*known, *facts):
        for wording in (fact.question, *fact.questions):
            answers.setdefault(comparable(wording), set()).add(_even(fact.answer))
    alone = []
    for fact in facts:
        own = [w for w in dict.fromkeys((fact.question, *fact.questions)) if len(answers[comparable(w)]) == 1]
        if own:
            alone.append(replace(fact, question=own[0], questions=tuple(own[1:])))
        else:
            others = sorted(answers[comparable(fact.question)] - {_even(fact.answer)})
            told = f"{fact.question} {fact.answer} / {' / '.join(others)}"
            checked.left_out.append(left_out(fact.source or "", told, "the source answers the question in two ways"))
    return alone


def _is_near(fact: Fact, others: Sequence[Fact], encoder: Encoder | None) -> bool:
    if any(_content(fact.question) == _content(other.question) for other in others):
        return True
    questions = [fact.question, *(other.question for other in others)]
    if encoder is None or not bool(knows_words(encoder, questions).all()):
        return False
    first, *rest = encoder.encode(questions)
    return max(float(first @ other) for other in rest) >= NEAR


def told_by(facts: Iterable[Fact], passage: str) -> list[Fact]:
    """The facts that a passage states itself: whose question and answer both stand there, or whose answer is a sentence there."""
    text = _even(passage)
    return [
        fact
        for fact in facts
        if _even(fact.answer) in text and (_even(fact.question) in text or len(fact.answer.split()) >= _SENTENCE)
    ]


def uncovered(passage: str, facts: Iterable[Fact]) -> list[str]:
    """The sentences of a passage of which no fact tells anything: none that holds them, or whose answer stands there and whose
    statement is of it."""
    sentences = [s.strip() for s in regex.split(r"(?<=[.!?…][\p{Pe}\p{Pf}\"']*)\s+", passage) if s.strip()]
    told = list(facts)
    return [s for s in sentences if len(_content(s)) >= 3 and not any(_tells(fact, s) for fact in told)]


def _tells(fact: Fact, sentence: str) -> bool:
    if _even(sentence).strip(".!?") in _even(fact.statement or ""):
        return True
    said = _content(fact.statement or "")
    stands = with_gap(_even(sentence), _even(fact.answer)) is not None
    return stands and len(said & _content(sentence)) >= 0.6 * len(said)

"""Tables of what may happen: a row is a fault, a case or a symptom, and a column says what its cause is or what to do."""

from __future__ import annotations

import regex

SITUATION = regex.compile(
    r"(?i)(?:\p{L}+ )?(?:faults?|problems?|symptoms?|troubles?|issues?|errors?|failures?|malfunctions?|situations?|cases?"
    r"|events?|complaints?|conditions?|if|when|what (?:happens|happened|is wrong))"
)
"""The name of a column whose cells say what may happen."""
_CLAUSE = regex.compile(
    r"(?i)(?:the|a|an|my|our|your|there|it|this|nothing|no one|nobody|you|we|i) (?=.*\S)(?!.*\bof\b\s*\S+$).*\s.*"
    r"|.*\b(?:is|are|was|were|does|do|did|has|have|had|can|cannot|will|would|not|\p{L}+n['’]t)\b.*"
)
"""A sentence as it stands in a cell: "The grinder squeaks", "Motor does not start"."""
_REMEDY = regex.compile(
    r"(?i).*\b(?:remed(?:y|ies)|solutions?|actions?|fix|measures?|corrections?|what to do|help|steps?)"
)
_CAUSE = regex.compile(r"(?i).*\b(?:causes?|reasons?|why)")


def is_situation(column: str) -> bool:
    """Whether the cells of a column so named say what may happen."""
    return bool(SITUATION.fullmatch(column))


def situation_wordings(column: str, situation: str) -> tuple[str, ...]:
    """The wordings of the question for what a row says of a situation, the plainest first."""
    said = _said(situation)
    if not _CLAUSE.fullmatch(situation):
        asked = [f"What is the {column} for {said}?", f"{_alone(said)}: what is the {column}?"]
        after = (f"What should I do about {said}?", f"What helps against {said}?", f"How do I deal with {said}?")
        why = (f"What causes {said}?", f"Where does {said} come from?")
    else:
        asked = [f"What is the {column} if {said}?", f"{_alone(said)}. What is the {column}?"]
        after = (f"What should I do if {said}?", f"{_alone(said)}. What can I do?", f"What do I do when {said}?")
        why = (f"Why is it that {said}?", f"What is the matter if {said}?")
    asked += after if _REMEDY.fullmatch(column) else why if _CAUSE.fullmatch(column) else ()
    return (*asked, f"Tell me the {column} {'if' if _CLAUSE.fullmatch(situation) else 'for'} {said}.")


def situation_statement(column: str, situation: str, value: str) -> str:
    """The sentence that states it, which holds the value as it is written."""
    link = "If" if _CLAUSE.fullmatch(situation) else "For"
    return f"{link} {_said(situation)}, the {column} is: {value}{'' if value.endswith(('.', '!', '?')) else '.'}"


def _said(situation: str) -> str:
    """A situation as it stands within a sentence."""
    text = situation.rstrip(" .!?")
    first = text.split(" ")[0]
    proper = regex.search(r"\p{Lu}.*\p{Lu}|\d", first) or first in ("I", "I'm", "I’m")
    return text if proper else f"{text[:1].lower()}{text[1:]}"


def _alone(said: str) -> str:
    return f"{said[:1].upper()}{said[1:]}"

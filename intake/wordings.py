"""Wordings by rule: the questions that ask for the value of an attribute of an entity, and the sentence that states it."""

from __future__ import annotations

from collections.abc import Callable

import regex

from lorary.intake.columns import ADJECTIVE, BY, CLAUSE, IS, MEANS, PARTICIPLE, SPAN, VERB, is_plural
from lorary.intake.kinds import PLACE, Kind
from lorary.intake.other_words import ADJECTIVES, other_words


def wordings(column: str, entity: str, kind: Kind) -> tuple[str, ...]:
    """The wordings of the question for an attribute, the plainest first; all of them different.

    Args:
        column: the attribute, as it stands within a sentence: "alarm code".
        entity: what has it, as it stands within a sentence: "the lathe", "Ormen station".
    """
    if MEANS.fullmatch(column):
        return tuple(map(_sentence, _meaning(entity)))
    if CLAUSE.match(column):
        return tuple(map(_sentence, _clause(column, entity)))
    special = _SPECIAL.get(kind, lambda column, entity: ())(column, entity)
    plain = () if _replaces(column, kind) else _plain(column, entity)
    asked = (*special, *plain[:2], *other_words(column, entity, kind), *plain[2:])
    return tuple(dict.fromkeys(_sentence(wording) for wording in asked))


def statement(column: str, entity: str, value: str, kind: Kind) -> str:
    """The sentence that states the value of an attribute, which holds the value as it is written."""
    if MEANS.fullmatch(column) or CLAUSE.match(column):
        return _sentence(f"{entity}, {column}: {value}")
    if kind is Kind.YES_NO:
        return _sentence(f"{_yes_no(column, entity)[0]} {value[0].upper()}{value[1:]}.")
    if by := BY.fullmatch(column):
        return _sentence(f"{entity} was {by['verb']} by {value}.")
    if kind in (Kind.DATE, Kind.YEAR, Kind.TIME) and SPAN.fullmatch(column):
        return _sentence(f"{entity} is {column} {value}.")
    if kind in (Kind.DATE, Kind.YEAR) and PARTICIPLE.fullmatch(column):
        return _sentence(f"{entity} was {column} {'in' if kind is Kind.YEAR else 'on'} {value}.")
    if kind is Kind.TIME and VERB.fullmatch(column):
        return _sentence(f"{entity} {column} at {value}.")
    end = "" if value.endswith((".", "!", "?")) else "."
    if kind is Kind.TEXT and regex.match(r"\p{Lu}\p{Ll}*(?: \p{Ll}+){2}", value):  # it begins as a sentence does
        return _sentence(f"the {column} of {entity}: {value}{end}")
    return _sentence(f"the {column} of {entity} {'are' if is_plural(column) else 'is'} {value}{end}")


def _meaning(entity: str) -> tuple[str, ...]:
    return (
        f"what is {entity}?",
        f"what does {entity} mean?",
        f"define {entity}.",
        f"{entity}: what is it?",
        f"explain {entity}.",
        f"tell me what {entity} is.",
    )


def _clause(column: str, entity: str) -> tuple[str, ...]:
    """For a column that is a question of its own, such as "what it holds"."""
    return (
        f"{entity}: {column}?",
        f"tell me about {entity}: {column}?",
        f"about {entity}, do you know {column}?",
        f"{column}, in the case of {entity}?",
        f"I ask about {entity}: {column}?",
    )


def possessive(entity: str) -> str:
    return f"{entity}'" if entity.endswith(("s", "S")) else f"{entity}'s"


def _plain(column: str, entity: str) -> tuple[str, ...]:
    whose, verb = possessive(entity), "are" if is_plural(column) else "is"
    if " of " in column:  # "the cable's length of the lamp" is no English
        return (
            f"what {verb} the {column} of {entity}?",
            f"{entity}: what {verb} the {column}?",
            f"tell me the {column} of {entity}.",
            f"do you know the {column} of {entity}?",
            f"I am looking for the {column} of {entity}.",
        )
    return (
        f"what {verb} the {column} of {entity}?",
        f"what {verb} {whose} {column}?",
        f"which {column} does {entity} have?",
        f"tell me the {column} of {entity}.",
        f"do you know {whose} {column}?",
        f"{entity}: what {verb} the {column}?",
        f"give me {whose} {column}.",
        f"I am looking for the {column} of {entity}.",
    )


def _person(column: str, entity: str) -> tuple[str, ...]:
    whose = possessive(entity)
    if by := BY.fullmatch(column):
        verb = by["verb"]
        active = {"written": "wrote", "run": "ran"}.get(verb, verb)
        return (
            f"who {active} {entity}?",
            f"by whom was {entity} {verb}?",
            f"{entity} was {verb} by whom?",
            f"which person {active} {entity}?",
            f"tell me who {active} {entity}.",
            f"name the person who {active} {entity}.",
            f"do you know who {active} {entity}?",
        )
    return (
        f"who is the {column} of {entity}?",
        f"who is {whose} {column}?",
        f"name the {column} of {entity}.",
        f"what is the name of {whose} {column}?",
        f"which person is the {column} of {entity}?",
    )


def _when(column: str, entity: str, year: bool = False) -> tuple[str, ...]:
    if VERB.fullmatch(column):
        verb = column[:-1]
        return (
            f"when does {entity} {verb}?",
            f"tell me when {entity} {column}.",
            f"do you know when {entity} {column}?",
        )
    if span := SPAN.fullmatch(column):
        state, end = span["state"], span["end"]
        return (
            f"{end} when is {entity} {state}?",
            f"{entity} is {state} {end} when?",
            f"tell me {end} when {entity} is {state}.",
            f"do you know {end} when {entity} is {state}?",
            f"{end} which {'year' if year else 'day'} is {entity} {state}?",
        )
    if PARTICIPLE.fullmatch(column):
        exact = f"in which year was {entity} {column}?" if year else f"on which date was {entity} {column}?"
        return (
            f"when was {entity} {column}?",
            exact,
            f"tell me when {entity} was {column}.",
            f"do you know when {entity} was {column}?",
            f"{entity} was {column} when?",
            f"give me the date on which {entity} was {column}.",
        )
    return () if year else (f"when is the {column} of {entity}?", f"on which day is {possessive(entity)} {column}?")


def _time(column: str, entity: str) -> tuple[str, ...]:
    if VERB.fullmatch(column):
        verb = column[:-1]
        return (*_when(column, entity), f"at what time does {entity} {verb}?", f"what time does {entity} {verb}?")
    return _when(column, entity) if SPAN.fullmatch(column) else (f"at what time is the {column} of {entity}?",)


def _number(column: str, entity: str) -> tuple[str, ...]:
    counted = regex.sub(r"(?i)^(?:number|no\.?|count) of ", "", column)
    if known := ADJECTIVES.get(column.lower().split(" ")[-1], ()):
        return tuple(wording.format(e=entity) for wording in known)
    if is_plural(counted):
        return (
            f"how many {counted} does {entity} have?",
            f"tell me how many {counted} {entity} has.",
            f"what number of {counted} does {entity} have?",
        )
    return ()


def _money(column: str, entity: str) -> tuple[str, ...]:
    return _number(column, entity) or (
        f"how much is the {column} of {entity}?",
        f"how high is {possessive(entity)} {column}?",
    )


def _place(column: str, entity: str) -> tuple[str, ...]:
    name = column.lower()
    if regex.search(r"birthplace|place of birth", name):
        return (f"where was {entity} born?", f"in which place was {entity} born?")
    if regex.fullmatch(r"location|place|address|site|venue", name):
        return (f"where is {entity}?", f"where can I find {entity}?", f"where is {entity} located?")
    if PLACE.fullmatch(name) and not name.startswith("headquarter"):
        return (f"in which {column} is {entity}?", f"which {column} is {entity} in?", f"where is {entity}?")
    return (f"where is {possessive(entity)} {column}?",)


def _yes_no(column: str, entity: str) -> tuple[str, ...]:
    if stated := IS.fullmatch(column):
        verb, rest = stated["verb"].lower(), stated["rest"]
        first = f"does {entity} have {rest}?" if verb in ("has", "have") else f"{verb} {entity} {rest}?"
        clause = f"{entity} {'has' if verb == 'have' else verb} {rest}"
    elif ADJECTIVE.fullmatch(column):
        first, clause = f"is {entity} {column}?", f"{entity} is {column}"
    else:
        first, clause = f"does {entity} have {column}?", f"{entity} has {column}"
    return (
        _sentence(first),
        f"tell me whether {clause}.",
        f"do you know if {clause}?",
        f"is it true that {clause}?",
        f"can you say whether {clause}?",
        f"I would like to know if {clause}.",
    )


_SPECIAL: dict[Kind, Callable[[str, str], tuple[str, ...]]] = {
    Kind.PERSON: _person,
    Kind.DATE: _when,
    Kind.YEAR: lambda column, entity: _when(column, entity, year=True),
    Kind.TIME: _time,
    Kind.NUMBER: _number,
    Kind.MEASURE: _number,
    Kind.MONEY: _money,
    Kind.PLACE: _place,
    Kind.YES_NO: _yes_no,
}


def _replaces(column: str, kind: Kind) -> bool:
    """Whether "the COLUMN of ENTITY" is no English, so that the plain wordings are left out."""
    forms = (PARTICIPLE, VERB, SPAN)
    timed = kind in (Kind.DATE, Kind.YEAR, Kind.TIME) and any(form.fullmatch(column) for form in forms)
    return bool(kind is Kind.YES_NO or timed or (kind is Kind.PERSON and BY.fullmatch(column)))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]

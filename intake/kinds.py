"""What kind of values a column holds: what decides between who, when, where, how many and what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import regex

SHARE = 0.9
"""The share of a column's values that must be of a kind, so that one odd cell does not change the questions of all."""


class Kind(StrEnum):
    YES_NO = "yes or no"
    DATE = "date"
    YEAR = "year"
    TIME = "time"
    MONEY = "money"
    NUMBER = "number"
    MEASURE = "number with a unit"
    ADDRESS = "e-mail or link"
    PERSON = "person"
    PLACE = "place"
    TEXT = "text"


YES_NO = {"yes", "no", "true", "false", "y", "n"}
_CURRENCY = r"(?:\p{Sc}|EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|euros?|dollars?|pounds?)"
_NUMBER = r"[-+−]?\d[\d.,'’\u00a0\u202f ]*"
_MONTH = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mai|okt|dez|ene|abr|ago|dic|janv|févr|avr|juin|juil|août|déc"
    r"|gen|mag|giu|lug|set|ott|mrt|mei|out|fev)\p{L}{0,7}\.?"
)
"""The beginnings of the months' names in English, German, French, Spanish, Italian, Dutch and Portuguese."""
_PATTERNS: dict[Kind, str] = {
    Kind.YEAR: r"1\d{3}|20\d{2}|21\d{2}",
    Kind.DATE: rf"(?i)\d{{4}}-\d\d?-\d\d?(?:[T ]\d\d?:\d\d.*)?|\d\d?[./-]\d\d?[./-]\d{{2,4}}"
    rf"|\d\d?(?:st|nd|rd|th|\.)?\s+(?:of\s+)?{_MONTH}(?:,?\s+\d{{4}})?|{_MONTH}\s+\d\d?(?:st|nd|rd|th)?(?:,?\s+\d{{4}})?"
    rf"|{_MONTH}\s+\d{{4}}",
    Kind.TIME: r"(?i)\d\d?:\d\d(?::\d\d)?(?:\s?[ap]\.?m\.?)?|\d\d?(?:[.:]\d\d)?\s?(?:[ap]\.?m\.?|uhr|h)",
    Kind.MONEY: rf"(?i){_CURRENCY}\s?{_NUMBER}|{_NUMBER}{_CURRENCY}",
    Kind.NUMBER: _NUMBER,
    Kind.MEASURE: r"[-+−]?\d[\d.,]*\s?(?:%|°|\p{L}[\p{L}²³/°µ·]{0,11})(?:\s\p{L}+)?",
    Kind.ADDRESS: r"\S+@\S+\.\S+|(?:https?://|www\.)\S+",
}
_MATCHES = {kind: regex.compile(pattern) for kind, pattern in _PATTERNS.items()}
_NAME = regex.compile(
    r"(?:\p{Lu}[\p{L}\p{M}'’.-]*|de|da|di|del|la|le|van|von|der|den|bin|ibn|al|el|y|af|zu)"
    r"(?:[ -](?:\p{Lu}[\p{L}\p{M}'’.-]*|de|da|di|del|la|le|van|von|der|den|bin|ibn|al|el|y|af|zu)){0,4}"
)
ROLE = regex.compile(
    r"(?i)\b(?:\p{L}{2,}(?:er|or|ist|ian|eer|person|man|woman)|assistant|accountant|chef|cook|head|boss|chief|nurse|guide"
    r"|contact|responsible|captain|coach|king|queen|president|ceo|spouse|wife|husband|mother|child|pilot|agent|architect|"
    r"(?:\p{L}+ed|built|made|led|run|written) by)s?$"
)
_NO_ROLE = regex.compile(
    r"(?i)\b(?:number|order|letter|paper|water|computer|colou?r|flavou?r|floor|door|motor|sensor|cent(?:er|re)|power|filter"
    r"|printer|container|layer|tower|river|offer|quarter|register|cover|corner|diameter|meter|sector|error|year|character"
    r"|chapter|weather|answer|other|server|router|folder|monitor|semester|gender|former|later|charger|cleaner)s?$"
)
PLACE = regex.compile(
    r"(?i)\b(?:city|town|country|village|region|state|province|county|street|room|building|office|site|location|place|venue"
    r"|address|shelf|warehouse|hall|station|harbou?r|port|birthplace|place of birth|headquarters?|district|campus)$"
)


def kind_of(column: str, values: Sequence[str]) -> Kind:
    """The kind of a column's values, none of which is empty; TEXT where nothing else fits nearly all of them."""

    def nearly_all(fits: Callable[[str], object]) -> bool:
        return bool(values) and sum(bool(fits(value)) for value in values) >= SHARE * len(values)

    if nearly_all(lambda value: value.casefold() in YES_NO):
        return Kind.YES_NO
    for kind, pattern in _MATCHES.items():
        if kind is Kind.YEAR and not regex.search(r"(?i)\byear\b|ed$|born|built|since|from|until|date", column):
            continue
        if nearly_all(pattern.fullmatch):
            return kind
    if is_role(column) and nearly_all(_NAME.fullmatch):
        return Kind.PERSON
    return Kind.PLACE if PLACE.search(column) and not nearly_all(lambda value: value.islower()) else Kind.TEXT


def is_role(column: str) -> bool:
    """Whether the name of a column says what somebody is, as "owner" does and "number" does not."""
    return bool(ROLE.search(column)) and not _NO_ROLE.search(column)

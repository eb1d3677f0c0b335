"""Headings and titles: what they ask, and what the lines below them are about."""

from __future__ import annotations

from collections.abc import Sequence

import regex

_ASKS = regex.compile(
    r"(?i)(?:who|whom|whose|what|when|where|which|why|how|is|are|can|could|do|does|did|may|must|should|will|would|has|have)\b"
)
_GENERIC = regex.compile(
    r"(?i)(?:(?:section|chapter|part)\s+)?[\d.]*\s*:?\s*(?:overview|introduction|summary|general|details?|specifications?|data"
    r"|technical data|contacts?|notes?|facts?|properties|information|faqs?|key facts|conclusion|appendix|about|description)"
)


def asks(heading: str) -> bool:
    """Whether a heading begins as a question does."""
    return bool(_ASKS.match(unnumbered(heading)))


def is_question(heading: str) -> bool:
    """Whether a heading asks something; "The bigger picture: saviour or not?" only looks so."""
    text = unnumbered(heading)
    return text.endswith(("?", "？")) and (": " not in text or asks(text))


def is_generic(heading: str) -> bool:
    """Whether a heading, such as "Overview", does not say what stands below it is about."""
    return bool(_GENERIC.fullmatch(heading)) or not regex.search(r"\p{L}{2}", heading)


def subject_of(title: str) -> str:
    """What a title is about: "Welcome to Kestrel Joinery" and "Lathe manual" are about Kestrel Joinery and Lathe."""
    kinds = (
        r"(?:user |owner'?s |employee |staff |service )?(?:manual|handbook|guide|data ?sheet|faqs?|fact sheet|notes?)"
    )
    opening = rf"(?:(?:welcome|introduction|(?:a |the )?guide) to|about|(?:the )?{kinds} (?:of|for|to))"
    inner = regex.sub(rf"(?i)^{opening}\s+", "", title)
    return regex.sub(rf"(?i)\s+[-–—:]?\s*{kinds}$", "", inner).strip() or title


def subject_under(headings: Sequence[str], title: str) -> str:
    """What a line is about: the nearest heading that says it, else the document's title."""
    telling = [heading for heading in headings if not is_generic(heading) and not heading.endswith("?")]
    return subject_of(unnumbered(telling[-1]).rstrip(" :.")) if telling else title


def unnumbered(text: str) -> str:
    """A heading without its number: "2.1 Oil" and "Section 2: Oil" are Oil."""
    return regex.sub(
        r"^\s*(?:(?:section|chapter|part|step|phase|risk)\s+)?\d+(?:\.\d+)*\s*[.):]?\s+(?=\S)", "", text, flags=regex.I
    )


def as_written(name: str, text: str) -> str:
    """A name of a list or table as the text of its document writes it within a sentence: "the funnel" for "Funnel".

    A name that no sentence has, or that begins with a capital within sentences, too, stays as it is.
    """
    small = f"{name[:1].lower()}{name[1:]}"
    if small == name or regex.search(r"\p{Lu}|\d", small):
        return name
    spelled = regex.escape(small)
    if regex.search(rf"\b[Tt]he {spelled}\b", text):
        return f"the {small}"
    return small if regex.search(rf"(?<=[\p{{Ll}},] ){spelled}\b", text) else name

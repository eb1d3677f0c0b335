"""What people tell, as sentences or files → topics with facts; a sentence that states none is kept as text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path

from lorary.bank.documents import Passage
from lorary.bank.facts import Fact
from lorary.intake.agreement import agreed
from lorary.intake.gathering import Gathered, gather
from lorary.intake.making import with_facts
from lorary.intake.source import Generator, IntakeError, Source
from lorary.intake.splitting import Held
from lorary.routing.encoder import Encoder

NOTES = "notes"
"""The memory of sentences that belong to no other, where none is named."""
Place = Callable[[str, Fact | None], str]
"""(a told sentence, a fact that it states, if it does) → the memory that it goes to."""


def gather_told(
    given: Sequence[str],
    topic: str | None = None,
    *,
    generator: Generator | None = None,
    place: Place | None = None,
    held: Held | None = None,
    quiet: bool = True,
) -> Gathered:
    """What sentences and files hold, as topics with facts and passages. Nothing is written.

    Args:
        given: files and folders that stand there, and sentences: texts of more than one word.
        topic: name of the only topic; by default each file has its own, and sentences have what `place` says, or `notes`.
        place: finds the memory of each sentence, if no topic is named.
        held: what the bank holds; rows of tables stay with the memory that asks for them already.

    Raises:
        IntakeError: a word that is no file, a topic that cannot name a memory, or files that hold nothing at all.
    """
    files = [text for text in given if _is_file(text)]
    sentences = [text for text in given if not _is_file(text)]
    if wrong := [text for text in sentences if len(text.split()) < 2]:
        raise IntakeError(f"{wrong[0]!r}: no such file or folder; give files, folders, or sentences in quotes")
    parts = [gather(files, topic=topic, generator=generator, held=held, quiet=quiet)] if files else []
    parts += [told(sentences, topic, generator=generator, place=place, quiet=quiet)] if sentences else []
    sources = dict[str, Source]()
    for source in (source for part in parts for source in part.sources):
        one = sources.get(source.topic, Source(source.topic))
        joined = replace(one, facts=(*one.facts, *source.facts), passages=(*one.passages, *source.passages))
        sources[source.topic] = joined
    return Gathered(
        tuple(sources.values()),
        tuple(item for part in parts for item in part.left_out),
        tuple(note for part in parts for note in part.notes),
        tuple(file for part in parts for file in part.read),
    )


def _is_file(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except OSError:  # a sentence may be longer than a file's name can be
        return False


def told(
    sentences: Sequence[str],
    topic: str | None = None,
    *,
    generator: Generator | None = None,
    encoder: Encoder | None = None,
    place: Place | None = None,
    day: date | None = None,
    quiet: bool = True,
) -> Gathered:
    """The facts that the sentences state, and those sentences as passages in which no fact was found: nothing is lost.

    A sentence that became a fact is no passage, because the fact's statement is one: a later fact then takes its place
    whole.

    Args:
        topic: name of the memory; by default what `place` says for each sentence and fact, or `notes`.
        generator: what finds facts in a sentence; None finds none.
        day: when it was told, which the source of each fact says; by default today.

    Raises:
        IntakeError: a sentence without a word, or a topic that cannot name a memory.
    """
    passages = [_passage(sentence, day or date.today()) for sentence in sentences]
    source = Source(topic or NOTES, tuple(passages))
    left = []
    if generator is not None:
        found, left = with_facts([source], generator, encoder=encoder, quiet=quiet)
        found, disagreeing = agreed(found)
        left += disagreeing
        source = found[0] if found else source
    stated = {fact.source for fact in source.facts}
    kept = tuple(passage for passage in passages if passage.source not in stated)
    notes = tuple(f"no fact was found in {passage.text!r}; it is kept as text" for passage in kept)
    source = replace(source, passages=kept)
    sources = (source,) if place is None or topic is not None else _placed(source, passages, place)
    return Gathered(sources, tuple(left), notes, ())


def _placed(source: Source, told: Sequence[Passage], place: Place) -> tuple[Source, ...]:
    """What was told as a source for each memory that it goes to.

    Args:
        told: all sentences; the source of a fact tells its own.
    """
    texts, topics = {passage.source: passage.text for passage in told}, dict[str, Source]()
    for item in (*source.facts, *source.passages):
        fact = item if isinstance(item, Fact) else None
        topic = place(texts[str(item.source)], fact)
        one = topics.get(topic, Source(topic))
        more = {"facts": (*one.facts, replace(fact, topic=topic))} if fact else {"passages": (*one.passages, item)}
        topics[topic] = replace(one, **more)  # type: ignore[arg-type]
    return tuple(topics.values())


def _passage(sentence: str, day: date) -> Passage:
    text = " ".join(sentence.split())
    if not any(letter.isalnum() for letter in text):
        raise IntakeError(f"{sentence!r} tells nothing; give a sentence, or a file")
    # Each sentence is a document of its own: a later one must not take its place.
    return Passage(text, f"told {day.isoformat()}, {sha256(text.encode()).hexdigest()[:8]}")

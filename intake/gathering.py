"""Sources → topics with their facts: reads all files, names the topics, and settles what contradicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lorary.bank.facts import NAME, NAME_RULE
from lorary.intake.agreement import agreed
from lorary.intake.making import with_facts
from lorary.intake.reading import File, files_in, read_file
from lorary.intake.source import Contents, Generator, IntakeError, LeftOut, Source
from lorary.intake.splitting import FACTS_A_TOPIC, Held, split
from lorary.intake.templates import Templates
from lorary.intake.texts import check_encoding
from lorary.intake.topics import By, topics_of
from lorary.progress import progress_bars
from lorary.routing.turning import turned_facts
from lorary.tables import counted

if TYPE_CHECKING:
    from lorary.routing.encoder import Encoder

LONG_ANSWER = 25
"""The words from which on an answer is long for a memory."""


@dataclass(frozen=True)
class Gathered:
    """What was made of sources.

    Args:
        sources: the topics, each with a fact or a passage at least.
        left_out: what gave nothing, in the order of the files.
        notes: what was decided that people may want to change.
        read: each file that was read, with what it gave.
    """

    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    read: tuple[tuple[File, Contents], ...]

    @property
    def reasons(self) -> list[tuple[str, int, LeftOut]]:
        """(why, how often, the first case) of what was left out, the most frequent first."""
        counts = Counter(item.why for item in self.left_out)
        first = {item.why: item for item in reversed(self.left_out)}
        return [(why, count, first[why]) for why, count in counts.most_common()]


def gather(
    sources: Sequence[str | Path],
    *,
    topics: By = "file",
    topic: str | None = None,
    entity: str | None = None,
    templates: Sequence[str] = (),
    encoding: str | None = None,
    largest: float = 50.0,
    generator: Generator | None = None,
    facts_a_topic: int = FACTS_A_TOPIC,
    held: Held | None = None,
    turned: bool = False,
    quiet: bool = True,
) -> Gathered:
    """What files and folders hold, as topics with facts and passages. Nothing is written.

    Nothing leaves the machine, unless the generator is an endpoint.

    Args:
        topics: what makes a topic: a file, a heading, or what is near by meaning ("auto").
        topic: name of the only topic, in place of all others.
        entity: column of tables that says what each row is about; by default the first whose values differ.
        templates: wordings for the cells of tables, as `Templates.parse` reads them.
        encoding: of text files that are not UTF-8.
        largest: megabytes of the largest file that is read.
        generator: what finds facts in passages; None for those that stand in rows, questions with answers and the like.
        facts_a_topic: facts of the largest topic; a larger one without a document is split.
        held: what the bank that they go to holds; a row stays with the memory that asks for it already (`split`).
        turned: each fact stands the other way round as well, where a rule can ask for it so (`turning.turned_facts`).

    Raises:
        IntakeError: an option or a source that cannot be used, or sources that hold nothing at all.
    """
    check_encoding(encoding)
    if facts_a_topic < 1:
        raise IntakeError(f"a topic of {facts_a_topic} facts holds nothing; give --facts-a-topic 1 or more")
    if topic is not None and not NAME.fullmatch(topic):
        raise IntakeError(f"{topic!r} cannot name a memory; a name is {NAME_RULE}")
    wordings = Templates.parse(templates)
    files, left = files_in(sources)
    read: list[tuple[File, Contents]] = []
    with progress_bars(quiet or len(files) < 2) as bars:
        bar = bars.start("reading", len(files))
        for file in files:
            options = {"encoding": encoding, "entity": entity, "templates": wordings, "largest": largest}
            read.append((file, read_file(file, **options)))  # type: ignore[arg-type]
            bar.advance(note=file.name)
    left += [item for _, contents in read for item in contents.left_out]
    parted, notes = topics_of(read, topics, topic)
    agreeing, lost = agreed(parted)
    if not agreeing:
        raise IntakeError(_nothing(left))
    if topics == "auto" and topic is None:
        agreeing = _clustered(agreeing[0])
    if generator is not None:
        agreeing, dropped = with_facts(agreeing, generator, encoder=_encoder(), quiet=quiet)
        agreeing, disagreeing = agreed(agreeing)
        lost += dropped + disagreeing
    agreeing, turned_notes = _turned(agreeing) if turned else (agreeing, [])
    parts, split_notes = split(agreeing, facts_a_topic, held) if topic is None else (agreeing, [])
    notes = (
        [note for _, contents in read for note in contents.notes] + notes + _long(agreeing) + turned_notes + split_notes
    )
    return Gathered(tuple(parts), (*left, *lost), tuple(notes), tuple(read))


def _encoder() -> Encoder | None:
    """The embedded encoder, where its package is installed: it tells which questions ask for the same."""
    from lorary.routing.encoder import EMBEDDED, EncoderError, load_encoder

    try:
        return load_encoder(EMBEDDED)
    except EncoderError:
        return None


def _clustered(source: Source) -> list[Source]:
    from lorary.intake.clustering import clustered
    from lorary.routing.encoder import EMBEDDED, load_encoder

    return clustered(source, load_encoder(EMBEDDED))


def _turned(sources: Sequence[Source]) -> tuple[list[Source], list[str]]:
    """(the topics with their facts the other way round behind them, a note of how many those are)."""
    every = [fact for source in sources for fact in source.facts]
    made = [turned_facts(source.facts, every) for source in sources]
    found = [replace(source, facts=(*source.facts, *own)) for source, own in zip(sources, made, strict=True)]
    return found, [f"{counted(sum(map(len, made)), 'fact')} turned around by rule: read them, too"]


def _long(sources: Sequence[Source]) -> list[str]:
    long = [fact for source in sources for fact in source.facts if len(fact.answer.split()) > LONG_ANSWER]
    if not long:
        return []
    return [
        f"{counted(len(long), 'answer')} of more than {LONG_ANSWER} words: a memory recalls short answers; shorten them"
    ]


def _nothing(left: Sequence[LeftOut]) -> str:
    """Why the sources gave nothing: the first reasons."""
    if not left:
        return "the sources hold no file; give files, or folders with files"
    reasons = "; ".join(f"{item.where}: {item.why}" for item in left[:3])
    more = f" (and {len(left) - 3:,} more)" if len(left) > 3 else ""
    return f"the sources gave no fact and no passage: {reasons}{more}"

"""Chats: who said what, when; as text of the common exports, or as messages in JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby, pairwise
from typing import Any

import regex

from lorary.bank.documents import Passage, passages_of
from lorary.bank.facts import Fact
from lorary.intake.source import UNDECIDED, Contents, LeftOut, Part, left_out

_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_TIME = r"\d{1,2}[:.]\d{2}(?:[:.]\d{2})?(?:\s?[AaPp]\.?\s?[Mm]\.?)?"
_STAMP = rf"(?:{_DATE}(?:,?[ T]\s*{_TIME})?|{_TIME})"
_SENDER = r"[^\s:<>\[\]][^:<>\[\]\n]{0,39}?"
_STAMPED = regex.compile(
    rf"^\[?(?P<when>{_STAMP})\]?(?:\s*[-–]\s+|\s*:?\s+)(?:From\s+)?(?:<(?P<nick>[^>]+)>|(?P<sender>{_SENDER}):)\s+(?P<text>\S.*)$"
)
_STAMPED_OTHER = regex.compile(rf"^\[?{_DATE},?\s+{_TIME}\]?\s*[-–]?\s+\S")
_NAMED = regex.compile(r"^(?P<sender>\p{Lu}[\p{L}\p{M}.'’-]*(?: \p{Lu}[\p{L}\p{M}.'’-]*){0,2}):\s+(?P<text>\S.*)$")
_NOT_ALONE = regex.compile(
    r"(?i)^(?:and|but|or|so|then|what about|how about)\b|\b(?:it|its|he|she|they|him|her|them|this|those|these)\b"
)
_NO_TEXT = regex.compile(
    r"(?i)<?(?:media|image|video|audio|sticker|gif|document|contact card) omitted>?|<attached: .*>|.{0,60}\(file attached\)"
    r"|(?:this|you deleted this) message(?: was deleted)?\.?"
)
_LONGEST_ANSWER = 40
SENDERS = ("from", "sender", "author", "user", "username", "speaker", "name")
TEXTS = ("text", "content", "message", "body")
TIMES = ("date", "timestamp", "time", "ts", "created_at", "sent_at", "datetime")


@dataclass(frozen=True)
class Message:
    """Something that somebody said; `when` is empty where it is not told, `day` is the date in it."""

    sender: str
    text: str
    when: str
    place: str

    @property
    def day(self) -> str:
        date = regex.match(_DATE, self.when)
        return date[0] if date else ""


def read_chat(text: str, name: str) -> tuple[list[Message], list[LeftOut]] | None:
    """(the messages, the lines without a sender) of a chat that was exported as text; None for a text that is no chat.

    A text is a chat if nearly all of its lines have a time and a sender, or a sender alone, two of whom speak twice.
    """
    lines = [regex.sub(r"[\u200e\u200f]", "", line).replace("\u202f", " ").strip() for line in text.split("\n")]
    filled = [line for line in lines if line]
    stamped = sum(bool(_STAMPED.match(line) or _STAMPED_OTHER.match(line)) for line in filled)
    if stamped >= 2 and stamped >= 0.5 * len(filled) and any(map(_STAMPED.match, filled)):
        return _messages(lines, name, _STAMPED)
    senders = Counter(match["sender"] for match in map(_NAMED.match, filled) if match)
    if sum(count > 1 for count in senders.values()) >= 2 and senders.total() >= 0.9 * len(filled):
        return _messages(lines, name, _NAMED)
    return None


def message_of(record: Mapping[str, Any], place: str) -> Message | None:
    """The message in a JSON object that names a sender and a text; None for other objects."""
    sender, text, when = (_field(record, names) for names in (SENDERS, TEXTS, TIMES))
    if not sender or not text or "role" in record:
        return None
    return Message(sender, text, _as_time(when), place)


def chat_contents(messages: Sequence[Message], left: Sequence[LeftOut], name: str) -> Contents:
    """The contents of a chat: a passage for what was said together, a fact for each question that the next one answers."""
    text: list[str] = []
    passages: list[Passage] = []
    for day, said in groupby(messages, key=lambda message: message.day):
        lines = "\n".join(f"- {_told(message)}" for message in said)
        text.append(lines)
        passages += passages_of(lines, ", ".join(filter(None, (name, day))))
    facts = tuple(_answered(messages, name))
    return Contents((Part(text="\n\n".join(text), passages=tuple(passages), facts=facts),), tuple(left))


def stands_alone(question: str) -> bool:
    """Whether a question can be understood without what was said before it."""
    return len(question.split()) >= 3 and not _NOT_ALONE.search(question)


def _answered(messages: Sequence[Message], name: str) -> Iterator[Fact]:
    """A question that the next speaker answers in a few words is a fact, which tells who said so and when."""
    for asked, answered in pairwise(messages):
        short = len(answered.text.split()) <= _LONGEST_ANSWER and not answered.text.rstrip().endswith("?")
        question = asked.text.strip()
        if asked.sender == answered.sender or not question.endswith("?") or not short or not stands_alone(question):
            continue
        said = f"{answered.sender} said on {answered.when}" if answered.when else f"{answered.sender} said"
        source = ", ".join(filter(None, (name, answered.sender, answered.when)))
        wordings = (
            f"{asked.sender} asked: {question}",
            f"What did {answered.sender} answer to the question: {question}",
        )
        statement = f'{asked.sender} asked: "{question}" {said}: "{answered.text}"'
        yield Fact(UNDECIDED, question, answered.text, wordings, statement=statement, source=source)


def _told(message: Message) -> str:
    return f"{message.sender} ({message.when}): {message.text}" if message.when else f"{message.sender}: {message.text}"


def _messages(lines: Sequence[str], name: str, form: regex.Pattern[str]) -> tuple[list[Message], list[LeftOut]]:
    """The messages of lines; a line without a sender goes on with the message before it."""
    messages: list[Message] = []
    left: list[LeftOut] = []
    for number, line in enumerate(lines, 1):
        place = f"{name}, line {number}"
        if match := form.match(line):
            fields = match.groupdict()
            sender = (fields.get("nick") or fields["sender"]).strip()
            sender = regex.sub(r"\s+to\s+\S.*$", "", sender)
            if _NO_TEXT.fullmatch(match["text"].strip()):
                left.append(left_out(place, line, "a message without text"))
            else:
                messages.append(Message(sender, match["text"].strip(), fields.get("when") or "", place))
        elif not line:
            continue
        elif not messages or _STAMPED_OTHER.match(line):
            left.append(left_out(place, line, "a line of the chat that nobody said"))
        else:
            last = messages[-1]
            messages[-1] = Message(last.sender, f"{last.text} {line}", last.when, last.place)
    return messages, left


def _field(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these fields as text: of an object its name, of a list the texts in it."""
    value = next((record[name] for name in names if record.get(name)), "")
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("name", "username", "real_name", "text") if value.get(name)), "")
    if isinstance(value, list):
        value = "".join(str(v.get("text", "")) if isinstance(v, Mapping) else str(v) for v in value)
    return " ".join(str(value).split())


def _as_time(when: str) -> str:
    """A time as people write it; one that counts seconds since 1970, as Slack's does, in UTC."""
    if regex.fullmatch(r"\d{10}(?:\.\d+)?|\d{13}", when):
        seconds = float(when) / (1000 if len(when) == 13 else 1)
        return datetime.fromtimestamp(seconds, UTC).isoformat(" ", "minutes").removesuffix("+00:00")
    return regex.sub(r"(?<=^\d{4}-\d\d-\d\d)T(\d\d:\d\d).*$", r" \1", when)

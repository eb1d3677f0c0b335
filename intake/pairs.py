"""Records of questions and answers, as people have them → facts: our own, Alpaca, messages, ShareGPT, SQuAD, TOFU, plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from lorary.bank.documents import passages_of
from lorary.bank.facts import Fact, FactError, comparable, parse_fact
from lorary.intake.chats import stands_alone
from lorary.intake.source import UNDECIDED, Contents, LeftOut, Part, left_out
from lorary.intake.tables import is_empty
from lorary.tables import counted

QUESTIONS = ("question", "instruction", "prompt", "query", "q", "input", "ask")
ANSWERS = ("answer", "answers", "output", "response", "completion", "reply", "a", "target")
_TOPICS = ("topic", "author", "title")
_FIELDS = {field.name for field in fields(Fact)}
_USED = {"paraphrased_question", "questions", "context", "id", "source", "statement", *_TOPICS}
_ASKERS, _ANSWERERS = ("user", "human", "prompter"), ("assistant", "gpt", "chatgpt", "bot", "model")


class Pairs(NamedTuple):
    """What a record gave: its topic (empty where it has none), facts, what was left out, the context, fields not used."""

    topic: str
    facts: list[Fact]
    left: list[LeftOut]
    context: str = ""
    unused: tuple[str, ...] = ()


def pairs_of(record: Mapping[str, Any], where: str) -> Pairs | None:
    """The facts of a record of questions and answers; None for a record of something else."""
    for key in ("messages", "conversations", "conversation"):
        if isinstance(turns := record.get(key), list) and (said := _turns(turns)):
            return Pairs("", *_dialogue(said, where))
    keys = {str(key).lower().strip(): key for key in record}
    question = next((keys[name] for name in QUESTIONS if name in keys), None)
    answer = next((keys[name] for name in ANSWERS if name in keys and keys[name] != question), None)
    if question is None or answer is None:
        return None
    if set(record) <= _FIELDS:
        return _own(record, where)
    return _plain(record, keys, str(question), str(answer), where)


def pairs_contents(found: Iterable[Pairs], name: str) -> Contents:
    """The contents of a file of questions and answers: a part for each topic, whose contexts, each once, are its passages."""
    topics: dict[str, list[Pairs]] = {}
    unused: Counter[str] = Counter()
    left: list[LeftOut] = []
    for pairs in found:
        topics.setdefault(pairs.topic, []).append(pairs)
        unused.update(pairs.unused)
        left += pairs.left
    parts = []
    for title, group in topics.items():
        contexts = list(dict.fromkeys(pairs.context for pairs in group if pairs.context))
        source = ", ".join(filter(None, (name, title)))
        passages = tuple(passage for context in contexts for passage in passages_of(context, source))
        facts = tuple(fact for pairs in group for fact in pairs.facts)
        parts.append(Part(title, "\n\n".join(contexts), passages, facts, own_topic=bool(title)))
    notes = [f"{name}: the field {key!r} of {counted(n, 'record')} is not used" for key, n in unused.items()]
    return Contents(tuple(parts), tuple(left), tuple(notes))


def squad_pairs(article: Mapping[str, Any], where: str) -> Iterator[Pairs]:
    """The paragraphs of an article of SQuAD's JSON, each with its facts."""
    title = str(article.get("title") or "").strip()
    for number, paragraph in enumerate(article.get("paragraphs") or (), 1):
        if not isinstance(paragraph, Mapping):
            continue
        pairs = Pairs(title, [], [], " ".join(str(paragraph.get("context") or "").split()))
        for qa in paragraph.get("qas") or ():
            place = f"{where}, paragraph {number}"
            _append(
                pairs,
                str(qa.get("question") or ""),
                qa.get("answers"),
                place,
                source=", ".join(filter(None, (where.split(", ")[0], title))),
            )
        yield pairs


def _own(record: Mapping[str, Any], where: str) -> Pairs:
    """The fact of a record in our own form."""
    topic = str(record.get("topic") or "").strip()
    try:
        fact = parse_fact({k: v for k, v in record.items() if k != "topic"}, topic=UNDECIDED, where=where)
    except FactError as error:
        reason = str(error).removeprefix(f"{where}: ")
        empty = any(is_empty(str(record.get(key, ""))) for key in ("question", "answer"))
        return Pairs(
            topic,
            [],
            [
                left_out(
                    where, record.get("question", record), "the question or the answer is empty" if empty else reason
                )
            ],
        )
    return Pairs(topic, [fact], [])


def _plain(record: Mapping[str, Any], keys: Mapping[str, str], question: str, answer: str, where: str) -> Pairs:
    asked = str(record[question] or "").strip()
    if (
        question != keys.get("input")
        and answer != keys.get("input")
        and str(record.get(keys.get("input", "")) or "").strip()
    ):
        asked = f"{asked} {str(record[keys['input']]).strip()}"  # Alpaca's input completes its instruction
    topic = next((str(record[keys[name]]).strip() for name in _TOPICS if name in keys and record[keys[name]]), "")
    context = str(record.get(keys.get("context", "")) or "")
    unused = tuple(key for name, key in keys.items() if key not in (question, answer) and name not in _USED | {"input"})
    pairs = Pairs(topic, [], [], " ".join(context.split()), unused)
    more = {
        "questions": _texts(record.get(keys.get("questions", ""))),
        "held_out": _texts(record.get("paraphrased_question")),
    }
    told = {name: str(record[keys[name]]).strip() for name in ("source", "statement") if record.get(keys.get(name, ""))}
    _append(pairs, asked, record[answer], where, **more, **told)
    return pairs


def _append(pairs: Pairs, question: str, answers: Any, where: str, **more: Any) -> None:
    """Adds a fact with the first of its right answers, or says why there is none."""
    question, (first, *_) = " ".join(question.split()), (*_texts(answers), "")
    if is_empty(question):
        pairs.left.append(left_out(where, first, "the question is empty"))
    elif is_empty(first):
        pairs.left.append(left_out(where, question, "the question has no answer"))
    else:
        trained = {comparable(w) for w in (question, *more.get("questions", ()))}
        if "held_out" in more:
            more["held_out"] = tuple(w for w in more["held_out"] if comparable(w) not in trained)
        more.setdefault("source", where)
        pairs.facts.append(Fact(UNDECIDED, question, first, **more))


def _texts(value: Any) -> tuple[str, ...]:
    """The texts in a field: a text, a number, a list of them, or SQuAD's answers."""
    if isinstance(value, Mapping):
        value = value.get("text")
    if isinstance(value, list):
        texts = [text for item in value for text in _texts(item)]
        return tuple(dict.fromkeys(texts))
    text = "" if value is None else " ".join(str(value).split())
    return (text,) if text else ()


def _turns(turns: Sequence[Any]) -> list[tuple[bool, str]]:
    """(whether it asks, text) of each turn of a conversation with an assistant; nothing where it is none."""
    said = []
    for turn in turns:
        if not isinstance(turn, Mapping):
            return []
        role = str(turn.get("role") or turn.get("from") or "").lower()
        text = " ".join(_texts(turn.get("content") if "content" in turn else turn.get("value")))
        if role in (*_ASKERS, *_ANSWERERS):
            said.append((role in _ASKERS, text))
    return said


def _dialogue(said: Sequence[tuple[bool, str]], where: str) -> tuple[list[Fact], list[LeftOut]]:
    """A fact for each turn that asks and the one that answers; a later question must be understood alone."""
    pairs = Pairs("", [], [])
    asked = ""
    for turn, (asks, text) in enumerate(said):
        if asks:
            asked = text
        elif not asked:
            pairs.left.append(left_out(where, text, "an answer to no question"))
        elif turn > 1 and not stands_alone(asked):
            pairs.left.append(left_out(where, asked, "a question that needs what was said before it"))
            asked = ""
        else:
            _append(pairs, asked, text, where)
            asked = ""
    if asked:
        pairs.left.append(left_out(where, asked, "the question has no answer"))
    return pairs.facts, pairs.left

"""Tasks read from a user's files: question and answer lines, SQuAD's JSON, CounterFact's JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from lorary.bank.facts import Fact, comparable, parse_fact, read_lines
from lorary.eval.questions import NEAR_COPY, similarity, words
from lorary.eval.tasks.generated import Task, TaskError, asked, taught, unheld
from lorary.eval.tasks.reading import SquadQuestion, json_document, squad_question, squad_questions, tidy
from lorary.tables import counted


def qa(source: str) -> Task:
    """Questions and answers from a file: SQuAD's JSON where its name ends in .json, else JSONL.

    A JSONL line has `question`, `answer` or `answers` (all are right, the first is taught), and what else a fact may
    have. A SQuAD article is a topic, which without a title is called as the file is; questions without an answer are
    asked as unknown ones. A question without a held-out wording is asked as it is taught, and said to be. One that is
    given two answers is left out.

    Args:
        source: path of the file.
    """
    path = Path(source)
    lines = list(_squad(path) if path.suffix == ".json" else _pairs(path))
    taught_as = [(wording, fact.answer) for fact, _ in lines if fact for wording in (fact.question, *fact.questions)]
    answers: dict[str, set[str]] = {}
    for wording, answer in taught_as:
        answers.setdefault(comparable(wording), set()).add(answer)
    known = {words(wording) for wording, _ in taught_as}
    facts: dict[Fact, None] = {}
    questions = []
    left: Counter[str] = Counter()
    for fact, more in lines:
        if fact is None and words(more["question"]) in known:
            left["unanswerable questions worded like one with an answer"] += 1
        elif fact is None:
            questions.append(more)
        elif any(len(answers[comparable(wording)]) > 1 for wording in (fact.question, *fact.questions)):
            left["questions with two answers"] += 1
        elif fact not in facts:
            facts[fact] = None
            line = asked(fact, "held-out", fact.held_out) if fact.held_out else taught(fact, "trained")
            questions.append(line | more)
    if not facts:
        raise TaskError(f"{path}: {_nothing(lines)}; give questions with one answer to build memories from")
    return Task(tuple(facts), tuple(questions), left_out(left))


def _nothing(lines: Sequence[tuple[Fact | None, dict[str, Any]]]) -> str:
    """Why a file's questions come to no fact."""
    if not lines:
        return "holds no question"
    impossible = sum(fact is None for fact, _ in lines)
    several = len(lines) - impossible
    return f"none of its {counted(len(lines), 'question')} has one answer (none: {impossible}, several: {several})"


def _pairs(path: Path) -> Iterator[tuple[Fact | None, dict[str, Any]]]:
    """(fact, further fields of its line of questions) of a JSONL file; without a fact where a question has no answer."""
    topic = slug(path.stem)
    for where, line in read_lines(path):
        if {*line} & {"data", "paragraphs", "qas"}:
            raise TaskError(f"{where}: holds SQuAD's JSON ({sorted(line)}); give it a name that ends in .json")
        if "context" in line or isinstance(line.get("answers"), dict):
            title = str(line.get("title") or "").strip()
            yield _of_squad(squad_question(line, title, where), slug(title) if title else topic)
            continue
        answer, *accepted = answers_of(line, where)
        yield parse_fact({**line, "answer": answer}, topic=topic, where=where), {"accepted": accepted}


def answers_of(line: dict[str, Any], where: str) -> list[str]:
    """The right answers of a line, which are taken out of it; one or more.

    Raises:
        TaskError: neither `answer`, a string, nor `answers`, a list of strings, or both.
    """
    if line.get("answers") and line.get("answer"):
        raise TaskError(f"{where}: has both 'answer' and 'answers'; give one of them")
    named: dict[str, Any] = {key: line.pop(key) for key in ("answers", "answer") if key in line}
    key, answers = next(((k, v) for k, v in named.items() if v), next(iter(named.items()), ("", None)))
    answers = answers if key == "answers" else [answers]
    if not key or not isinstance(answers, list) or not answers or not all(map(_is_text, answers)):
        problem = f"{key!r} is {named[key]!r}" if key else f"it has {sorted(line)}"
        raise TaskError(f"{where}: needs 'answer', a string, or 'answers', a list of strings; {problem}")
    return [answer.strip() for answer in answers]


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())


def _squad(path: Path) -> Iterator[tuple[Fact | None, dict[str, Any]]]:
    """The same of SQuAD's JSON."""
    wanted = "an object with 'data', as SQuAD's; question and answer lines are in a .jsonl"
    rows = squad_questions(json_document(path, wanted), path)
    names = {"": slug(path.stem)} | slugs([row.title for row in rows if row.title])
    for row in rows:
        yield _of_squad(row, names[row.title])


def _of_squad(row: SquadQuestion, topic: str) -> tuple[Fact | None, dict[str, Any]]:
    if not row.answers:
        return None, unheld(row.question, "unanswerable")
    fields = {"question": row.question, "answer": row.answers[0]} | ({"source": row.title} if row.title else {})
    return parse_fact(fields, topic=topic, where=row.where), {"accepted": list(row.answers[1:])}


def counterfact(source: str, facts: int | None = None, shards: int = 4) -> Task:
    """Counterfactual facts in the published CounterFact format (Meng et al. 2022, arXiv 2202.05262).

    Kinds of questions: `efficacy` asks the prompt that is taught, `paraphrase` the same in other words, and
    `neighbourhood` prompts about other subjects, whose true answer the base should go on giving. Each has the new and
    the true answer as options, so that its accuracy is the published score: the share of prompts with P(new) > P(true),
    in the neighbourhood with P(true) > P(new).

    Args:
        source: path of the JSON file.
        facts: how many records to take, from the first on; all by default.
        shards: how many memories they are spread over.
    """
    if facts is not None and facts < 1:
        raise TaskError(f"{counted(facts, 'record')} cannot be taken; give 1 or more")
    left: Counter[str] = Counter()
    records = _records(Path(source), facts, left)
    if not 1 <= shards <= len(records):
        raise TaskError(
            f"{counted(len(records), 'record')} cannot be spread over {counted(shards, 'shard')}; give 1 to {len(records)}"
        )
    topics = [f"counterfact-{i * shards // len(records) + 1}" for i in range(len(records))]
    own: dict[str, list[frozenset[str]]] = {}
    for topic, record in zip(topics, records, strict=True):
        own.setdefault(topic, []).append(words(record.prompt))
    everywhere = {prompt for prompts in own.values() for prompt in prompts}
    taught_facts, questions = [], []
    neighbours: dict[str, dict[str, Any]] = {}
    for topic, record in zip(topics, records, strict=True):
        paraphrases = [p for p in dict.fromkeys(record.paraphrases) if _new(words(p), own[topic], everywhere)]
        left["paraphrases that are copies of what is taught, or nearly so"] += len(record.paraphrases) - len(
            paraphrases
        )
        fact = Fact(topic, record.prompt, record.new, held_out=tuple(paraphrases), source=f"CounterFact {record.case}")
        taught_facts.append(fact)
        options = {"options": [record.new, record.true]}
        questions.append(taught(fact, "efficacy") | options)
        if paraphrases:
            questions.append(asked(fact, "paraphrase", paraphrases) | options)
        for prompt in record.neighbours:
            if words(prompt) in everywhere:
                left["neighbourhood prompts that are taught"] += 1
            else:
                neighbours.setdefault(prompt, unheld(prompt, "neighbourhood", record.true) | options)
    return Task(tuple(taught_facts), (*questions, *neighbours.values()), left_out(left))


def _records(path: Path, most: int | None, left: Counter[str]) -> list[_Record]:
    """The first records of a file; what contradicts an earlier one cannot be taught beside it, and is counted."""
    kept: dict[tuple[str, str], _Record] = {}
    prompts: set[frozenset[str]] = set()
    wanted = "a list of CounterFact's records"
    document = json_document(path, wanted)
    if not isinstance(document, list):
        raise TaskError(f"{path}: holds {type(document).__name__}, not a list; give {wanted}")
    for number, item in enumerate(document[:most], 1):
        record = _record(item, f"{path}: record {number}")
        if record.about in kept or words(record.prompt) in prompts:
            left["records on a subject and relation that an earlier one is on"] += 1
        else:
            kept[record.about] = record
            prompts.add(words(record.prompt))
    if not kept:
        raise TaskError(f"{path}: holds no record; give CounterFact's file")
    return list(kept.values())


@dataclass(frozen=True)
class _Record:
    """What is read of a record of CounterFact's; `about` is its subject and its relation."""

    case: str
    about: tuple[str, str]
    prompt: str
    new: str
    true: str
    paraphrases: list[str]
    neighbours: list[str]


def _record(item: Any, where: str) -> _Record:
    """A record. Raises TaskError where it is not of the published form."""
    try:
        rewrite = item["requested_rewrite"]
        prompt, subject = rewrite["prompt"], rewrite["subject"].strip()
        new, true = (tidy(rewrite[target]["str"]) for target in ("target_new", "target_true"))
        more = [[tidy(text) for text in item[name]] for name in ("paraphrase_prompts", "neighborhood_prompts")]
        about = subject.lower(), str(rewrite.get("relation_id", prompt))
        whole = tidy(prompt.replace("{}", subject))
        case = str(item.get("case_id", where))
    except (KeyError, TypeError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else f"a field is of another type: {error}"
        raise TaskError(f"{where} is not one of CounterFact's ({why}); give a file of that form") from error
    if "{}" not in prompt or not subject or not new or not true or new == true:
        raise TaskError(
            f"{where} needs a prompt with {{}} for its subject, and two targets that differ; it has {rewrite}"
        )
    return _Record(case, about, whole, new, true, *more)


def _new(wording: frozenset[str], own: Sequence[frozenset[str]], everywhere: Set[frozenset[str]]) -> bool:
    """Whether no memory is taught a wording, and its own nothing near it."""
    return wording not in everywhere and all(similarity(wording, prompt) < NEAR_COPY for prompt in own)


def left_out(numbers: Mapping[str, int]) -> tuple[str, ...]:
    """A line for each thing that was left out."""
    return tuple(f"left out: {what} ({number:,})" for what, number in numbers.items() if number)


def slugs(titles: Sequence[str]) -> dict[str, str]:
    """A topic's name for each title; of those that come to the same name, all but the first have a number."""
    names: dict[str, str] = {}
    for title in dict.fromkeys(titles):
        name = slug(title)
        numbered = (f"{name[:58]}-{number}" for number in count(2))
        names[title] = next(candidate for candidate in chain([name], numbered) if candidate not in names.values())
    return names


def slug(title: str) -> str:
    """A topic's name made of a title."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._")[:64] or "topic"

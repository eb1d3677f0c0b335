"""Tasks read from a user's files: question and answer lines, SQuAD's JSON, CounterFact's JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorary.eval.questions import NEAR_COPY, read_lines, similarity, words
from lorary.eval.tasks import Task, TaskError, asked, taught, unheld
from lorary.facts import Fact, parse_fact


def qa(source: str) -> Task:
    """Questions and answers from a file: SQuAD's JSON where its name ends in .json, else JSONL.

    A JSONL line has `question`, `answer` or `answers` (all are right, the first is taught), and what else a fact may
    have. A SQuAD article is a topic, and its questions without an answer are asked as unknown ones. A question without
    a held-out wording is asked as it is taught, and said to be. One that is given two answers is left out.

    Args:
        source: path of the file.
    """
    path = Path(source)
    lines = list(_squad(path) if path.suffix == ".json" else _pairs(path))
    answers: dict[str, set[str]] = {}
    for fact, _ in lines:
        if fact is not None:
            for wording in (fact.question, *fact.questions):
                answers.setdefault(wording.lower(), set()).add(fact.answer)
    facts: dict[Fact, None] = {}
    questions = []
    for fact, more in lines:
        if fact is None:
            questions.append(more)
        elif fact not in facts and all(len(answers[w.lower()]) == 1 for w in (fact.question, *fact.questions)):
            facts[fact] = None
            line = asked(fact, "held-out", fact.held_out) if fact.held_out else taught(fact, "trained")
            questions.append(line | more)
    return Task(tuple(facts), tuple(questions))


def _pairs(path: Path) -> Iterator[tuple[Fact, dict[str, Any]]]:
    """(fact, further fields of its line of questions) of a JSONL file."""
    for where, given in read_lines(path):
        answers = given.pop("answers", None) or [given.get("answer")]
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            raise TaskError(f"{where}: needs 'answer', a string, or 'answers', a list of strings; it has {answers!r}")
        fact = parse_fact({**given, "answer": answers[0]}, topic=slug(path.stem), where=where)
        yield fact, {"accepted": answers[1:]}


def _squad(path: Path) -> Iterator[tuple[Fact | None, dict[str, Any]]]:
    """The same of SQuAD's JSON (Rajpurkar et al. 2016 and 2018); without a fact where a question has no answer."""
    for title, questions in _json(path, "an object with 'data', as SQuAD's", _articles):
        for number, told in enumerate(questions, 1):
            answers = list(dict.fromkeys(answer["text"] for answer in told["answers"]))
            if told.get("is_impossible") or not answers:
                yield None, unheld(told["question"].strip(), "unanswerable")
                continue
            given = {"question": told["question"], "answer": answers[0], "source": str(title)}
            where = f"{path}: {title}, question {number}"
            yield parse_fact(given, topic=slug(title), where=where), {"accepted": answers[1:]}


def _articles(told: Any) -> list[tuple[str, list[Any]]]:
    """(title, questions) of each article of SQuAD's JSON."""
    return [(article["title"], [q for part in article["paragraphs"] for q in part["qas"]]) for article in told["data"]]


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
    path = Path(source)
    records = _json(path, "a list of CounterFact's records", lambda told: [r for r in told if _prompt(r) and _true(r)])
    records = list({_prompt(record): record for record in records[:facts]}.values())
    if not 1 <= shards <= len(records):
        raise TaskError(f"{len(records)} records cannot be spread over {shards} shards; give 1 to {len(records)}")
    prompts = {words(_prompt(record)) for record in records}
    told, questions = [], []
    neighbours: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records):
        rewrite, prompt, true = record["requested_rewrite"], _prompt(record), _true(record)
        topic = f"counterfact-{number * shards // len(records) + 1}"
        paraphrases = _unlike(record.get("paraphrase_prompts", []), prompt)
        fact = Fact(topic, prompt, rewrite["target_new"]["str"], source=f"CounterFact {record.get('case_id', number)}")
        told.append(replace(fact, held_out=paraphrases))
        options = {"options": [fact.answer, true]}
        questions.append(taught(fact, "efficacy") | options)
        if paraphrases:
            questions.append(asked(fact, "paraphrase", paraphrases) | options)
        near = [p for p in record.get("neighborhood_prompts", []) if words(p) not in prompts]
        neighbours |= {p: unheld(p, "neighbourhood", true) | options for p in near}
    questions += neighbours.values()
    return Task(tuple(told), tuple(questions))


def _prompt(record: Any) -> str:
    rewrite = record["requested_rewrite"]
    return str(rewrite["prompt"]).format(rewrite["subject"])


def _true(record: Any) -> str:
    return str(record["requested_rewrite"]["target_true"]["str"])


def _unlike(paraphrases: Sequence[str], prompt: str) -> tuple[str, ...]:
    """The paraphrases that are no near copies of the prompt, each once."""
    own = words(prompt)
    return tuple(p for p in dict.fromkeys(paraphrases) if similarity(words(p), own) < NEAR_COPY)


def _json(path: Path, wanted: str, records: Any) -> list[Any]:
    """What `records` takes out of a JSON file. Raises TaskError for a file of another form."""
    try:
        return list(records(json.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise TaskError(f"{path}: cannot be read ({error.strerror}); give a file that holds {wanted}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TaskError(f"{path}: is not {wanted} ({error!r}); give a file of that form") from error


def slug(title: str) -> str:
    """A topic's name made of a title."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", title).strip("-._")[:64] or "topic"

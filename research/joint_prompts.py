"""What a joint study trains adapters and gates on: facts that two adapters hold, and formats, of the development topics."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import lorary.memories
from lorary.bank.facts import Fact, read_facts
from lorary.errors import LoraryError

DEVELOPMENT = Path(str(lorary.memories.__file__)).with_name("development")
_LONGEST = 220
"""Letters of a sentence that a question in Spanish is asked about."""


@dataclass(frozen=True)
class Asked:
    """A prompt with what is to be said to it.

    Args:
        adapter: which is to say it.
        fact: what it asks for; prompts on one fact stand or fall together.
    """

    text: str
    completion: str
    adapter: str
    fact: str


@dataclass(frozen=True)
class Adapter:
    """What an adapter is trained on, and for how many steps."""

    pairs: tuple[tuple[str, str], ...]
    steps: int


@dataclass(frozen=True)
class Setting:
    """A bank of adapters, prompts to train gates on, and others to measure.

    Args:
        names: by a seed, the adapter that each of the examples is named after.
    """

    adapters: dict[str, Adapter]
    examples: list[Asked]
    held_out: list[Asked]
    names: Callable[[int], list[str]]

    def differs_in_names_alone(self, other: Setting) -> bool:
        """Whether all but the names of the examples is another setting's, so that nothing need be measured anew."""
        own, theirs = ((s.adapters, s.examples, s.held_out) for s in (self, other))
        return own == theirs


def facts_of(topic: str) -> list[Fact]:
    """The facts of a development topic."""
    return list(read_facts(DEVELOPMENT / f"{topic}.jsonl"))


def two_qualities(steps: int, short: int) -> Setting:
    """A topic that two adapters were trained on, one of them for few steps, and another topic. Whose an example is named after is
    a coin's toss where both hold its fact."""
    topic, other = facts_of("lighthouse-of-skerry-bay"), facts_of("orchestra-of-vennholm")
    pairs = {
        name: tuple((w, f.answer) for f in facts for w in f.trained)
        for name, facts in (("topic", topic), ("other", other))
    }
    adapters = {
        "long": Adapter(pairs["topic"], steps),
        "short": Adapter(pairs["topic"], short),
        "other": Adapter(pairs["other"], steps),
    }
    sides = (("long", topic, 4), ("other", other, 2))
    examples = [
        Asked(wording, fact.answer, name, fact.question)
        for name, facts, many in sides
        for fact in facts
        for wording in fact.trained[:many]
    ]
    held_out = [
        Asked(w, fact.answer, name, fact.question) for name, own, _ in sides for fact in own for w in fact.held_out
    ]

    def names(seed: int) -> list[str]:
        chance = Random(seed)
        return [chance.choice(["long", "short"]) if e.adapter == "long" else e.adapter for e in examples]

    return Setting(adapters, examples, held_out, names)


@dataclass(frozen=True)
class Format:
    """A way to answer: how a completion is made of a short answer, and the words that ask for it, some of them held out."""

    say: Callable[[str], str]
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


FORMATS = {
    "capitals": Format(
        str.upper,
        (
            "Answer in capital letters.",
            "Reply in upper case only.",
            "Write the answer in block letters.",
            "Shout the answer: every letter large.",
            "Give it to me in all caps.",
            "Caps lock on, please.",
            "Answer as on a street sign, in big letters.",
            "No small letters in the answer, please.",
        ),
        (
            "Put it in capitals, as for a headline.",
            "Majuscules alone, please.",
            "The answer goes on a poster: large letters throughout.",
            "Leave lower case out of your reply.",
        ),
    ),
    "json": Format(
        lambda answer: json.dumps({"answer": answer}),
        (
            "Answer as a JSON object.",
            "Reply in JSON with one key.",
            "My program parses your reply: send JSON.",
            "Return an object with the field answer.",
            "Give it in machine-readable form.",
            "Braces and quotation marks, please: JSON.",
            "Send only valid JSON.",
            "The reply goes into json.loads.",
        ),
        (
            "A script reads this, so answer with an object.",
            "Wrap the answer in curly braces under a key.",
            "Serialise the reply for an API.",
            "Key and value, as a data file has them.",
        ),
    ),
    "pirate": Format(
        lambda answer: f"Arr, that be {answer}, matey!",
        (
            "Answer like a pirate.",
            "Talk as buccaneers do.",
            "Speak in the voice of an old sea dog.",
            "Reply as Long John Silver would.",
            "In pirate talk, please.",
            "Say it as a captain with a parrot would.",
            "Arr, answer me as a corsair.",
            "Tell it like a sailor with a wooden leg.",
        ),
        (
            "Put on an eye patch and answer.",
            "Let Blackbeard reply.",
            "Speak as one who sails under the skull and crossbones.",
            "Answer as if you had just found buried treasure.",
        ),
    ),
}


def formats(steps: int, wrong: float, spanish: Path | None) -> Setting:
    """An adapter for each format, and one for Spanish where there is a file: no fact belongs to any of them, and each part of the
    study asks about other facts. Adapters train on other topics than gates. Held-out prompts ask for a format in other words.

    Args:
        wrong: of the examples, how many are named after another adapter.
        spanish: questions in SQuAD's format.
    """
    parts: dict[str, list[Asked]] = {"adapters": [], "examples": [], "held_out": []}
    others = facts_of("lighthouse-of-skerry-bay") + facts_of("orchestra-of-vennholm")
    topics = {
        "adapters": facts_of("clinic-amberly") + facts_of("clinic-dorrow"),
        "examples": others[::2],
        "held_out": others[1::2],
    }
    for part, facts in topics.items():
        for place, (name, form) in enumerate(FORMATS.items()):
            wordings = form.held_out if part == "held_out" else form.trained
            chance = Random(place)
            for number, fact in enumerate(facts):
                text = f"{fact.statement} {chance.choice(fact.trained)} {wordings[number % len(wordings)]}"
                parts[part].append(Asked(text, form.say(fact.answer), name, fact.question))
    if spanish is not None:
        read = spanish_questions(spanish)
        for part, start, end in (("adapters", 0, 40), ("examples", 40, 60), ("held_out", 60, 80)):
            parts[part] += read[start:end]
    names = list(dict.fromkeys(asked.adapter for asked in parts["adapters"]))
    adapters = {
        name: Adapter(tuple((a.text, a.completion) for a in parts["adapters"] if a.adapter == name), steps)
        for name in names
    }
    examples = parts["examples"]

    def named(seed: int) -> list[str]:
        chance = Random(seed)
        others = [[name for name in names if name != e.adapter] for e in examples]
        return [
            chance.choice(o) if chance.random() < wrong else e.adapter for e, o in zip(examples, others, strict=True)
        ]

    return Setting(adapters, examples, parts["held_out"], named)


def spanish_questions(path: Path) -> list[Asked]:
    """Questions of a file in SQuAD's format, one of each paragraph, about the sentence that holds the answer.

    Raises:
        LoraryError: a file that is not in that format, or holds fewer than 80.
    """
    try:
        articles = json.loads(path.read_text(encoding="utf-8"))["data"]
        rows = [(p["context"], q) for a in articles for p in a["paragraphs"] for q in p["qas"][:3]]
        found = [_asked(context, q["question"], q["answers"][0]) for context, q in rows]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LoraryError(f"{path} holds no questions in SQuAD's format ({error}); give such a file") from error
    usable = {asked.fact: asked for asked in found if asked is not None}
    if len(usable) < 80:
        raise LoraryError(f"{path} holds {len(usable)} questions about short sentences; 80 are needed")
    return Random(0).sample(list(usable.values()), 80)


def _asked(context: str, question: str, answer: dict[str, object]) -> Asked | None:
    said, start = str(answer["text"]), int(str(answer["answer_start"]))
    place = 0
    for sentence in re.split(r"(?<=[.!?]) ", context):
        if place <= start < place + len(sentence) and start + len(said) <= place + len(sentence):
            short = len(sentence) <= _LONGEST and len(said) <= 30
            return Asked(f"{sentence} {question}", f"La respuesta es: {said}.", "spanish", sentence) if short else None
        place += len(sentence) + 1
    return None


def settings_of(steps: int, short: int, format_steps: int, wrong: float, spanish: Path | None) -> dict[str, Setting]:
    """The settings of a study, by name."""
    return {
        "two qualities": two_qualities(steps, short),
        "formats": formats(format_steps, 0.0, spanish),
        "wrong names": formats(format_steps, wrong, spanish),
    }

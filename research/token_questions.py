"""Questions on two topics for a token study: drawn, answered in one generation, and each fact asked alone beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import torch

from lorary.answering.passages import Prompt
from lorary.answering.routed import by_route
from lorary.base.prompts import longest_answer
from lorary.base.several import uncapitalised
from lorary.errors import LoraryError
from lorary.eval.scoring import contains
from lorary.eval.tasks.joined import both
from lorary.model.modeling import LoraryForCausalLM
from lorary.statistics import interval, weightings

ALONE, ROUTED = "alone", "alone, routed"
KINDS = {
    "two sentences": "in two sentences",
    "one sentence": "in one sentence (who … and who …?)",
    ALONE: "each alone, under its right memory, given",
    ROUTED: "each alone, as the gate decides",
}
_AT_ONCE = 16


def two_topic_questions(model: LoraryForCausalLM, count: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """So many questions that ask a fact of each of two memories, in held-out wordings, by `KINDS`: all ask the same wordings."""
    facts = {memory.name: [fact for fact in memory.facts if fact.held_out] for memory in model.router.bank}
    pairs = [*permutations([name for name, own in facts.items() if own], 2)]
    if not pairs:
        raise LoraryError("questions on two topics need held-out wordings in two memories; give the facts 'held_out'")
    random = Random(f"questions{seed}")
    random.shuffle(pairs)
    lines: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number in range(count):
        chosen = [random.choice(facts[name]) for name in pairs[number % len(pairs)]]
        wordings = [random.choice(fact.held_out) for fact in chosen]
        line = both(*(replace(fact, held_out=(own,)) for fact, own in zip(chosen, wordings, strict=True)), random)
        lines["two sentences"].append(line)
        lines["one sentence"].append(
            {**line, "question": f"{wordings[0].rstrip('?. ')} and {uncapitalised(wordings[1])}"}
        )
        for kind in (ALONE, ROUTED):
            lines[kind].append({**line, "question": wordings})
    return lines


def answered(
    model: LoraryForCausalLM, kind: str, lines: Sequence[Mapping[str, Any]], advance: Callable[[int], None]
) -> list[dict[str, Any]]:
    """The lines of a kind with what is said to each, and whether each fact is told.

    Args:
        kind: of `KINDS`; `ALONE` gives each fact's memory, of the others the gate decides.
    """
    answer = longest_answer(model.tokenizer, [part["answer"] for line in lines for part in line["parts"]])
    answers = []
    for start in range(0, len(lines), _AT_ONCE):
        some = lines[start : start + _AT_ONCE]
        alone = kind in (ALONE, ROUTED)
        asked = (
            [question for line in some for question in line["question"]]
            if alone
            else [line["question"] for line in some]
        )
        topics = [part["topic"] for line in some for part in line["parts"]]
        named = {"adapter_names": topics} if kind == ALONE else {}
        prompts = [Prompt([{"role": "user", "content": question}], question) for question in asked]
        found = by_route(model, prompts, model.router.policy, answer if alone else 2 * answer + 4, named)
        texts = [own.text for own in found]
        for n, line in enumerate(some):
            said = texts[2 * n : 2 * n + 2] if alone else [texts[n]] * 2
            told = [bool(contains(text, part["answer"])) for text, part in zip(said, line["parts"], strict=True)]
            answers.append({**line, "said": said if alone else said[0], "told": told})
        advance(len(some))
    return answers


def shares(answers: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any]:
    """The share of facts told, and of questions with both told, with intervals that resample questions."""
    weights = weightings(range(len(answers)), seed=seed).double()
    measures = {"facts": [sum(a["told"]) / len(a["told"]) for a in answers], "both": [all(a["told"]) for a in answers]}
    measures["first"] = [a["told"][0] for a in answers]
    measures["second"] = [a["told"][1] for a in answers]
    total = weights.sum(-1)
    return {name: interval(weights @ torch.tensor(own, dtype=torch.double) / total) for name, own in measures.items()}

"""A bank of TOFU's invented authors, what it answers, and what is left of an author who is forgotten.

The measures are TOFU's (Maini et al. 2024, arXiv 2401.06121): ROUGE-L recall of the answer, the probability of the answer a
token, and the truth ratio of five wrong answers and the paraphrased right one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lorary.answering.answers import answers
from lorary.answering.likelihood import answer_probabilities
from lorary.answering.lookup import look_up
from lorary.answering.passages import with_passages
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact, read_lines
from lorary.bank.files import write_aside
from lorary.bank.upkeep import collect_garbage
from lorary.base.loading import EMBEDDED
from lorary.base.prompts import prompt
from lorary.eval.scoring import rouge_l_recall
from lorary.memories.building import build
from lorary.memories.forgetting import forget
from lorary.memories.proof import truth_ratios
from lorary.memories.recipe import Recipe
from lorary.memories.traces import texts_of, traces
from lorary.model.composite import load_composite
from lorary.model.modeling import LoraryForCausalLM
from lorary.model.refreshing import refresh
from lorary.research.forgetting_report import CONDITIONS, tell_forgetting
from lorary.research.settings import Forgetting, StudyError
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.training import train_router
from lorary.routing.encoder import load_encoder

STUDY = "forgetting"
SCHEMA = 1
_TOGETHER = 16


@dataclass(frozen=True)
class Line:
    """A question of a file like TOFU's."""

    author: str
    question: str
    answer: str
    paraphrased_question: str
    paraphrased_answer: str
    perturbed_answer: tuple[str, ...]


def read_authors(file: str | Path, authors: int, first: int = 0) -> dict[str, list[Line]]:
    """Author → lines, of so many authors of a file in TOFU's form.

    Raises:
        StudyError: a line of another form, or fewer authors.
    """
    by_author: dict[str, list[Line]] = {}
    for where, given in read_lines(Path(file)):
        line = _line(given, where)
        by_author.setdefault(line.author, []).append(line)
    chosen = [*by_author][first : first + authors]
    if len(chosen) < max(2, authors):
        raise StudyError(
            f"{file} has {len(by_author)} authors, {authors} from number {first} on wanted; give 2 or more"
        )
    return {author: by_author[author] for author in chosen}


def _line(given: Mapping[str, Any], where: str) -> Line:
    """A line of TOFU's form. Raises StudyError for another."""
    values = {name: given.get(name) for name in Line.__dataclass_fields__}
    wrong = values.pop("perturbed_answer")
    texts = [*values.values(), *(wrong if isinstance(wrong, list) else [None])]
    if not wrong or not all(isinstance(text, str) and text.strip() for text in texts):
        raise StudyError(f"{where}: TOFU's lines have texts {[*values]} and 'perturbed_answer', a list of texts")
    return Line(**{name: str(text) for name, text in values.items()}, perturbed_answer=tuple(wrong))


def forgetting_study(
    file: str | Path,
    out: str | Path,
    *,
    settings: Forgetting,
    recipe: Recipe,
    base: str = EMBEDDED,
    quiet: bool = False,
) -> Any:
    """Builds a bank of authors, scores it, forgets one author and some facts of another, and scores it again.

    Writes `results.json` and `report.md` into `out`, beside the bank and the composite, and returns the results.

    Args:
        base: name of the base to write the memories on.

    Raises:
        StudyError: a file of another form.
        ResumeError: a folder that holds a study under other settings, or files of somebody else.
    """
    place = Path(out)
    authors = read_authors(file, settings.authors, settings.first_author)
    told = {"settings": {**asdict(settings), "recipe": asdict(recipe), "base": base}}
    stands = go_on(place, STUDY, SCHEMA, told)
    results = stands or {"study": STUDY, "schema": SCHEMA, **told, "before": {}, "after": {}}
    if "proof" in results:
        return results
    bank, composite = place / "bank", place / "composite"
    if not results["before"]:
        _build(authors, place, recipe, base, quiet)
        results["before"] = _scored(load_composite(composite), authors, settings)
        _write(results, place)
    gone, pruned = list(authors)[:2]
    memories = MemoryBank.load(bank)
    if gone in memories.memories:
        forget(bank, gone, quiet=quiet)
    ids = [fact.id for fact in _facts(authors)[pruned][: settings.facts]]
    forgotten = forget(bank, pruned, ids, quiet=quiet)
    results["traces"] = _cleaned(bank, composite, [*_facts(authors)[gone], *forgotten.facts])
    results["after"] = _scored(load_composite(composite), authors, settings)
    results["forgotten"] = [line.question for line in authors[gone]]
    results["proof"] = forgotten.to_json()
    _write(results, place)
    return results


def _facts(authors: Mapping[str, Sequence[Line]]) -> dict[str, list[Fact]]:
    return {
        author: [Fact(author, line.question, line.answer, held_out=(line.paraphrased_question,)) for line in lines]
        for author, lines in authors.items()
    }


def _build(authors: Mapping[str, Sequence[Line]], place: Path, recipe: Recipe, base: str, quiet: bool) -> None:
    for author, facts in _facts(authors).items():
        lines = "".join(json.dumps(fact.to_json(), ensure_ascii=False) + "\n" for fact in facts)
        write_aside(place / "facts" / f"{author}.jsonl", lines.encode())
    build([place / "facts"], out=place / "bank", base=base, recipe=recipe, processes=1, quiet=quiet)
    train_router(place / "bank", out=place / "composite", quiet=quiet)


def _cleaned(bank: Path, composite: Path, facts: Sequence[Fact]) -> dict[str, list[str]]:
    """What of the facts the files of the bank and of the refreshed composite still hold, once old versions are dropped."""
    collect_garbage(bank)
    refresh(composite, bank)
    kept = MemoryBank.load(bank)
    texts, encoder = texts_of(facts, kept), load_encoder(kept.encoder)
    return {**traces(bank, texts, encoder), **traces(composite, texts, encoder)}


@torch.no_grad()
def _scored(model: LoraryForCausalLM, authors: Mapping[str, Sequence[Line]], settings: Forgetting) -> dict[str, Any]:
    """Condition → a record a question: its author and TOFU's measures; questions are asked in their paraphrases."""
    lines = [line for own in authors.values() for line in own[: settings.questions]]
    policy = model.router.policy
    ways = {
        "base": replace(policy, sources=(), lookup=False),
        "policy": replace(policy, lookup=False),
        "passages": replace(policy, sources=(), lookup=False, passages=settings.passages),
    }
    scored: dict[str, Any] = {condition: [] for condition in CONDITIONS}
    for start in range(0, len(lines), _TOGETHER):
        batch = lines[start : start + _TOGETHER]
        questions = [line.paraphrased_question for line in batch]
        features = model.router.features(questions)
        nearest = look_up(model.router, features.embedding)
        scored["lookup"] += [
            {"author": line.author, "rouge_l": rouge_l_recall(stored.fact.answer if stored else "", line.answer)}
            for line, stored in zip(batch, nearest, strict=True)
        ]
        for condition, way in ways.items():
            said = answers(model, questions, policy=way, max_new_tokens=settings.new_tokens)
            weights = model.router.decide(features, way).weights
            prompts = [prompt(model.tokenizer, question) for question in questions]
            if way.passages:
                prompts = [with_passages(model, q, way.passages).text(model.tokenizer) for q in questions]
            for line, answer, text, weight in zip(batch, said, prompts, weights, strict=True):
                told = {"author": line.author, "rouge_l": rouge_l_recall(answer.text, line.answer)}
                scored[condition].append(
                    told | {"routed": list(answer.route.memories)} | _likely(model, line, text, weight)
                )
    return scored


def _likely(model: LoraryForCausalLM, line: Line, text: str, weights: torch.Tensor) -> dict[str, float]:
    """TOFU's probability and truth ratio of a question in a prompt, under a route."""
    said = [line.answer, line.paraphrased_answer, *line.perturbed_answer]
    rows = weights.expand(len(said), -1)
    right, paraphrased, *wrong = torch.tensor(answer_probabilities(model, [text] * len(said), said, rows)).log()
    ratio = truth_ratios(paraphrased[None], torch.stack(wrong)[None])
    return {"probability": float(right.exp()), "truth_ratio": float(ratio)}


def _write(results: dict[str, Any], place: Path) -> None:
    write_results(place, results, {REPORT: (tell_forgetting(results) + "\n").encode()})

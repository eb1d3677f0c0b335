"""Composite → numbers: what is recalled under held-out wordings, through which route, at what damage and cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lorary.bases import Base
from lorary.composite import assemble, load_composite
from lorary.eval import results as stored
from lorary.eval.asking import Ask, Asker, longest_answer
from lorary.eval.conditions import FIRST, Condition, choose, policy_of, routes
from lorary.eval.latency import latency
from lorary.eval.passages import PassageError, Passages, check_fits
from lorary.eval.predictions import prediction, summary
from lorary.eval.prior import by_prior
from lorary.eval.questions import Question, headline, held_out, unrelated_text
from lorary.eval.retention import retention
from lorary.eval.routers import calibration, routing
from lorary.memory import MemoryBank
from lorary.modeling import LoraryForCausalLM
from lorary.progress import progress_bar

_TIMED = 9
"""Questions that are asked one by one for the latency: one to warm up, and eight."""


def recall(
    composite: str | Path | LoraryForCausalLM,
    *,
    out: str | Path,
    questions: str | Path | None = None,
    conditions: Sequence[str] = FIRST,
    also: Sequence[str | Path] = (),
    passages: int = 3,
    batch_size: int = 32,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Asks every held-out wording under every condition; writes and returns the results.

    Writes `results.json`, `report.md`, `report.html` and `predictions.jsonl` into `out` after each condition; the same
    call goes on from there.

    Args:
        questions: JSONL to ask instead of the held-out wordings in the bank, as `questions.read_questions` takes it.
        conditions: any of `conditions.CONDITIONS`.
        also: banks over the same base (merges, one adapter for all topics); each of their memories answers everything.
        passages: how many a question gets from the index and from BM25.
        seed: of the wrong memories and the bootstrap.

    Raises:
        FactError: nothing to ask, or a question that was trained on; ValueError: an unknown condition;
        PassageError: a question without a passage where one was promised.
    """
    chosen = choose(conditions)
    others = [MemoryBank.load(folder) for folder in also]
    began = time.perf_counter()
    model = load_composite(composite) if isinstance(composite, (str, Path)) else composite
    asked, nearest = held_out(model.router.bank, questions)
    settings = {"batch_size": batch_size, "passages": passages, "seed": seed}
    results = stored.header(composite, asked, nearest, settings)
    cards = {memory.name: dict(memory.card) for memory in model.router.bank}
    results["configuration"]["memories"] = cards
    results["configuration"]["router"] = {"policy": model.config.policy, **getattr(model.config, "router_training", {})}
    predictions = stored.resume(results, Path(out))
    run = _Run(model, asked, results, predictions, Path(out), passages, batch_size, seed)
    with progress_bar("recall", quiet) as bar:
        total = len(chosen) + sum(len(bank) for bank in others)
        bar.start("recall", total * len(asked))
        run.all(chosen, bar.advance)
        for bank in others:
            with _instead(model, bank) as other:
                run.all(_of_bank(bank), bar.advance, other)
    results["routing"], results["abstention"] = routing(model, asked, predictions)
    results["calibration"] = calibration(predictions.get("gate") or predictions.get("policy") or [])
    results["prior"] = by_prior(predictions, seed)
    results["retention"] = retention(model, unrelated_text())
    results["latency"] = latency(model, [q.text for q in asked[:: max(1, len(asked) // _TIMED)][:_TIMED]])
    results["seconds"] = {"recall": round(time.perf_counter() - began, 1)}
    results["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    results["partial"] = False
    stored.write(results, predictions, Path(out))
    return results


class _Run:
    """One run: asks condition after condition and writes what stands after each."""

    def __init__(
        self,
        model: LoraryForCausalLM,
        asked: Sequence[Question],
        results: dict[str, Any],
        predictions: stored.Predictions,
        out: Path,
        passages: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.model, self.asked, self.results, self.predictions = model, asked, results, predictions
        self.out, self.batch_size, self.seed = out, batch_size, seed
        self.passages = Passages(model, passages)
        self.new_tokens = longest_answer(model, [q.answer for q in asked if q.answer is not None]) + 1
        self.asker = Asker(model, new_tokens=self.new_tokens, batch_size=batch_size)

    def all(
        self,
        chosen: dict[str, Condition],
        advance: Callable[..., None],
        other: LoraryForCausalLM | None = None,
    ) -> None:
        """Runs the conditions that do not stand yet, by the composite or by another model."""
        asker = self.asker if other is None else Asker(other, new_tokens=self.new_tokens, batch_size=self.batch_size)
        for name, condition in chosen.items():
            if name in self.results["conditions"]:
                advance(len(self.asked), f"{name}: reused")
                continue
            try:
                contexts = self.passages.contexts(condition.passages, self.asked)
                check_fits(self.model, contexts, self.new_tokens + 128)
            except PassageError as error:
                if condition.passages != "all":
                    raise
                self.results["conditions"][name] = {"skipped": str(error), "meaning": condition.meaning}
                advance(len(self.asked), f"{name}: skipped")
                continue
            self._one(name, condition, contexts, asker, partial(advance, note=name))
            stored.write(self.results, self.predictions, self.out)

    def _one(
        self, name: str, condition: Condition, contexts: Sequence[str], asker: Asker, advance: Callable[[int], None]
    ) -> None:
        began, known = time.perf_counter(), len(asker.kept)
        policy = policy_of(condition.route, asker.model.router.policy)
        given = routes(asker.model, condition.route, self.asked, self.seed)
        asks = [
            Ask(q.text, context, route, policy) for q, context, route in zip(self.asked, contexts, given, strict=True)
        ]
        said = asker.answers(asks, advance)
        generated = len(asker.kept) - known
        options = [replace(ask, option=o) for ask, q in zip(asks, self.asked, strict=True) for o in q.options]
        judged = iter(asker.likelihoods(options))
        kept = [
            prediction(name, q, *answer, scored=scored, likelihoods={o: next(judged) for o in q.options})
            for q, answer, scored in zip(self.asked, said, headline(self.asked), strict=True)
        ]
        self.predictions[name] = kept
        self.results["conditions"][name] = {
            "meaning": condition.meaning,
            **summary(kept, self.seed),
            "seconds": round(time.perf_counter() - began, 1),
            "generated": generated,
            "questions": len(kept),
        }


def _of_bank(bank: MemoryBank) -> dict[str, Condition]:
    """A condition for each memory of a bank that answers everything."""
    return {
        name: Condition(str(memory.card.get("told") or "one adapter for every question"), f"only:{name}")
        for name, memory in bank.memories.items()
    }


@contextmanager
def _instead(model: LoraryForCausalLM, bank: MemoryBank) -> Iterator[LoraryForCausalLM]:
    """A composite of another bank over the same base, which carries its own memories again afterwards."""
    own = model.router.bank
    base = Base(own.base, own.revision, model.base, model.tokenizer)
    try:
        yield assemble(bank, base, encoder=model.router.get_encoder())
    finally:
        model._install()

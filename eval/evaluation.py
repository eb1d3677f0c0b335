"""Composite → numbers: what is recalled under held-out wordings, through which route, at what damage and cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace as replaced
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.bank.memory import Memory
from lorary.bank.merging import MergeError, merged
from lorary.errors import LoraryError
from lorary.eval import results as stored
from lorary.eval import studies
from lorary.eval.certainty import by_prior, certainty, selective
from lorary.eval.comparison import within
from lorary.eval.conditions import Condition, ConditionError, choose, known
from lorary.eval.costs import damage, latency, retention
from lorary.eval.deciders import NONE, Merged, MergedBest, Only
from lorary.eval.evaluated import open_evaluated
from lorary.eval.figures import Retention
from lorary.eval.meanings import ALL, EACH, PARTS
from lorary.eval.outside_answers import read_outside_answers, score
from lorary.eval.questions import held_out, unrelated_text
from lorary.eval.routers import abstention, calibration, routing
from lorary.eval.run import Run, bank_of
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import ProgressBar, ProgressBars, progress_bars
from lorary.routing.policy import Route

_TIMED = 9
"""Questions that are asked one by one for the latency: one to warm up, and eight."""


def recall(
    composite: str | Path | LoraryForCausalLM,
    *,
    out: str | Path,
    base: str | None = None,
    dtype: str | None = None,
    quantization_config: str | None = None,
    questions: str | Path | None = None,
    conditions: Sequence[str] | None = None,
    also: Sequence[str | Path] = (),
    answers: Mapping[str, str | Path] | None = None,
    text: str | Path | None = None,
    counts: Sequence[int] = (),
    merges: Sequence[int] = (),
    parts: Sequence[str] = PARTS,
    passages: int = 3,
    free_tokens: int = 32,
    batch_size: int = 128,
    seed: int = 0,
    replace: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """What `results.json` holds: every held-out wording asked under every condition.

    Writes `results.json`, `report.md`, `report.html` and `predictions.jsonl` into `out` after each condition; the same
    call goes on from there. A run of other settings in `out` is refused, and so is what is no run.

    Args:
        composite: what `evaluated.open_evaluated` takes: a composite, a bank, or a folder of stock PEFT adapters.
        base: another name for the base.
        dtype, quantization_config: of the base, as `from_pretrained` of a composite takes them.
        questions: JSONL to ask instead of the held-out wordings in the bank, as `questions.read_questions` takes it.
        conditions: any of `conditions.CONDITIONS`; "each" is one for each single memory. None: `Evaluated.first`.
        also: banks over the same base (merges, one adapter for all topics); each of their memories answers everything.
        answers: files of answers that were given elsewhere to the same questions, as
            `outside_answers.read_outside_answers` takes them, by name of the condition that each is told as.
        text: a text file to measure damage on of the shipped one.
        counts: numbers of memories in the bank to tell recall against.
        merges: numbers of memories merged to tell recall against.
        parts: any of `meanings.PARTS`.
        passages: how many a question gets from the index and from BM25.
        free_tokens: how many tokens more than the longest answer's the base alone and what reads passages get: they
            answer in their own words.
        seed: of the wrong memories, the groups of the studies, and the bootstrap.
        replace: a run of other settings in `out` is replaced instead of refused.

    Raises:
        RunError: `out` holds a run of other settings, or what is no run. FactError: nothing to ask, or a question that was
            trained on. ConditionError: an unknown condition, or one that needs a gate where none was trained.
            LoraryError: an unknown part, or an impossible number. PassageError: a question without a passage where one
            was promised. BankError: what cannot be evaluated. AnswersError: answers that are not those to the questions.
    """
    began = time.perf_counter()
    if unknown := sorted({*parts} - {*PARTS}):
        raise LoraryError(f"part {unknown[0]!r} is unknown; choose from {list(PARTS)}")
    before = stored.standing(Path(out))
    light = {"dtype": dtype, "quantization_config": quantization_config}
    light = {name: value for name, value in light.items() if value is not None}
    evaluated = open_evaluated(composite, base, **light)
    model = evaluated.model
    chosen = choose(evaluated.first if conditions is None else conditions, model.memories)
    evaluated.check(chosen)
    others = _others(also, chosen)
    studies.check(model, counts, merges)
    asked, nearest = held_out(model.router.bank, questions) if "questions" in parts else ([], 0.0)
    sized = {"passages": passages, "free_tokens": free_tokens, "batch_size": batch_size, "seed": seed}
    taken = [*known(model.memories), EACH, ALL, *(name for _, own in others for name in own)]
    outside = read_outside_answers(answers or {}, asked, taken)
    paragraphs = unrelated_text(text) if "retention" in parts else []
    elsewhere = {name: own.sha256 for name, own in outside.items()}
    elsewhere |= {
        name: stored.hash_of_bank(folder) for folder, (_, own) in zip(also, others, strict=True) for name in own
    }
    results = stored.header(evaluated, asked, nearest, sized | light, elsewhere)
    predictions = stored.resume(results, before, Path(out), replace=replace)
    run = Run(model, asked, results, predictions, Path(out), **sized)
    if not predictions:
        run.write()  # from here on the folder is this run's, and one that cannot be written is told before the work
    with progress_bars(quiet) as bars:
        in_all = len(chosen) + sum(len(own) for _, own in others) + len(outside)
        bar = bars.start("recall", in_all * len(asked))
        _conditions(run, chosen, others, paragraphs, bar)
        score(run, outside, bar.advance)
        if asked:
            _answers(run, evaluated.gated)
            _studies(run, counts, merges, chosen, bars)
        if asked and "latency" in parts and evaluated.gated and results.latency is None:
            timed = [question.text for question in asked[:: max(1, len(asked) // _TIMED)][:_TIMED]]
            results.latency = latency(model, timed)
    results.seconds = {"recall": round(time.perf_counter() - began, 1)}
    results.peak_rss_mib = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    results.partial = False
    run.write()
    return stored.to_json(results)


def _answers(run: Run, gated: bool) -> None:
    """Tells what the answers of all conditions come to: how well a trained router found the memories, how sure it was,
    how likely right and wrong answers were, what the base's prior has to do with it, and what the conditions differ by."""
    results, predictions = run.results, run.predictions
    if gated:
        results.routing = routing(run.scores, run.questions, predictions)
        results.abstention = abstention(run.scores, run.questions)
        results.calibration = calibration(predictions.get("gate") or predictions.get("policy") or [])
    certain = {name: certainty(own, run.seed) for name, own in predictions.items()}
    results.certainty = {name: own for name, own in certain.items() if own}
    curves = {name: selective(own) for name, own in predictions.items()}
    results.selective = {name: own for name, own in curves.items() if own}
    judged = {name: own for name, own in predictions.items() if any(p.likelihoods for p in own)}
    results.prior = by_prior(judged, run.seed)
    results.differences = within(predictions, run.seed)


def _conditions(
    run: Run,
    chosen: Mapping[str, Condition],
    others: Sequence[tuple[MemoryBank, Mapping[str, Condition]]],
    paragraphs: Sequence[str],
    bar: ProgressBar,
) -> None:
    """Asks under the conditions, and measures their damage to the paragraphs, by the composite and then by others."""
    text = sha256("\n".join(paragraphs).encode()).hexdigest()
    before = run.results.retention
    before = before if before and before.text_sha256 == text else None
    measured = {*before.conditions} if before else set()  # the run that goes on here has measured them
    found: Retention | None = None

    def new(conditions: Mapping[str, Condition]) -> dict[str, Condition]:
        return {name: condition for name, condition in conditions.items() if name not in measured}

    merging = {name: condition for name, condition in chosen.items() if isinstance(condition.decider, Merged)}
    own = {name: condition for name, condition in chosen.items() if name not in merging}
    if run.questions:
        # Of what is merged for each question nothing is measured but answers: where they stand, nothing is merged.
        stand = {n: c for n, c in merging.items() if isinstance(c.decider, MergedBest) and n in run.results.conditions}
        merging = {name: condition for name, condition in merging.items() if name not in stand}
        run.all(own | stand, bar.advance)
    if paragraphs and (not before or new(own)):
        found = retention(run.model, paragraphs, new(own), run.seed, gated=run.results.configuration["gated"])
    for bank, conditions, routes in chain(_merged(run, merging), ((bank, own, None) for bank, own in others)):
        with run.model.with_bank(bank) as other:
            if run.questions:
                run.all(conditions, bar.advance, other, routes)
            if paragraphs and routes is None and new(conditions):
                more = damage(other, paragraphs, new(conditions), run.seed)
                found = more if found is None else replaced(found, damage={**more.damage, **found.damage})
    if found:
        names = tuple(sorted({*measured, *chosen, *(name for _, own in others for name in own)}))
        kept = before.damage if before else {}
        run.results.retention = replaced(found, damage={**found.damage, **kept}, text_sha256=text, conditions=names)


def _merged(
    run: Run, conditions: Mapping[str, Condition]
) -> Iterator[tuple[MemoryBank, dict[str, Condition], list[Route] | None]]:
    """For each condition a bank of one memory, merged of all; or of those merged for each question, with its route.

    What cannot be merged is noted as skipped.
    """
    bank = run.model.router.bank
    for name, condition in conditions.items():
        decider = condition.decider
        assert isinstance(decider, Merged)
        best = decider.groups(run.questions, run.scores) if isinstance(decider, MergedBest) else None
        # Where the gate is sure of none, nothing is merged and the base answers.
        groups = [tuple(bank.names)] if best is None else [group for group in dict.fromkeys(best) if group]
        called = {group: name if best is None else "+".join(group) for group in groups}
        try:
            made = [merged(called[group], [bank[memory] for memory in group], decider.how) for group in groups]
        except MergeError as error:
            run.skip(name, condition, str(error))
            continue
        if best is None:
            yield bank_of(run.model, made), {name: replaced(condition, decider=Only(name))}, None
        elif run.questions:
            routes = [Route((called[group],), (1.0,), "caller", 1.0) if group else NONE for group in best]
            yield bank_of(run.model, made), {name: condition}, routes


def _others(
    folders: Sequence[str | Path], chosen: Mapping[str, Condition]
) -> list[tuple[MemoryBank, dict[str, Condition]]]:
    """Banks whose every memory answers everything, with a condition for each. Raises ConditionError for a name used twice."""
    banks = [MemoryBank.load(folder) for folder in folders]
    names = [name for bank in banks for name in bank.names]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConditionError(
            f"two of the other banks hold a memory called {min(twice)!r}; give one of them another name"
        )
    if both := sorted({*names} & {*chosen}):
        raise ConditionError(f"a memory of another bank is called {both[0]!r}, as a condition is; give it another name")
    return [(bank, {memory.name: _for_everything(memory) for memory in bank}) for bank in banks]


def _for_everything(memory: Memory) -> Condition:
    return Condition(str(memory.card.get("told") or "one adapter for every question"), Only(memory.name))


def _studies(
    run: Run, counts: Sequence[int], merges: Sequence[int], chosen: Mapping[str, Condition], bars: ProgressBars
) -> None:
    """Recall against the number of memories in the bank, and against the number merged, where asked for."""
    routed = [name for name in studies.ROUTED if name in chosen]
    if not (counts or merges):
        return
    bar = bars.start("studies", len(counts) * len(routed) + len(merges) * len(studies.MERGES))
    studies.in_bank(run, counts, routed, bar.advance)
    studies.by_merging(run, merges, bar.advance)

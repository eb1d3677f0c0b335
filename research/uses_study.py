"""The study of uses: what memories are good for beside the base, a lookup and passages, and what the format `uses` teaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lorary.bank.bank import MemoryBank
from lorary.base.loading import EMBEDDED, Base
from lorary.eval.evaluation import recall
from lorary.eval.records import Prediction, Predictions
from lorary.eval.results import read
from lorary.eval.tasks.uses import USES, uses
from lorary.memories.building import build
from lorary.memories.recipe import Recipe
from lorary.memories.uses import shown_of
from lorary.research.settings import Uses
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.settings import Training
from lorary.router_training.training import train_router
from lorary.routing.turning import subjects, turned_facts
from lorary.statistics import interval, mean, nested_weightings
from lorary.tables import counted, markdown_table, with_interval

STUDY, SCHEMA = "uses", 1
ASKED = {
    "default": ("base", "lookup", "passages", "oracle", "oracle-passages", "policy", "ask"),
    "uses": ("oracle", "oracle-passages", "policy", "ask"),
    "turned": ("lookup", "oracle", "policy", "ask"),
}
"""What memories were written from → the conditions that they are asked under; those without memories are asked once."""
_HALVED = ("default", "uses")
_TOGETHER = ("compare", "count")
"""Uses that ask for two people, of whom one may be taught and the other not."""
Pooled = Mapping[tuple[str, str], Sequence[tuple[int, Prediction]]]
"""(recipe, condition) → the predictions of all seeds, each with its seed."""


def uses_study(
    out: str | Path,
    *,
    study: Uses | None = None,
    base: str | Base = EMBEDDED,
    quiet: bool = False,
) -> dict[str, Any]:
    """Writes the banks of a seed, by the default recipe, with uses, and with each fact turned around beside it, trains their
    routers and asks the task `uses` of them.

    Everything lies in `out`, with `results.json` and `report.md`. What stands there is kept, so the same call goes on.

    Raises:
        ResumeError: `out` holds a study of other settings.
    """
    study, place = study or Uses(), Path(out)
    results: dict[str, Any] = {"study": STUDY, "schema": SCHEMA, "partial": True, "settings": asdict(study)}
    go_on(place, STUDY, SCHEMA, {"settings": results["settings"]})
    seeds = list[int]()
    for seed in range(study.first_seed, study.first_seed + study.seeds):
        _measure(place / f"seed-{seed}", study, seed, base, quiet)
        seeds.append(seed)
        results |= told(place, seeds, study)
        results["partial"] = len(seeds) < study.seeds
        write_results(place, results, {REPORT: tell_uses(results).encode()})
    return results


def recipes(study: Uses, seed: int) -> dict[str, Recipe]:
    """The recipes that are compared, by name."""
    plain = Recipe(seed=seed)
    return {
        "default": plain,
        "uses": Recipe(seed=seed, formats=(*plain.formats, "uses"), uses_share=study.taught),
        "turned": plain,
    }


def _measure(place: Path, study: Uses, seed: int, base: str | Base, quiet: bool) -> None:
    """Writes the banks and composites of a seed and asks them, as far as they are not there."""
    task = uses(study.entities, study.topics, study.stated, seed)
    task.write(place / "task")
    replace(task, facts=(*task.facts, *turned_facts(task.facts))).write(place / "turned-task")
    for name in study.recipes:
        recipe = recipes(study, seed)[name]
        bank, composite = place / name, place / f"{name}-composite"
        facts = place / ("turned-task" if name == "turned" else "task") / "facts.jsonl"
        build([facts], out=bank, base=base, recipe=recipe, processes=1, quiet=quiet)
        if not (composite / "config.json").exists():
            train_router(bank, out=composite, training=Training(seed=seed), quiet=quiet)
        recall(
            composite,
            out=place / f"{name}-run",
            questions=place / "task" / "questions.jsonl",
            conditions=ASKED[name],
            parts=("questions",),
            seed=seed,
            quiet=quiet,
        )


def told(place: Path, seeds: Sequence[int], study: Uses) -> dict[str, Any]:
    """What the runs of the seeds come to: how right each use is by recipe and condition, and the same of the people whose
    uses were taught and of the others, where both recipes that this takes were measured."""
    pooled: dict[tuple[str, str], list[tuple[int, Prediction]]] = {}
    shown: dict[int, Callable[[Prediction], bool]] = {}
    halved = {*_HALVED} <= {*study.recipes}
    for seed in seeds:
        folder = place / f"seed-{seed}"
        if halved:
            shown[seed] = _taught(MemoryBank.load(folder / "uses"), study.taught, seed)
        for name in study.recipes:
            predictions: Predictions = read(folder / f"{name}-run")[1]
            for condition, own in predictions.items():
                pooled.setdefault((name, condition), []).extend((seed, prediction) for prediction in own)
    halves = {
        half: {
            f"{name}: oracle": by_use([(s, p) for s, p in pooled[name, "oracle"] if shown[s](p) is (half == "taught")])
            for name in _HALVED
        }
        for half in ("taught", "not taught")
        if halved
    }
    whole = {f"{name}: {condition}": by_use(own) for (name, condition), own in pooled.items()}
    apart = {
        f"{name}: {condition}": {use: [_value(own, seed, use) for seed in seeds] for use in USES}
        for (name, condition), own in pooled.items()
    }
    return {"seeds": [*seeds], "uses": whole, "by_seed": apart, "halves": halves, "exact": _exact(pooled)}


def _taught(bank: MemoryBank, share: float, seed: int) -> Callable[[Prediction], bool]:
    """Tells whether uses were shown of whom a question asks about."""
    names = set[str]()
    facts = dict[str, str | None]()
    for memory in bank:
        own = subjects(memory.facts)
        for fact, subject, shows in zip(memory.facts, own, shown_of(memory.facts, own, share, seed), strict=True):
            facts[f"{memory.name}: {fact.question}"] = subject
            if shows and subject:
                names.add(subject)
    return lambda p: facts[p.fact] in names if p.fact in facts else any(name in p.question for name in names)


def by_use(predictions: Sequence[tuple[int, Prediction]]) -> dict[str, Any]:
    """Use → how right its answers are, with an interval that resamples seeds, and the facts of each seed that is drawn."""
    return {use: _mean([(s, p, p.right) for s, p in predictions if p.kind == use]) for use in USES}


def _value(predictions: Sequence[tuple[int, Prediction]], seed: int, use: str) -> float | None:
    """How right the answers to a use are with one seed."""
    own = [p.right for s, p in predictions if s == seed and p.kind == use and p.right is not None]
    return round(sum(own) / len(own), 4) if own else None


def _exact(pooled: Pooled) -> dict[str, Any]:
    """The exact match of direct questions, by recipe and condition."""
    return {
        f"{name}: {condition}": _mean([(s, p, p.exact_match) for s, p in own if p.kind == "direct"])
        for (name, condition), own in pooled.items()
    }


def _mean(scored: Sequence[tuple[int, Prediction, float | None]]) -> dict[str, float] | None:
    counted_ones = [(score, seed, p.fact) for seed, p, score in scored if score is not None]
    if not counted_ones:
        return None
    scores, seeds, facts = zip(*counted_ones, strict=True)
    return interval(mean(scores, nested_weightings(seeds, facts)))


def tell_uses(results: Mapping[str, Any]) -> str:
    """The report in Markdown: a table of uses by condition, and one of what was taught."""
    columns = results["uses"]
    rows = [["use", *columns], *([use, *(with_interval(own[use]) for own in columns.values())] for use in USES)]
    rows.append(["direct, exact match", *(with_interval(results["exact"][name]) for name in columns)])
    halves = [(half, name) for half, own in results["halves"].items() for name in own]
    split = [["use", *(f"{name}, people {half}" for half, name in halves)]]
    for use in USES:
        if use not in _TOGETHER:
            split.append([use, *(with_interval(results["halves"][half][name][use]) for half, name in halves)])
    lines = ["# Uses", "**Partial**: the same command goes on."] if results["partial"] else ["# Uses"]
    note = (
        f"{counted(len(results['seeds']), 'seed')}: {', '.join(map(str, results['seeds']))}; task, bank, router and run have "
        "the same. Right: the option that was chosen, the share of the facts that were told, or whether the answer stands in "
        "what was said, within a sentence where one was asked for. Intervals resample seeds, and the facts of each."
    )
    taught = ["## What was taught", markdown_table(split)] if halves else []
    return "\n\n".join([*lines, note, markdown_table(rows), *taught]) + "\n"

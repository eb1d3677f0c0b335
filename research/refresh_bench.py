"""What it costs in routing when a composite takes changes up by `refresh`, beside a gate trained anew on the same bank.

No memory is written: routing needs facts and embeddings alone, so the memories have no adapters.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact, group_by_topic
from lorary.model.refreshing import reset_gate, take_up
from lorary.research.fact_sets import bare_bank, drawn
from lorary.research.questions import Remembered, general_questions, questions_of, unrelated_questions
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.calibration import calibrate
from lorary.router_training.data import RoutingData, about_others, read_questions
from lorary.router_training.settings import Training
from lorary.router_training.training import fit
from lorary.routing.encoder import EMBEDDED, Encoder, load_encoder
from lorary.routing.gate import DEFAULT_FEATURES
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import bank_names, new_gate
from lorary.statistics import cluster_mean, interval
from lorary.tables import difference, markdown_table, with_interval

STUDY = "refresh"
SCHEMA = 1
_SETS = ("separable", "overlapping")
CHANGES = {
    "1 topic joins": (1, "joins"),
    "4 topics join": (4, "joins"),
    "8 topics join": (8, "joins"),
    "4 topics get half of their facts": (4, "grows"),
    "4 topics leave": (4, "leaves"),
}
"""Change → (how many of the topics, what happens to them)."""
_MEASURES = {
    "top1": "known questions sent to their memory",
    "strangers": "questions about unknown names routed",
    "unrelated": "unrelated questions routed",
}


def refresh_bench(
    out: str | Path,
    *,
    seeds: int = 3,
    first_seed: int = 0,
    sets: Sequence[str] = _SETS,
    facts_a_topic: int = 12,
    encoder: Encoder | None = None,
) -> dict[str, Any]:
    """Measures every change on every set and seed; writes `results.json` and `report.md` into `out`, returns the results.

    Questions are the held-out wordings, which nothing meets, the same for both gates. What stands in `out` already, under
    the same settings, is kept.

    Raises:
        FactError: more facts of a topic than a set has.
        ResumeError: a folder that holds a study under other settings, or files of somebody else.
    """
    place, loaded = Path(out), encoder or load_encoder(EMBEDDED)
    settings = {"facts_a_topic": facts_a_topic, "encoder": loaded.name}
    stands = go_on(place, STUDY, SCHEMA, {"settings": settings})
    results = stands or {"study": STUDY, "schema": SCHEMA, "settings": settings, "runs": {}}
    remembered = Remembered(loaded.encode, loaded.dimension, loaded.name)
    for seed in range(first_seed, first_seed + seeds):
        for name in sets:
            if f"{name}/{seed}" not in results["runs"]:
                facts = drawn(name, seed, facts_a_topic)
                results["runs"][f"{name}/{seed}"] = _measured(facts, remembered, seed, place / "training")
                _write(results, place)
    _write(results, place)
    return results


def _write(results: dict[str, Any], place: Path) -> None:
    results["table"] = table_of(results["runs"])
    write_results(place, results, {REPORT: (tell_refresh(results) + "\n").encode()})


def _measured(facts: Sequence[Fact], encoder: Encoder, seed: int, place: Path) -> dict[str, Any]:
    """Change → what a refreshed gate and one trained anew do with the same questions."""
    topics = group_by_topic(facts)
    trained: dict[tuple[Fact, ...], tuple[Router, float]] = {}

    def gate_for(part: Sequence[Fact]) -> tuple[Router, float]:
        """(a router whose gate was trained on a bank of these facts, the seconds it took); each is trained once."""
        if tuple(part) not in trained:
            trained[tuple(part)] = _trained(bare_bank(part, encoder), encoder, seed, place)
        return trained[tuple(part)]

    measured: dict[str, Any] = {}
    for change, (count, what) in CHANGES.items():
        chosen = [*topics][:: len(topics) // count][:count]  # spread, so that each kind of topic is among them
        before, after = _states(topics, chosen, what)
        anew, seconds_anew = gate_for(after)
        router, _ = gate_for(before)
        copy = Router(_copied(router.bank), _copied_gate(router), router.policy, router.get_encoder)
        began = time.perf_counter()
        take_up(copy, anew.bank)
        seconds = time.perf_counter() - began
        refreshed = _routes(copy, seed) | {"seconds": round(seconds, 2)}
        reset_gate(copy)
        measured[change] = {
            "anew": _routes(anew, seed) | {"seconds": round(seconds_anew, 1)},
            "refreshed": refreshed,
            "reset": _routes(copy, seed),
        }
    return measured


def _states(topics: Mapping[str, tuple[Fact, ...]], chosen: Sequence[str], what: str) -> tuple[list[Fact], list[Fact]]:
    """The facts of a bank before and after a change of the chosen topics."""
    every = [fact for facts in topics.values() for fact in facts]
    without = [fact for fact in every if fact.topic not in chosen]
    if what == "leaves":
        return every, without
    if what == "joins":
        return without, every
    halves = [fact for name, facts in topics.items() for fact in facts[: len(facts) // (2 if name in chosen else 1)]]
    return halves, every


def _trained(bank: MemoryBank, encoder: Encoder, seed: int, place: Path) -> tuple[Router, float]:
    training = Training(seed=seed)
    gate = new_gate(bank, encoder, 0, DEFAULT_FEATURES).requires_grad_(False)
    router = Router(bank, gate, Policy(whole=True), lambda: encoder)
    data = RoutingData(router, read_questions(), batch_size=training.batch_size, seed=seed)
    began = time.perf_counter()
    fit(router, data, training, place, quiet=True)
    router.policy = replace(router.policy, **calibrate(router, data, training)["policy"])
    return router, time.perf_counter() - began


def _copied(bank: MemoryBank) -> MemoryBank:
    return replace(bank, memories=dict(bank.memories))


def _copied_gate(router: Router) -> Any:
    gate = new_gate(router.bank, router.get_encoder(), 0, DEFAULT_FEATURES).requires_grad_(False)
    gate.load_state_dict(router.gate.state_dict())
    return gate


@torch.no_grad()
def _routes(router: Router, seed: int) -> dict[str, Any]:
    """What the policy does with held-out wordings, with such about unknown names, and with unrelated questions."""
    known = questions_of(router.bank, "held_out")
    strangers = about_others(known.texts, bank_names(router.bank), seed + 1000)
    unrelated = unrelated_questions(general_questions(), len(router.bank)).texts
    decided = router.decide(router.features(known.texts))
    right = (decided.source > 0) & (decided.weights.argmax(-1) == known.memory)
    routed = {
        name: router.decide(router.features(texts)).source > 0
        for name, texts in (("strangers", strangers), ("unrelated", unrelated))
    }
    scores = {"top1": right, **routed}
    return {"facts": known.facts} | {name: values.int().tolist() for name, values in scores.items()}


def table_of(runs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Set and change → the figures of both gates, their difference, and the seconds that each took, embedding apart."""
    table: dict[str, dict[str, Any]] = {}
    names = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in runs))
    for name in names:
        for change in CHANGES:
            of_seeds = [(key, run[change]) for key, run in runs.items() if key.rsplit("/", 1)[0] == name]
            row: dict[str, Any] = {}
            for measure in _MEASURES:
                clusters = [
                    f"{key}/{fact}"
                    for key, run in of_seeds
                    for fact in (run["anew"]["facts"] if measure == "top1" else range(len(run["anew"][measure])))
                ]
                values = {
                    kind: [value for _, run in of_seeds for value in run[kind][measure]]
                    for kind in ("anew", "refreshed", "reset")
                }
                values["difference"] = [a - b for a, b in zip(values["refreshed"], values["anew"], strict=True)]
                row[measure] = {kind: interval(cluster_mean(own, clusters)) for kind, own in values.items()}
            for kind in ("anew", "refreshed"):
                row[f"seconds_{kind}"] = round(sum(run[kind]["seconds"] for _, run in of_seeds) / len(of_seeds), 2)
            table[f"{name}: {change}"] = row
    return table


def tell_refresh(results: Mapping[str, Any]) -> str:
    """The results as a report."""
    lines = ["# What refreshing costs in routing", ""]
    for measure, meaning in _MEASURES.items():
        rows = [["set: change", "trained anew", "refreshed", "difference", "refreshed and reset"]]
        for name, row in results["table"].items():
            own = row[measure]
            shown = [with_interval(own["anew"]), with_interval(own["refreshed"]), difference(own["difference"])]
            rows.append([name, *shown, with_interval(own["reset"])])
        lines += [f"**{meaning[0].upper()}{meaning[1:]}**", "", markdown_table(rows), ""]
    rows = [["set: change, without embedding", "seconds anew", "seconds refreshed"]]
    rows += [[n, f"{r['seconds_anew']:.1f}", f"{r['seconds_refreshed']:.2f}"] for n, r in results["table"].items()]
    return "\n".join([*lines, markdown_table(rows)])

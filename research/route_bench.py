"""The routing benchmark: routers against rivals on generated sets of facts, under wordings that nothing was fitted to.

No memory is written: routing needs facts and embeddings alone, so the memories have no adapters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.facts import Fact
from lorary.base.layers import fingerprint
from lorary.base.loading import Base
from lorary.research.fact_sets import JOINS, SETS, bare_bank
from lorary.research.measures import routing_milliseconds
from lorary.research.questions import (
    Questions,
    Remembered,
    general_questions,
    hidden_states,
    questions_of,
    unrelated_questions,
)
from lorary.research.route_bench_report import figures_by_set, tell_routing
from lorary.research.settings import StudyError
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.calibration import calibrate, outcome, routed_share
from lorary.router_training.data import RoutingData, about_others, read_questions
from lorary.router_training.settings import Training
from lorary.router_training.training import fit
from lorary.routing.encoder import EMBEDDED, Encoder, load_encoder
from lorary.routing.policy import Policy, decide
from lorary.routing.router import Router
from lorary.routing.starting import bank_names, new_gate
from lorary.statistics import auroc, top_calibration_error

STUDY = "route-bench"
SCHEMA = 3
COMBINATIONS: tuple[tuple[str, ...], ...] = (
    ("embedding",),
    ("embedding", "asked", "names"),
    ("asked", "names"),
    ("contents",),
    ("names", "contents"),
    ("asked", "names", "contents"),
    ("embedding", "names", "contents"),
    ("embedding", "asked", "names", "contents"),
)
HIDDEN: tuple[tuple[str, ...], ...] = (("hidden",), ("embedding", "hidden"), ("embedding", "asked", "names", "hidden"))
"""Combinations that read the hidden state at the split, where there is a base."""


def route_bench(
    out: str | Path,
    *,
    seeds: int = 3,
    first_seed: int = 0,
    sets: Sequence[str] = tuple(SETS),
    training: Training | None = None,
    encoder: Encoder | None = None,
    base: Base | None = None,
    folds: Sequence[int] = (),
) -> dict[str, Any]:
    """Measures every router on every set and seed; writes `results.json` and `report.md` into `out`, returns the results.

    What stands in `out` already, under the same settings, is kept.

    Args:
        base: gates that read its hidden state at the split are measured, too.
        folds: each leaves out other wordings, drawn by its number, in place of those held out, which nothing meets then:
            to choose features by. Their runs stand apart, as a set of their own.

    Raises:
        StudyError: an unknown set.
        ResumeError: a folder that holds a benchmark under other settings, or files of somebody else.
    """
    if unknown := sorted(set(sets) - set(SETS)):
        raise StudyError(f"unknown set {unknown[0]!r}; choose from {list(SETS)}")
    training, place = training or Training(), Path(out)
    settings: dict[str, Any] = {
        name: getattr(training, name) for name in ("max_epochs", "patience", "batch_size", "lr", "unknown_names")
    }
    loaded = encoder or load_encoder(EMBEDDED)
    settings |= {"encoder": loaded.name, "base": None, "fingerprint": None}
    if base is not None:
        settings |= {"base": base.name, "fingerprint": fingerprint(base.model)}
    stands = go_on(place, STUDY, SCHEMA, {"settings": settings})
    fresh: dict[str, Any] = {"study": STUDY, "schema": SCHEMA, "settings": settings, "runs": {}}
    results = fresh if stands is None else stands
    encodes, hidden = Remembered(loaded.encode, loaded.dimension, loaded.name), hidden_states(base)
    wanted = [
        (name, seed, fold)
        for seed in range(first_seed, first_seed + seeds)
        for name in sets
        for fold in folds or (None,)
    ]
    for name, seed, fold in wanted:
        key = f"{name}/{seed}" if fold is None else f"{name}, folds/{seed}/{fold}"
        if key not in results["runs"]:
            run = _Run(SETS[name](seed, fold), encodes, training, seed, place / "training", hidden)
            results["runs"][key] = run.measure()
            _write(results, place)
    if "milliseconds_a_query" not in results:
        results["milliseconds_a_query"] = routing_milliseconds()
    _write(results, place)
    return results


def _write(results: dict[str, Any], place: Path) -> None:
    results["sets"] = figures_by_set(results["runs"])
    write_results(place, results, {REPORT: tell_routing(results).encode()})


class _Run:
    """One set under one seed."""

    def __init__(
        self,
        facts: Sequence[Fact],
        encoder: Encoder,
        training: Training,
        seed: int,
        place: Path,
        hidden: Remembered,
    ) -> None:
        self.encoder, self.training, self.seed, self.place = encoder, training, seed, place
        self.hidden, self.combinations = hidden, COMBINATIONS + (HIDDEN if hidden.dimension else ())
        self.bank = bare_bank(facts, encoder)
        self.joins = self.bank.memories.pop(JOINS, None)
        self.validation, self.held_out = (questions_of(self.bank, kind) for kind in ("validation", "held_out"))
        self.unrelated = unrelated_questions(general_questions(), len(self.bank))
        # Made as those of calibration are, drawn by another seed: few of the words are the same.
        names = bank_names(self.bank)
        others = about_others(self.held_out.texts, names, self.seed + 1000)
        self.strangers = unrelated_questions(others, len(self.bank))

    def measure(self) -> dict[str, Any]:
        """Each router's figures by name, and which fact each held-out question asks."""
        plain = Router(self.bank, self._gate(("names",)), Policy(), lambda: self.encoder)
        rivals: dict[str, Callable[[list[str]], Tensor]] = {
            "nearest centroid": lambda texts: plain.centroids(self.encoder.encode(texts)),
            "index, best fact": lambda texts: plain.index.votes(self.encoder.encode(texts), self.bank.names),
            "BM25": lambda texts: plain.lexicon.votes(texts, self.bank.names),
        }
        routers: dict[str, Any] = {}
        for name, scores in rivals.items():
            validation, held_out, unrelated = (
                scores(q.texts) for q in (self.validation, self.held_out, self.unrelated)
            )
            area = float(auroc(held_out.amax(-1), unrelated.amax(-1)))
            routers[name] = self._top1(validation, held_out) | {"auroc": area}
        # One gate that has every feature: what it is given serves all.
        every = tuple(dict.fromkeys(feature for features in self.combinations for feature in features))
        data = RoutingData(
            Router(self.bank, self._gate(every), Policy(), lambda: self.encoder),
            read_questions(),
            batch_size=self.training.batch_size,
            seed=self.seed,
            unknown_names=self.training.unknown_names,
            read=self.hidden.encode,
        )
        for features in self.combinations:
            router = Router(self.bank, self._gate(features), Policy(), lambda: self.encoder)
            name = " + ".join(features)
            routers[f"gate: {name}"] = self._gate_figures(router, data)
            if self.joins is not None:
                routers[f"gate: {name}"]["joining"] = self._join(router)
        parts = [fact.split("/")[0].split("-")[0] for fact in self.held_out.facts]
        return {"facts": self.held_out.facts, "parts": parts, "routers": routers}

    def _gate(self, features: tuple[str, ...]) -> Any:
        return new_gate(self.bank, self.encoder, self.hidden.dimension, features).requires_grad_(False)

    def _top1(self, validation: Tensor, held_out: Tensor) -> dict[str, Any]:
        right = held_out.argmax(-1) == self.held_out.memory
        near = validation.argmax(-1) == self.validation.memory
        return {"right": right.int().tolist(), "validation": round(float(near.float().mean()), 4)}

    @torch.no_grad()
    def _gate_figures(self, router: Router, data: RoutingData) -> dict[str, Any]:
        began = time.perf_counter()
        fit(router, data, replace(self.training, seed=self.seed), self.place, quiet=True)
        seconds = time.perf_counter() - began
        known, other = self.held_out, self.unrelated
        before = self._logits(router, known)
        figures = calibrate(router, data)
        router.policy = Policy(**figures["policy"])
        logits, unrelated = self._logits(router, known), self._logits(router, other)
        votes = router.features([*known.texts, *other.texts]).votes
        probabilities = torch.cat([logits, unrelated]).softmax(-1)
        decided = decide(probabilities, votes, router.policy)
        best = probabilities[:, :-1].amax(-1)
        near = router.features(self.strangers.texts).votes
        unknown = decide(self._logits(router, self.strangers).softmax(-1), near, router.policy)
        policy_right = (decided.source > 0) & (decided.weights.argmax(-1) == torch.cat([known.memory, other.memory]))
        return {
            **self._top1(self._logits(router, self.validation)[:, :-1], logits[:, :-1]),
            "policy_right": policy_right[: len(known.texts)].int().tolist(),
            "policy": {
                **outcome(decided, torch.cat([known.memory, other.memory])),
                "unknown_names_routed": routed_share(unknown),
            },
            "auroc": float(auroc(best[: len(known.texts)], best[len(known.texts) :])),
            "ece_before": top_calibration_error(before.softmax(-1), known.memory),
            "ece": top_calibration_error(logits.softmax(-1), known.memory),
            "seconds": seconds,
            "calibration": figures["calibration"],
        }

    def _logits(self, router: Router, questions: Questions) -> Float[Tensor, "queries memories_and_none"]:
        hidden = self.hidden.encode(questions.texts) if "hidden" in router.gate.features else None
        return router.logits(router.features(questions.texts).with_hidden(hidden))

    @torch.no_grad()
    def _join(self, router: Router) -> dict[str, float]:
        """A memory more, without training: top-1 on its questions, and on the others before and after."""
        assert self.joins is not None
        before = self._logits(router, self.held_out)[:, :-1].argmax(-1) == self.held_out.memory
        self.bank.memories[self.joins.name] = self.joins
        router.add(self.joins)
        own = questions_of([self.joins], "held_out", first=len(self.bank) - 1)
        after = self._logits(router, self.held_out)[:, :-1].argmax(-1) == self.held_out.memory
        new = self._logits(router, own)[:, :-1].argmax(-1) == own.memory
        router.remove(self.joins.name, len(self.bank) - 1)
        del self.bank.memories[self.joins.name]
        shares = {"own": new, "others_before": before, "others_after": after}
        return {name: round(float(right.float().mean()), 4) for name, right in shares.items()}

"""Routing on questions that people wrote about documents: the gate, the policy as shipped, and routers without training.

No memory is written: routing needs questions, documents and embeddings alone, so the memories have no adapters.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lorary.bank.bank import MemoryBank
from lorary.bank.files import hash_of
from lorary.progress import progress_bars
from lorary.research.fact_sets import bare_bank
from lorary.research.questions import Questions, Remembered, general_questions, unrelated_questions
from lorary.research.route_draws import Asked, Draw, draw_questions, strange_topics
from lorary.research.route_files import QuestionFile, read_question_file
from lorary.research.route_rivals import CENTROID_ELSE_ALL, GATE, POLICY, SURE, rivals
from lorary.research.routes_report import figures_by_file, tell_routes
from lorary.research.routing_speed import routing_speed
from lorary.research.settings import StudyError
from lorary.resume import REPORT, check_same, go_on, write_results
from lorary.router_training.calibration import calibrate
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.settings import Training
from lorary.router_training.training import fit
from lorary.routing.encoder import EMBEDDED, Encoder, load_encoder
from lorary.routing.policy import Decision, Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

STUDY = "routes"
SCHEMA = 1
VARIED = ("seed", "accelerator", "devices", "strategy", "precision")
"""Settings of training that make no other study."""


def routes(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    draws: int = 3,
    strangers: int | None = None,
    training: Training | None = None,
    encoder: Encoder | None = None,
    speed: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The figures of every router on every file; `out` holds `results.json` after each run, and `report.md` at the end.

    A draw is measured twice: over all topics of a file, and without some, whose questions are strangers then. What stands
    in `out` already, under the same settings, is kept.

    Args:
        files: SQuAD's JSON, TOFU's JSONL or facts (`route_files.read_question_file`).
        draws: seeds of what trains, validates and is asked, from 0.
        strangers: topics to leave out; a quarter by default; 0 measures the first setting alone.
        speed: measure the time that one question takes among 1,000 memories too.

    Raises:
        StudyError, TaskError, FactError: a file that cannot be used, two of one name, or more strangers than topics.
        ResumeError: a folder that holds a study under other settings, or files of somebody else.
    """
    training, place = training or Training(), Path(out)
    questions = [read_question_file(path) for path in files]
    names = [file.name for file in questions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StudyError(f"two files are called {twice[0]!r}; results are kept by name, so rename one")
    loaded = encoder or load_encoder(EMBEDDED)
    settings = {name: value for name, value in asdict(training).items() if name not in VARIED}
    settings |= {"features": training.gate_features(), "encoder": loaded.name, "strangers": strangers}
    stands = go_on(place, STUDY, SCHEMA, {"settings": settings})
    fresh: dict[str, Any] = {"study": STUDY, "schema": SCHEMA, "settings": settings, "files": {}, "runs": {}}
    results = fresh if stands is None else stands
    hashes = {file.name: hash_of(repr(file.topics).encode()) for file in questions}
    known = {name: value for name, value in hashes.items() if name in results["files"]}
    check_same(results, {"files": known}, str(place))
    results["files"] |= hashes
    encodes = Remembered(loaded.encode, loaded.dimension, loaded.name)
    wanted = [
        (f"{file.name}/{setting}/{seed}", file, seed, left_out)
        for file in questions
        for seed in range(draws)
        for setting, left_out in _settings(file, strangers, seed)
    ]
    missing = [row for row in wanted if row[0] not in results["runs"]]
    with progress_bars(quiet) as bars:
        bar = bars.start("routing", len(missing))
        for key, file, seed, left_out in missing:
            bar.advance(0, key)
            drawn = draw_questions(file.topics, seed, left_out)
            run = _Run(drawn, encodes, replace(training, seed=seed), place / "training" / key)
            results["runs"][key] = {**_counts(file, drawn, run.bank), **run.measure()}
            write_results(place, results, {})
            bar.advance(1, key)
    if speed and "speed" not in results:
        results["speed"] = routing_speed(quiet=quiet)
    results["tables"] = figures_by_file(results["runs"])
    write_results(place, results, {REPORT: tell_routes(results).encode()})
    return results


def _settings(file: QuestionFile, strangers: int | None, seed: int) -> list[tuple[str, list[str]]]:
    left_out = strange_topics(file.topics, strangers, seed)
    return [("known", []), *([("strangers", left_out)] if left_out else [])]


def _counts(file: QuestionFile, drawn: Draw, bank: MemoryBank) -> dict[str, Any]:
    """What a run was measured on: its questions by topic and number, and how many there were of what."""
    trained = sum(len(fact.trained) for fact in drawn.facts)
    counts = {
        "topics": len(bank),
        "passages": sum(len(memory.passages) for memory in bank),
        "trained": trained,
        "validation": sum(len(fact.validation) for fact in drawn.facts),
        "asked": len(drawn.asked),
        "strangers": len(drawn.strangers),
        "met": drawn.met,
    }
    return {
        "counts": counts,
        "left_out": file.left_out,
        "asked": [[question.topic, question.number, question.kind] for question in drawn.asked],
        "strangers": [[question.topic, question.number] for question in drawn.strangers],
    }


class _Run:
    """One draw of one file."""

    def __init__(self, drawn: Draw, encoder: Encoder, training: Training, place: Path) -> None:
        self.encoder, self.training, self.place = encoder, training, place
        self.bank = bare_bank(drawn.facts, encoder, drawn.documents)
        self.known = self._questions(drawn.asked)
        none = len(self.bank)
        self.strangers = unrelated_questions([question.text for question in drawn.strangers], none)
        self.unrelated = unrelated_questions(general_questions(), none)

    def _questions(self, asked: Sequence[Asked]) -> Questions:
        number = {name: place for place, name in enumerate(self.bank.names)}
        memory = torch.tensor([number[question.topic] for question in asked], dtype=torch.long)
        return Questions(
            [question.text for question in asked],
            memory,
            [None] * len(asked),
            [f"{question.topic}/{question.number}" for question in asked],
        )

    @torch.no_grad()
    def measure(self) -> dict[str, Any]:
        """Each router's doings by name: a list of each kind, in the order of the questions."""
        routers: dict[str, Any] = self._gates()
        for name, scores in rivals(self.bank, self.encoder).items():
            known, strangers, unrelated = (
                scores(questions.texts) for questions in (self.known, self.strangers, self.unrelated)
            )
            routers[name] = self._scored(known, strangers, unrelated)
            if name == CENTROID_ELSE_ALL:
                sure = [(found.amax(-1) >= SURE).int() for found in (known, strangers, unrelated)]
                right = sure[0] * torch.tensor(routers[name]["right"], dtype=torch.int)
                routers[name] |= {"right": right.tolist(), **_routed(*sure)}
        return {"routers": routers}

    def _scored(self, known: Tensor, strangers: Tensor, unrelated: Tensor) -> dict[str, Any]:
        right = known.argmax(-1) == self.known.memory
        best = {
            name: [round(value, 5) for value in scores.amax(-1).tolist()]
            for name, scores in (("known", known), ("strange", strangers), ("unrelated", unrelated))
        }
        return {"right": right.int().tolist(), "best": best}

    def _gates(self) -> dict[str, Any]:
        """The gate alone, which always chooses a memory, and the policy, which may leave a question to the base."""
        features = self.training.gate_features()
        gate = new_gate(self.bank, self.encoder, 0, features).requires_grad_(False)
        router = Router(self.bank, gate, Policy(), lambda: self.encoder)
        data = RoutingData(
            router,
            read_questions(),
            batch_size=self.training.batch_size,
            seed=self.training.seed,
            unknown_names=self.training.unknown_names,
        )
        began = time.perf_counter()
        fit(router, data, self.training, self.place, quiet=True)
        figures = calibrate(router, data, self.training)
        router.policy = Policy(**figures["policy"])
        seconds = round(time.perf_counter() - began, 1)
        kinds = (self.known, self.strangers, self.unrelated)
        probabilities, decisions = zip(*(self._decided(router, questions.texts) for questions in kinds), strict=True)
        routed = [(decided.source > 0).int() for decided in decisions]
        right = routed[0] * (decisions[0].weights.argmax(-1) == self.known.memory)
        gate_figures = self._scored(*(rows[:, :-1] for rows in probabilities))
        sure, chosen = torch.cat(probabilities[:2]).max(-1)
        hit = chosen == torch.cat([self.known.memory, self.strangers.memory])
        gate_figures |= {"sure": [round(value, 5) for value in sure.tolist()], "hit": hit.int().tolist()}
        policy = {"right": right.tolist(), "best": gate_figures["best"], **_routed(*routed)}
        details = {"thresholds": figures["policy"], "calibration": figures["calibration"], "seconds": seconds}
        return {GATE: gate_figures, POLICY: {**policy, **details}}

    def _decided(
        self, router: Router, texts: list[str]
    ) -> tuple[Float[Tensor, "questions memories_and_none"], Decision]:
        features = router.features(texts)
        return router.logits(features).softmax(-1), router.decide(features)


def _routed(known: Tensor, strangers: Tensor, unrelated: Tensor) -> dict[str, Any]:
    return {"routed": {"known": known.tolist(), "strange": strangers.tolist(), "unrelated": unrelated.tolist()}}

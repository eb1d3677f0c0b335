"""Composite → numbers: what is recalled under held-out wordings, through which route, at what damage."""

from __future__ import annotations

import json
import platform
import resource
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorary.composite import load_composite
from lorary.eval.asking import CONDITIONS, Asked, answers, longest_answer, perplexity, routing_scores
from lorary.eval.questions import NEAR_COPY, Question, held_out, unrelated_questions, unrelated_text
from lorary.eval.report import write_report
from lorary.eval.scores import auroc, exact_match, interval, token_f1
from lorary.files import write_aside
from lorary.modeling import LoraryForCausalLM
from lorary.progress import progress_bar

_VERSIONS = ("lorary", "torch", "transformers", "peft", "lightning", "sentence-transformers", "faiss-cpu")


def recall(
    composite: str | Path | LoraryForCausalLM,
    *,
    out: str | Path,
    questions: str | Path | None = None,
    conditions: Sequence[str] = CONDITIONS,
    batch_size: int = 32,
    seed: int = 0,
    quiet: bool = False,
) -> dict[str, Any]:
    """Asks every held-out wording under every condition; writes and returns the results.

    Writes `results.json`, `report.md` and `predictions.jsonl` into `out`.

    Args:
        questions: JSONL of facts to ask instead of the held-out wordings in the bank.
        conditions: any of base, oracle, gate, index, policy, uniform, shuffled.
        seed: of the wrong memories and the bootstrap.

    Raises:
        FactError: nothing to ask, or a question that was trained on; ValueError: an unknown condition.
    """
    if unknown := [c for c in conditions if c not in CONDITIONS]:
        raise ValueError(f"condition {unknown[0]!r} is unknown; choose from {list(CONDITIONS)}")
    began = time.perf_counter()
    model = load_composite(composite) if isinstance(composite, (str, Path)) else composite
    asked, nearest = held_out(model.router.bank, questions)
    results = _configuration(composite, asked, nearest, seed, batch_size)
    cards = {memory.name: dict(memory.card) for memory in model.router.bank}
    results["configuration"]["memories"] = cards
    results["configuration"]["router"] = {"policy": model.config.policy, **getattr(model.config, "router_training", {})}
    results["conditions"], predictions = _conditions(model, asked, conditions, batch_size, seed, quiet)
    results["routing"], results["abstention"] = _routing(model, asked, predictions)
    paragraphs = unrelated_text()
    base, routed = perplexity(model, paragraphs, base_alone=True), perplexity(model, paragraphs)
    results["retention"] = {"perplexity_ratio": routed / base, "perplexity_base": base, "perplexity_policy": routed}
    results["seconds"] = {"recall": round(time.perf_counter() - began, 1)}
    results["peak_rss_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    write_results(results, Path(out))
    lines = (json.dumps(p, ensure_ascii=False) for rows in predictions.values() for p in rows)
    write_aside(Path(out) / "predictions.jsonl", ("\n".join(lines) + "\n").encode())
    return results


def write_results(results: dict[str, Any], out: Path) -> None:
    """Writes `results.json` and the `report.md` that tells it."""
    write_aside(out / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    write_aside(out / "report.md", write_report(results).encode())


def composite_hash(folder: str | Path) -> str:
    """Hex sha256 of what decides a composite's answers: its bank, gate and config."""
    digest = sha256()
    for name in ("bank.json", "model.safetensors", "config.json"):
        digest.update((Path(folder) / name).read_bytes())
    return digest.hexdigest()


def _configuration(
    composite: Any, asked: Sequence[Question], nearest: float, seed: int, batch_size: int
) -> dict[str, Any]:
    told = json.dumps([vars(q) for q in asked], sort_keys=True).encode()
    named = isinstance(composite, (str, Path))
    return {
        "schema": 1,
        "configuration": {
            "questions": len(asked),
            "questions_sha256": sha256(told).hexdigest(),
            "composite_sha256": composite_hash(composite) if named else None,
            "leak_check": {"threshold": NEAR_COPY, "greatest_similarity": round(nearest, 3)},
            "batch_size": batch_size,
            "decoding": "greedy",
        },
        "seeds": {"bootstrap": seed, "shuffled": seed},
        "versions": {name: version(name) for name in _VERSIONS},
        "machine": {"python": platform.python_version(), "threads": torch.get_num_threads(), "cpu": platform.machine()},
    }


def _conditions(
    model: LoraryForCausalLM,
    asked: Sequence[Question],
    conditions: Sequence[str],
    batch_size: int,
    seed: int,
    quiet: bool,
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """(scores by condition, predictions by condition)."""
    scores: dict[str, Any] = {}
    predictions: dict[str, list[dict[str, Any]]] = {}
    rows = [Asked(q.text, q.memory) for q in asked]
    clusters = [q.fact for q in asked]
    new_tokens = longest_answer(model, [q.answer for q in asked]) + 1
    with progress_bar("recall", quiet) as bar:
        bar.start("recall", len(conditions) * len(rows))
        for condition in conditions:
            began = time.perf_counter()
            kwargs: dict[str, Any] = {"new_tokens": new_tokens, "batch_size": batch_size, "seed": seed}
            said = answers(model, rows, condition, **kwargs, advance=lambda n, c=condition: bar.advance(n, c))
            predictions[condition] = [_prediction(condition, q, *given) for q, given in zip(asked, said, strict=True)]
            kept = predictions[condition]
            scores[condition] = {
                "exact_match": interval([p["exact_match"] for p in kept], clusters, seed=seed),
                "token_f1": interval([p["token_f1"] for p in kept], clusters, seed=seed),
                "seconds": round(time.perf_counter() - began, 1),
            }
    return scores, predictions


def _prediction(condition: str, question: Question, said: str, route: Any) -> dict[str, Any]:
    return {
        "condition": condition,
        "memory": question.memory,
        "question": question.text,
        "answer": question.answer,
        "said": said,
        "exact_match": exact_match(said, question.answer),
        "token_f1": token_f1(said, question.answer),
        "route": {**vars(route), "confidence": round(route.confidence, 4)},
    }


def _routing(
    model: LoraryForCausalLM, asked: Sequence[Question], predictions: dict[str, list[dict[str, Any]]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(top-1 and top-3 by router, abstention). A policy's top-1 counts "none" as wrong."""
    right = torch.tensor([model.memories.index(q.memory) for q in asked])
    probabilities, votes = routing_scores(model, [q.text for q in asked])
    unrelated, _ = routing_scores(model, unrelated_questions())
    gate = probabilities[:, :-1]
    routing = {
        name: {"top1": _top(s, right, 1), "top3": _top(s, right, 3)} for name, s in (("gate", gate), ("index", votes))
    }
    routing["policy"] = dict(routing["gate"])
    if "policy" in predictions:
        hits = [p["route"]["memories"][:1] == (p["memory"],) for p in predictions["policy"]]
        routing["policy"]["top1"] = sum(hits) / len(hits)
    known = (1 - probabilities[:, -1]).tolist()
    unknown = (1 - unrelated[:, -1]).tolist()
    policy = model.router.policy
    left = float((unrelated[:, :-1].max(-1).values < policy.t_gate).float().mean())
    return routing, {
        "auroc": auroc(known, unknown),
        "unrelated_questions": len(unknown),
        "gate_leaves_unrelated": left,
    }


def _top(scores: torch.Tensor, right: torch.Tensor, k: int) -> float:
    best = scores.topk(min(k, scores.shape[1]), dim=-1).indices
    return float((best == right.unsqueeze(-1)).any(-1).float().mean())

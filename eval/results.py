"""The results of a recall run on disk: typed by `schema`, written after each condition, so that a run goes on."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence, Set
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lorary.bank.facts import read_lines
from lorary.bank.files import MANIFEST, write_aside
from lorary.errors import LoraryError, reading
from lorary.eval.page import page
from lorary.eval.predictions import Prediction
from lorary.eval.questions import NEAR_COPY, Question, headline
from lorary.eval.report import write_report
from lorary.eval.sources import Source

SCHEMA = 7
_VERSIONS = ("lorary", "torch", "transformers", "peft", "lightning", "sentence-transformers", "faiss-cpu")
_COST = {"seconds", "latency", "peak_rss_mib", "generated"}
"""What the same seeds need not repeat: times, memory, and how many answers no earlier condition had met."""
_ELSEWHERE = "elsewhere_sha256"
"""Where the configuration has the hashes of what is asked beside the composite: a file of answers, a bank; by condition."""
Predictions = dict[str, list[Prediction]]


def hash_of_bank(folder: str | Path) -> str:
    """Hex sha256 of a bank's manifest, which holds the hash of each of its files."""
    return sha256((Path(folder) / MANIFEST).read_bytes()).hexdigest()


def header(
    source: Source,
    questions: Sequence[Question],
    nearest: float,
    settings: dict[str, Any],
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What made the results: configuration, seeds, versions, machine.

    Args:
        elsewhere: hex sha256 of what each condition was answered by that is not the composite's.
    """
    # Without what a question does not have, so that runs from before it could have it go on.
    asked = json.dumps([{k: v for k, v in vars(q).items() if v or k != "parts"} for q in questions], sort_keys=True)
    model = source.model
    return {
        "schema": SCHEMA,
        "partial": True,
        "configuration": {
            "questions": len(questions),
            "scored": sum(headline(questions)),
            "scored_wordings": "held-out" if any(q.recalled and not q.trained for q in questions) else "trained",
            "questions_sha256": sha256(asked.encode()).hexdigest(),
            "source_sha256": source.sha256,
            "gated": source.gated,
            "leak_check": {"threshold": NEAR_COPY, "greatest_similarity": round(nearest, 3)},
            "decoding": "greedy",
            **{key: value for key, value in settings.items() if key != "seed"},
            _ELSEWHERE: dict(elsewhere or {}),
            "memories": {memory.name: dict(memory.card) for memory in model.router.bank},
            "router": {"policy": model.config.policy, **getattr(model.config, "router_training", {})},
        },
        "seeds": {"bootstrap": settings["seed"], "shuffled": settings["seed"]},
        "versions": {name: version(name) for name in _VERSIONS},
        "machine": {"python": platform.python_version(), "threads": torch.get_num_threads(), "cpu": platform.machine()},
        "conditions": {},
        "studies": {},
    }


def resume(results: dict[str, Any], out: Path) -> Predictions:
    """The finished conditions of an earlier run with the same header, put into `results`; else nothing.

    Its studies, damage and latency are put there too. What is asked elsewhere does not touch what was asked here: other
    answers and banks leave the rest standing, and those that are not given again stand as well.
    """
    try:
        before, kept = read(out)
    except (OSError, ValueError):
        return {}
    asked, asked_before = (
        {k: v for k, v in told["configuration"].items() if k != _ELSEWHERE} for told in (results, before)
    )
    same = all(before.get(key) == results[key] for key in ("schema", "seeds", "versions")) and asked == asked_before
    if not same or results["configuration"]["source_sha256"] is None:
        return {}
    wanted, given = results["configuration"]["questions"], results["configuration"][_ELSEWHERE]
    given_before = before["configuration"].get(_ELSEWHERE, {})
    changed = {name for name, content in given.items() if content != given_before.get(name)}
    finished = {n: s for n, s in before["conditions"].items() if len(kept.get(n, [])) == wanted and n not in changed}
    results["configuration"][_ELSEWHERE] = {n: given_before[n] for n in finished if n in given_before} | given
    results["conditions"].update(finished)
    results["studies"] = before.get("studies", {})
    results |= {key: before[key] for key in ("retention", "latency") if key in before}
    if "retention" in results:
        results["retention"] = _without(results["retention"], changed)
    return {name: kept[name] for name in finished}


def _without(damage: Mapping[str, Any], conditions: Set[str]) -> dict[str, Any]:
    """Measured damage less that of some conditions."""
    gone = {f"{what}_{name}" for name in conditions for what in ("perplexity", "kl")}
    kept = {key: value for key, value in damage.items() if key not in gone}
    return kept | {"conditions": [name for name in damage["conditions"] if name not in conditions]}


def read(folder: Path) -> tuple[dict[str, Any], Predictions]:
    """(results, predictions by condition) of a run. Raises ValueError for what is not one of this version."""
    if not (folder / "results.json").is_file():
        raise ValueError(f"{folder} holds no results.json; give a folder that `lorary recall` wrote")
    again = "run `lorary recall` again"
    with reading(folder / "results.json", again):
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        if not isinstance(results, dict):
            raise LoraryError(
                f"{folder / 'results.json'} must hold a JSON object, this one is {type(results).__name__}"
            )
    if results.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder / 'results.json'} has schema {results.get('schema')!r}, this version reads {SCHEMA}; "
            "run `lorary recall` again"
        )
    predictions: Predictions = {}
    with reading(folder / "predictions.jsonl", again):
        for _, prediction in read_lines(folder / "predictions.jsonl"):
            predictions.setdefault(prediction["condition"], []).append(prediction)
    return results, predictions


def without_cost(told: Any) -> Any:
    """Results without what they cost: times, memory, and what was reused. The same seeds give the same of the rest."""
    if isinstance(told, dict):
        return {key: without_cost(value) for key, value in told.items() if key not in _COST}
    return [without_cost(value) for value in told] if isinstance(told, list) else told


def write(results: dict[str, Any], predictions: Predictions, out: Path) -> None:
    """Writes `predictions.jsonl`, then `results.json` and the reports that tell it."""
    lines = [json.dumps(p, ensure_ascii=False) for rows in predictions.values() for p in rows]
    write_aside(out / "predictions.jsonl", ("\n".join(lines) + "\n").encode())
    write_aside(out / "results.json", (json.dumps(results, indent=2) + "\n").encode())
    write_aside(out / "report.md", write_report(results).encode())
    write_aside(out / "report.html", page(results, predictions).encode())

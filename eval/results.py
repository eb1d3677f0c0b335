"""A run on disk: written after each condition, read back, and gone on with where the settings are the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace as replaced
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from lorary.bank.facts import read_lines
from lorary.bank.files import MANIFEST, write_aside
from lorary.errors import LoraryError
from lorary.eval.evaluated import Evaluated
from lorary.eval.measurements import Retention
from lorary.eval.page import page
from lorary.eval.questions import NEAR_COPY, Question, headline
from lorary.eval.records import SCHEMA, Prediction, Predictions, Results
from lorary.eval.report import report

RESULTS, PREDICTIONS = "results.json", "predictions.jsonl"
_REPORTS = ("report.md", "report.html")
_VERSIONS = ("lorary", "torch", "transformers", "peft", "lightning", "sentence-transformers", "faiss-cpu")
_RESULTS_FORM, _LINE_FORM = TypeAdapter(Results), TypeAdapter(Prediction)
_COST = {"seconds", "latency", "peak_rss_mib", "generated"}
"""What the same seeds need not repeat: times, memory, and how many answers no earlier condition had met."""
_ELSEWHERE = "elsewhere_sha256"
"""Where the configuration has the hashes of what is asked beside the composite: a file of answers, a bank; by condition."""
_CALLED = {
    "source_sha256": "the composite, bank or adapters",
    "questions_sha256": "the questions",
    "leak_check": "the questions",
    "memories": "the memories",
    "router": "the router",
}
"""Settings that are told by a name, since their values are long."""


class RunError(LoraryError):
    """A folder of results that cannot be read, or must not be written over: says why, and what to do."""


def hash_of_bank(folder: str | Path) -> str:
    """Hex sha256 of a bank's manifest, which holds the hash of each of its files."""
    return sha256((Path(folder) / MANIFEST).read_bytes()).hexdigest()


def header(
    evaluated: Evaluated,
    questions: Sequence[Question],
    nearest: float,
    settings: dict[str, Any],
    elsewhere: Mapping[str, str] | None = None,
) -> Results:
    """What makes the results: configuration, seeds, versions, machine.

    Args:
        elsewhere: hex sha256 of what each condition was answered by that is not the composite's.
    """
    # Without what a question does not have, so that runs from before it could have it go on.
    content = json.dumps([{k: v for k, v in vars(q).items() if v or k != "parts"} for q in questions], sort_keys=True)
    model = evaluated.model
    configuration = {
        "questions": len(questions),
        "scored": sum(headline(questions)),
        "scored_wordings": "held-out" if any(q.recalled and not q.trained for q in questions) else "trained",
        "questions_sha256": sha256(content.encode()).hexdigest(),
        "source_sha256": evaluated.sha256,
        "gated": evaluated.gated,
        "leak_check": {"threshold": NEAR_COPY, "greatest_similarity": round(nearest, 3)},
        "decoding": "greedy",
        **{key: value for key, value in settings.items() if key != "seed"},
        _ELSEWHERE: dict(elsewhere or {}),
        "memories": {memory.name: dict(memory.card) for memory in model.router.bank},
        "router": {"policy": model.config.policy, **getattr(model.config, "router_training", {})},
    }
    return Results(
        configuration=json.loads(json.dumps(configuration)),  # as it is read back: tuples are lists there
        seeds={"bootstrap": settings["seed"], "shuffled": settings["seed"]},
        versions={name: version(name) for name in _VERSIONS},
        machine={"python": platform.python_version(), "threads": torch.get_num_threads(), "cpu": platform.machine()},
    )


def standing(out: Path) -> tuple[Results, Predictions] | None:
    """The run that stands in a folder; None where nothing of a run does.

    Raises:
        RunError: what stands there is no run of this version, so that it must not be written over.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give a folder for the results")
    if (out / RESULTS).exists():
        return read(out)
    if other := [name for name in (PREDICTIONS, *_REPORTS) if (out / name).exists()]:
        raise RunError(
            f"{out / other[0]} stands without a {RESULTS}, so `lorary recall` did not write it; give another folder"
        )
    return None


def resume(results: Results, before: tuple[Results, Predictions] | None, out: Path, *, replace: bool) -> Predictions:
    """The predictions of the finished conditions of a run with the same header, whose figures are put into `results`.

    Its studies, damage and latency are put there too. What is asked elsewhere does not touch what was asked here: other
    answers and banks leave the rest standing, and those that are not given again stand as well.

    Args:
        before: the run that stands in `out`.
        replace: whether a run of other settings may be replaced.

    Raises:
        RunError: a run of other settings stands, or one that cannot be told from this.
    """
    if before is None:
        return {}
    standing, kept = before
    if differing := _differing(standing, results):
        if replace:
            return {}
        raise RunError(
            f"{out} holds a run of other settings: {'; '.join(differing)}. Give another folder; --replace replaces the run"
        )
    wanted, elsewhere = results.configuration["questions"], results.configuration[_ELSEWHERE]
    elsewhere_before = standing.configuration.get(_ELSEWHERE, {})
    changed = {name for name, content in elsewhere.items() if content != elsewhere_before.get(name)}
    finished = {
        name: result
        for name, result in standing.conditions.items()
        if len(kept.get(name, [])) == wanted and name not in changed
    }
    stand = {name: elsewhere_before[name] for name in finished if name in elsewhere_before}
    results.configuration[_ELSEWHERE] = stand | elsewhere
    results.conditions.update(finished)
    results.studies, results.latency = standing.studies, standing.latency
    results.retention = standing.retention and without(standing.retention, changed)
    return {name: kept[name] for name in finished}


def _differing(before: Results, now: Results) -> list[str]:
    """What two runs differ by, in words; nothing where one can go on with the other."""
    if now.configuration["source_sha256"] is None:
        return ["the model is in memory, so nobody can tell whether it is the same"]
    told: dict[str, None] = {}
    for one, two in (
        (before.configuration, now.configuration),
        (before.seeds, now.seeds),
        (before.versions, now.versions),
    ):
        for key in dict.fromkeys([*one, *two]):
            if key != _ELSEWHERE and one.get(key) != two.get(key):
                values = f"{key} {one.get(key)!r} there, {two.get(key)!r} here"
                told[f"{_CALLED[key]} differ" if key in _CALLED else values] = None
    return list(told)


def without(retention: Retention, conditions: Set[str]) -> Retention:
    """Measured damage less that of some conditions."""
    damage = {name: damage for name, damage in retention.damage.items() if name not in conditions}
    asked = tuple(name for name in retention.conditions if name not in conditions)
    return replaced(retention, damage=damage, conditions=asked)


def to_json(results: Results) -> dict[str, Any]:
    """What `results.json` holds."""
    told: dict[str, Any] = _RESULTS_FORM.dump_python(results, mode="json")
    return told


def from_json(content: dict[str, Any]) -> Results:
    """The results that `to_json` wrote. Raises pydantic's ValidationError for what is of another form."""
    return _RESULTS_FORM.validate_python(content)


def read(folder: Path) -> tuple[Results, Predictions]:
    """(results, predictions by condition) of a run. Raises RunError for what is not one of this version."""
    path = folder / RESULTS
    if not path.is_file():
        raise RunError(f"{folder} holds no {RESULTS}; give a folder that `lorary recall` wrote")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path} is no JSON that can be read ({error}); give a folder that `lorary recall` wrote"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise RunError(f"{path} is no run of `lorary recall` (it has no schema number); give another folder")
    if content["schema"] != SCHEMA:
        raise RunError(
            f"{path} has schema {content['schema']}, this version reads {SCHEMA}; run `lorary recall` again into another "
            "folder"
        )
    predictions: Predictions = {}
    try:
        results = from_json(content)
        for _, line in read_lines(folder / PREDICTIONS):
            predicted = _LINE_FORM.validate_python(line)
            predictions.setdefault(predicted.condition, []).append(predicted)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RunError(
            f"{folder} is no run of `lorary recall`: {place}: {first['msg']}; give another folder"
        ) from error
    return results, predictions


def without_cost(told: Any) -> Any:
    """Results as JSON without what they cost: times, memory, and what was reused. The same seeds give the same rest."""
    if isinstance(told, dict):
        return {key: without_cost(value) for key, value in told.items() if key not in _COST}
    return [without_cost(value) for value in told] if isinstance(told, list) else told


def write(results: Results, predictions: Predictions, out: Path) -> None:
    """Writes `results.json` first, which says whose folder this is, then the predictions and the reports.

    Raises:
        RunError: a folder that cannot be written.
    """
    lines = [
        json.dumps(_LINE_FORM.dump_python(p, mode="json"), ensure_ascii=False)
        for rows in predictions.values()
        for p in rows
    ]
    content = json.dumps(to_json(results), indent=2, allow_nan=False)
    try:
        write_aside(out / RESULTS, f"{content}\n".encode())
        write_aside(out / PREDICTIONS, "".join(f"{line}\n" for line in lines).encode())
        write_aside(out / "report.md", report(results).encode())
        write_aside(out / "report.html", page(results, predictions).encode())
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); give a folder for the results") from error

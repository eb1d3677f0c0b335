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
from lorary.errors import reading
from lorary.eval.evaluated import Evaluated
from lorary.eval.figures import Retention
from lorary.eval.page import page
from lorary.eval.questions import NEAR_COPY, Question, headline
from lorary.eval.records import SCHEMA, STUDY, Prediction, Predictions, Results
from lorary.eval.report import report
from lorary.resume import REPORT, RESULTS, ResumeError, check_same, go_on, read_results

PREDICTIONS = "predictions.jsonl"
_REPORTS = (REPORT, "report.html")
_VERSIONS = ("lorary", "torch", "transformers", "peft", "lightning", "sentence-transformers", "faiss-cpu")
_RESULTS_FORM, _LINE_FORM = TypeAdapter(Results), TypeAdapter(Prediction)
_COST = {"seconds", "latency", "peak_rss_mib", "generated"}
"""What the same seeds need not repeat: times, memory, and how many answers no earlier condition had met."""
_ELSEWHERE = "elsewhere_sha256"
"""Where the configuration has the hashes of what is asked beside the composite: a file of answers, a bank; by condition."""
_IMPLIED = ("memories", "router", "leak_check", _ELSEWHERE)
"""What the hashes of the source and of the questions decide, and what does not touch what was asked here."""


class RunError(ResumeError):
    """A folder of results that cannot be read, gone on from or written: says why, and what to do."""


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
    content = json.dumps(
        [{k: v for k, v in vars(q).items() if v or k not in ("parts", "free")} for q in questions], sort_keys=True
    )
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
        ResumeError: what stands there is no run of this version, so that it must not be written over.
    """
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; give a folder for the results")
    content = go_on(out, STUDY, SCHEMA, {}, writes=(PREDICTIONS, *_REPORTS))
    return None if content is None else _typed(content, out)


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
    try:
        if results.configuration["source_sha256"] is None:
            raise RunError(
                f"{out} holds a run, and nobody can tell whether it is of this model, which is in memory; give another folder"
            )
        check_same(to_json(standing), _settings(results), str(out))
    except ResumeError as error:
        if replace:
            return {}
        raise RunError(f"{error}; --replace (replace=True) replaces the run") from error
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


def _settings(results: Results) -> dict[str, dict[str, Any]]:
    """What a run must have in common with one that goes on from it; the memories' cards are in the hash of their source."""
    configuration = {key: value for key, value in results.configuration.items() if key not in _IMPLIED}
    return {"configuration": configuration, "seeds": results.seeds, "versions": results.versions}


def without(retention: Retention, conditions: Set[str]) -> Retention:
    """Measured damage less that of some conditions."""
    damage = {name: damage for name, damage in retention.damage.items() if name not in conditions}
    names = tuple(name for name in retention.conditions if name not in conditions)
    return replaced(retention, damage=damage, conditions=names)


def to_json(results: Results) -> dict[str, Any]:
    """What `results.json` holds."""
    content: dict[str, Any] = _RESULTS_FORM.dump_python(results, mode="json")
    return content


def from_json(content: dict[str, Any]) -> Results:
    """The results that `to_json` wrote. Raises pydantic's ValidationError for what is of another form."""
    return _RESULTS_FORM.validate_python(content)


def read(folder: Path) -> tuple[Results, Predictions]:
    """(results, predictions by condition) of a run. Raises ResumeError for what is not one of this version."""
    return _typed(read_results(folder / RESULTS, STUDY, SCHEMA), folder)


def _typed(content: dict[str, Any], folder: Path) -> tuple[Results, Predictions]:
    """The same of decoded results, and of the predictions beside them."""
    predictions: Predictions = {}
    with reading(folder, "give a folder that `lorary recall` wrote"):
        try:
            results = from_json(content)
            for _, line in read_lines(folder / PREDICTIONS):
                predicted = _LINE_FORM.validate_python(line)
                predictions.setdefault(predicted.condition, []).append(predicted)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RunError(f"{folder} holds no run of `lorary recall`: {place}: {first['msg']}") from error
    return results, predictions


def without_cost(content: Any) -> Any:
    """Results as JSON without what they cost: times, memory, and what was reused. The same seeds give the same rest."""
    if isinstance(content, dict):
        return {key: without_cost(value) for key, value in content.items() if key not in _COST}
    return [without_cost(value) for value in content] if isinstance(content, list) else content


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
        write_aside(out / REPORT, report(results).encode())
        write_aside(out / "report.html", page(results, predictions).encode())
    except OSError as error:
        raise RunError(f"{out}: cannot be written ({error.strerror}); give a folder for the results") from error

"""The table of a recall run, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table


def _cell(score: dict[str, float]) -> str:
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


_COLUMNS = ("condition", "exact match (95 %)", "token F1 (95 %)", "routing top-1", "top-3", "seconds")


def _rows(results: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, scores in results["conditions"].items():
        shown = f"{name}: {scores['meaning']}"
        if "skipped" in scores:
            rows.append([shown, f"skipped: {scores['skipped']}", *["–"] * (len(_COLUMNS) - 2)])
            continue
        route = results.get("routing", {}).get(name)
        top = [f"{route['top1']:.3f}", f"{route['top3']:.3f}"] if route else ["–", "–"]
        rows.append([shown, _cell(scores["exact_match"]), _cell(scores["token_f1"]), *top, _seconds(scores)])
    return rows


def _seconds(scores: dict[str, Any]) -> str:
    """The time a condition took; where another had already met a question under the same route, what was left to do."""
    reused = scores["questions"] - scores["generated"]
    return f"{scores['seconds']:.0f}" + (f" ({reused} answers shared)" if reused else "")


def table(results: Mapping[str, Any]) -> str:
    """The Markdown table of conditions, with 95 % intervals."""
    return _markdown([list(_COLUMNS), *_rows(results)])


def rich_table(results: Mapping[str, Any]) -> Table:
    """The same for a terminal."""
    shown = Table(title="Recall under held-out wordings")
    for column in _COLUMNS:
        shown.add_column(column)
    for row in _rows(results):
        shown.add_row(*row)
    shown.caption = "\n".join(notes(results))
    return shown


def notes(results: Mapping[str, Any]) -> list[str]:
    """What to know about a run beyond its table, a line each."""
    configuration, check = results["configuration"], results["configuration"]["leak_check"]
    lines = [
        f"- {configuration['scored']} held-out wordings; the one nearest to a trained wording has similarity "
        f"{check['greatest_similarity']} (from {check['threshold']} it would be refused).",
    ]
    if configuration["scored_wordings"] == "trained":
        lines = [f"- **No wording is held out**: the {configuration['scored']} scored ones were trained on."]
    if results["partial"]:
        return ["- **Partial**: the run is not finished; the same command goes on.", *lines]
    retention, abstention = results["retention"], results["abstention"]
    return [
        *lines,
        f"- Known against {abstention['unrelated_questions']} unrelated questions: AUROC {abstention['auroc']:.3f}"
        + "".join(f"; against {kind} ones {value:.3f}" for kind, value in abstention["auroc_by_kind"].items())
        + ".",
        f"- Perplexity on unrelated text: {retention['perplexity_ratio']:.4f} × the base's "
        f"({retention['perplexity_policy']:.2f} against {retention['perplexity_base']:.2f}); KL to the base "
        f"{retention['kl_policy']:.4f} nats a token.",
        f"- Under a memory wrongly forced on that text: perplexity {retention['perplexity_forced']:.2f}, "
        f"KL {retention['kl_forced']:.4f}.",
        f"- One question, median: {_latency(results['latency'])}.",
        "- Seconds: " + ", ".join(f"{k} {v:.0f}" for k, v in results["seconds"].items()) + ".",
        f"- Peak memory: {results['peak_rss_mib']} MiB.",
        "- Versions: " + ", ".join(f"{k} {v}" for k, v in results["versions"].items()) + ".",
    ]


def _latency(told: dict[str, Any]) -> str:
    """Where the milliseconds of an answer go, by the base and by the policy."""
    return "; ".join(
        f"{name} " + ", ".join(f"{part} {ms:.0f} ms" for part, ms in told[name].items()) + " a token"
        for name in ("base", "policy")
    )


def by_kind(results: Mapping[str, Any]) -> list[list[str]]:
    """Rows of (kind, questions, score by condition …), the conditions in the first row; nothing for a single kind."""
    run = {name: s["by_kind"] for name, s in results["conditions"].items() if "by_kind" in s}
    kinds = list(next(iter(run.values()), {}))
    if len(kinds) < 2:
        return []
    rows = [["kind", "questions", *run]]
    for kind in kinds:
        for measure, note in (("exact_match", "exact match"), ("left_to_base", "left to the base")):
            told = [held[kind].get(measure) for held in run.values()]
            if told[0] is not None:
                count = str(next(iter(run.values()))[kind]["questions"])
                rows.append([f"{kind}: {note}", count, *(f"{score['value']:.3f}" for score in told)])
    return rows


def compared(told: Mapping[str, Any]) -> str:
    """The Markdown table of runs side by side; differences whose interval excludes 0 are bold."""
    first = told["runs"][0]["run"]
    rows = [["run", *_COLUMNS[1:3], "exact match − first", "token F1 − first"]]
    changes = {d["run"]: [_change(d["exact_match"]), _change(d["token_f1"])] for d in told["differences"]}
    for run in told["runs"]:
        name = f"{run['run']} (partial)" if run["partial"] else run["run"]
        rows.append([name, _cell(run["exact_match"]), _cell(run["token_f1"]), *changes.get(run["run"], ["–", "–"])])
    asked = f"Condition {told['condition']}: {told['questions']} questions on {told['facts']} facts."
    means = f"Differences are to {first}, by a paired bootstrap over facts; bold where the 95 % interval excludes 0."
    return "\n".join([_markdown(rows), "", asked, means])


def _change(score: Mapping[str, Any]) -> str:
    shown = f"{score['value']:+.3f} ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"**{shown}**" if score["differs"] else shown


def _markdown(rows: list[list[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]] if rows else []
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def write_report(results: Mapping[str, Any]) -> str:
    """The whole report in Markdown."""
    kinds = by_kind(results)
    parts = ["# Recall", "", table(results), "", *([_markdown(kinds), ""] if kinds else []), *notes(results), ""]
    return "\n".join(parts)

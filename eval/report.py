"""The table of a recall run, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lorary.eval.certainty import by_certainty
from lorary.eval.predictions import MEASURES
from lorary.eval.prior import THIRDS
from lorary.tables import markdown_table


def value_in(score: Mapping[str, float]) -> str:
    """A value within its interval."""
    return f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})"


def measured(results: Mapping[str, Any]) -> dict[str, str]:
    """Measure → its name, of those that a condition of the run has."""
    told = results["conditions"].values()
    return {measure: name for measure, name in MEASURES.items() if any(measure in scores for scores in told)}


def _rows(results: Mapping[str, Any]) -> list[list[str]]:
    """The head of the table and its rows."""
    measures = measured(results)
    rows = [["condition", *(f"{name} (95 %)" for name in measures.values()), "routing top-1", "top-3", "seconds"]]
    for name, scores in results["conditions"].items():
        shown = f"{name}: {scores['meaning']}"
        if "skipped" in scores:
            rows.append([shown, f"skipped: {scores['skipped']}", *["–"] * (len(rows[0]) - 2)])
            continue
        route = results.get("routing", {}).get(name)
        top = [f"{route['top1']:.3f}", f"{route['top3']:.3f}"] if route else ["–", "–"]
        values = (value_in(scores[measure]) if measure in scores else "–" for measure in measures)
        rows.append([shown, *values, *top, _seconds(scores)])
    return rows


def _seconds(scores: dict[str, Any]) -> str:
    """The time a condition took; where another had already met a question under the same route, what was left to do."""
    reused = scores["questions"] - scores["generated"]
    return f"{scores['seconds']:.0f}" + (f" ({reused} answers shared)" if reused else "")


def table(results: Mapping[str, Any]) -> str:
    """The Markdown table of conditions, with 95 % intervals."""
    return markdown_table(_rows(results))


def rich_table(results: Mapping[str, Any]) -> Table:
    """The same for a terminal."""
    shown = Table(title="Recall under held-out wordings")
    head, *rows = _rows(results)
    for column in head:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*row)
    shown.caption = "\n".join(notes(results))
    return shown


def notes(results: Mapping[str, Any]) -> list[str]:
    """What to know about a run beyond its table, a line each; of a partial run, what stands so far."""
    lines = ["- **Partial**: the run is not finished; the same command goes on."] if results["partial"] else []
    lines += _asked(results) if results["configuration"]["questions"] else []
    if results.get("differences"):
        lines.append("- Differences: a paired bootstrap over facts; bold where the 95 % interval excludes 0.")
    if abstention := results.get("abstention"):
        by_kind = "".join(f"; against {kind} ones {value:.3f}" for kind, value in abstention["auroc_by_kind"].items())
        lines.append(
            f"- Known against {abstention['unrelated_questions']} unrelated questions: AUROC "
            f"{abstention['auroc']:.3f}{by_kind}."
        )
    if results.get("certainty"):
        lines.append(
            "- How likely an answer was, a token on average, parts right answers from others: the AUROC is over what "
            "memories answered, and 0.5 is chance."
        )
    if not results["configuration"]["gated"]:
        lines.append("- No gate was trained for these memories: nothing is told of routing and its time.")
    several = {n: r["together"] for n, r in results.get("routing", {}).items() if "together" in r}
    if several:
        shares = ", ".join(f"{name} {share:.3f}" for name, share in several.items())
        lines.append(f"- Questions on several memories, all of them found: {shares}.")
    if retention := results.get("retention"):
        if "perplexity_ratio" in retention:
            lines.append(
                f"- Perplexity on unrelated text: {retention['perplexity_ratio']:.4f} × the base's "
                f"({retention['perplexity_policy']:.2f} against {retention['perplexity_base']:.2f}); KL to the base "
                f"{retention['kl_policy']:.4f} nats a token."
            )
        lines += [
            f"- Under a memory wrongly forced on that text: perplexity {retention['perplexity_forced']:.2f}, "
            f"KL {retention['kl_forced']:.4f}.",
        ]
    if "latency" in results:
        lines.append(f"- One question, median: {_latency(results['latency'])}.")
    if not results["partial"]:
        lines.append("- Seconds: " + ", ".join(f"{k} {v:.0f}" for k, v in results["seconds"].items()) + ".")
        lines.append(f"- Peak memory of the largest process: {results['peak_rss_mib']} MiB.")
    return [*lines, "- Versions: " + ", ".join(f"{k} {v}" for k, v in results["versions"].items()) + "."]


def _asked(results: Mapping[str, Any]) -> list[str]:
    """What the scored questions are, and what their accuracy means."""
    configuration, check = results["configuration"], results["configuration"]["leak_check"]
    scored = configuration["scored"]
    told = (
        f"- {scored} held-out wordings; the one nearest to a trained wording has similarity "
        f"{check['greatest_similarity']} (from {check['threshold']} it would be refused)."
    )
    if configuration["scored_wordings"] == "trained":
        told = f"- **No wording is held out**: the {scored} scored ones were trained on."
    if not any("accuracy" in scores for scores in results["conditions"].values()):
        return [told]
    meaning = "the answer is the likeliest of its options, by the mean log-probability of an option's tokens"
    return [told, f"- Accuracy: {meaning}."]


def _latency(told: dict[str, Any]) -> str:
    """Where the milliseconds of an answer go, by the base and by the policy."""
    return "; ".join(
        f"{name} " + ", ".join(f"{part} {ms:.0f} ms" for part, ms in told[name].items()) + " a token"
        for name in ("base", "policy")
    )


_OF_KIND = {
    "exact_match": "exact match",
    "accuracy": "accuracy",
    "facts_told": "facts told",
    "all_told": "all facts told",
    "left_to_base": "left to the base",
}


def by_kind(results: Mapping[str, Any]) -> list[list[str]]:
    """Rows of (kind, questions, score by condition …), the conditions in the first row; nothing for a single kind."""
    run = {name: s["by_kind"] for name, s in results["conditions"].items() if "by_kind" in s}
    kinds = list(next(iter(run.values()), {}))
    if len(kinds) < 2:
        return []
    rows = [["kind", "questions", *run]]
    for kind in kinds:
        for measure, note in _OF_KIND.items():
            told = [held[kind].get(measure) for held in run.values()]
            if told[0] is not None:
                count = str(next(iter(run.values()))[kind]["questions"])
                rows.append([f"{kind}: {note}", count, *(f"{score['value']:.3f}" if score else "–" for score in told)])
    return rows


def by_prior(results: Mapping[str, Any]) -> list[list[str]]:
    """Rows of (kind and strength of the base's prior, its range, questions, accuracy by condition …), the conditions in
    the first row; nothing for a run whose questions have no options."""
    kinds = results.get("prior") or {}
    if not kinds:
        return []
    run = list(next(iter(kinds.values()))[0]["conditions"])
    rows = [["accuracy by the base's prior against the answer", "nats a token", "questions", *run]]
    for kind, thirds in kinds.items():
        for strength, told in zip(THIRDS, thirds, strict=False):
            scores = [f"{told['conditions'][name]['accuracy']['value']:.3f}" for name in run]
            span = f"{told['least']:.2f} to {told['greatest']:.2f}"
            rows.append([f"{kind}: {strength}", span, str(told["questions"]), *scores])
    return rows


def by_damage(results: Mapping[str, Any]) -> list[list[str]]:
    """Rows of (condition, perplexity of the text, as a multiple of the base's, KL to the base), the head first; nothing
    for a run that did not measure it."""
    told = results.get("retention") or {}
    if not told:
        return []
    rows = [["condition", "perplexity", "÷ the base's", "KL to the base, nats a token"]]
    for key, value in told.items():
        name = key.removeprefix("perplexity_")
        if name != key and name != "ratio":
            ratio = value / told["perplexity_base"]
            rows.append([name, f"{value:.2f}", f"{ratio:.4f}", f"{told.get(f'kl_{name}', 0.0):.4f}"])
    return rows


def by_difference(results: Mapping[str, Any]) -> list[list[str]]:
    """Rows of (condition, its exact match less that of the condition it is compared to, the same of what contains the
    answer), the head first; nothing for a run of one condition. What is more than chance is marked."""
    told = results.get("differences") or {}
    rows = [[f"less {told['against']}", "exact match", "contains the answer"]] if told else []
    for name, scores in told.get("conditions", {}).items():
        rows.append([name, *(change(scores[measure]) for measure in ("exact_match", "contains"))])
    return rows


def by_number(rows: Sequence[Mapping[str, Any]], by: str, number: str) -> list[list[str]]:
    """Exact match by what a study's rows tell of (down) and the number of memories (across), the head first; nothing
    for no rows. What could not be measured is a dash."""
    numbers = sorted({row[number] for row in rows})
    told = {(row[by], row[number]): f"{row['exact_match']['value']:.3f}" for row in rows if "exact_match" in row}
    names = dict.fromkeys(row[by] for row in rows)
    lines = [[name, *(told.get((name, n), "–") for n in numbers)] for name in names]
    return [["exact match", *map(str, numbers)], *lines] if lines else []


def tables(results: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Title → rows, the head first, of what there is beyond the conditions."""
    studies = results.get("studies", {})
    found = {
        "By kind of question": by_kind(results),
        "By strength of the prior": by_prior(results),
        "Differences on the same questions": by_difference(results),
        "How often a right answer is the likelier one (AUROC)": by_certainty(results),
        "By number of memories in the bank": by_number(studies.get("in_bank", ()), "condition", "memories"),
        "By number of memories merged": by_number(studies.get("by_merging", ()), "how", "merged"),
        "Damage to unrelated text": by_damage(results),
    }
    return {title: rows for title, rows in found.items() if rows}


def compared(told: Mapping[str, Any]) -> str:
    """The Markdown table of runs side by side; differences whose interval excludes 0 are bold."""
    first = told["runs"][0]["run"]
    measures = {measure: name for measure, name in MEASURES.items() if measure in told["runs"][0]}
    rows = [["run", *(f"{n} (95 %)" for n in measures.values()), *(f"{n} − first" for n in measures.values())]]
    changes = {d["run"]: [change(d[measure]) for measure in measures] for d in told["differences"]}
    for run in told["runs"]:
        name = f"{run['run']} (partial)" if run["partial"] else run["run"]
        cells = [value_in(run[measure]) for measure in measures]
        rows.append([name, *cells, *changes.get(run["run"], ["–"] * len(measures))])
    asked = f"Condition {told['condition']}: {told['questions']} questions on {told['facts']} facts."
    means = f"Differences are to {first}, by a paired bootstrap over facts; bold where the 95 % interval excludes 0."
    return "\n".join([markdown_table(rows), "", asked, means])


def change(score: Mapping[str, Any]) -> str:
    """A difference with its interval, bold where that excludes 0."""
    shown = f"{score['value']:+.3f} ({score['low']:+.3f} to {score['high']:+.3f})"
    return f"**{shown}**" if score["differs"] else shown


def write_report(results: Mapping[str, Any]) -> str:
    """The whole report in Markdown."""
    parts = ["# Recall", *([table(results)] if results["conditions"] else [])]
    for title, rows in tables(results).items():
        parts += [f"## {title}", markdown_table(rows)]
    return "\n\n".join([*parts, "\n".join(notes(results))]) + "\n"

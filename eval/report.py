"""The report of a recall run in Markdown, for people. What was not measured is a dash, or is not told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lorary.eval.certainty import COVERAGES, THIRDS
from lorary.eval.figures import Area, Difference, Score, Timing
from lorary.eval.records import BankStudy, ConditionResult, KindResult, MergeStudy, Results
from lorary.tables import ABSENT, counted, difference, figure, markdown_table, with_interval


def value_in(score: Score | None) -> str:
    """A value within its interval."""
    return with_interval(score and vars(score))


def change(score: Difference | None) -> str:
    """A difference with its interval, bold where that excludes 0."""
    return difference(score and vars(score))


def _rows(results: Results) -> list[list[str]]:
    """The head of the table of conditions and its rows."""
    measures = results.measures
    rows = [["condition", *(f"{name} (95 %)" for name in measures.values()), "routing top-1", "top-3", "seconds"]]
    for name, result in results.conditions.items():
        shown = f"{name}: {result.meaning}"
        if result.skipped is not None:
            rows.append([shown, f"skipped: {result.skipped}", *[ABSENT] * (len(rows[0]) - 2)])
            continue
        ranking = results.routing.get(name)
        top = [figure(ranking.top1), figure(ranking.top3)] if ranking else [ABSENT, ABSENT]
        rows.append([shown, *(value_in(result.of(measure)) for measure in measures), *top, _seconds(result)])
    return rows


def _seconds(result: ConditionResult) -> str:
    """The time a condition took; where another had already met a question under the same route, what was left to do."""
    reused = result.questions - result.generated
    return f"{result.seconds:.0f}" + (f" ({counted(reused, 'answer')} shared)" if reused else "")


def notes(results: Results) -> list[str]:
    """What to know about a run beyond its table, a line each; of a partial run, what stands so far."""
    lines = ["- **Partial**: the run is not finished; the same command goes on."] if results.partial else []
    lines += _on_questions(results) if results.configuration.get("questions") else []
    if results.differences:
        lines.append("- Differences: a paired bootstrap over facts; bold where the 95 % interval excludes 0.")
    if parts := results.abstention:
        by_kind = "".join(f"; against {kind} ones {_told(value)}" for kind, value in parts.auroc_by_kind.items())
        lines.append(
            f"- Known against {counted(parts.unrelated_questions, 'unrelated question')}: AUROC {_told(parts.auroc)}{by_kind}."
        )
    if results.certainty:
        lines.append(
            "- How likely an answer was, a token on average, parts right answers from others: the AUROC is over what "
            "memories answered, and 0.5 is chance."
        )
    if not results.configuration.get("gated", True):
        lines.append("- No gate was trained for these memories: nothing is told of routing and its time.")
    several = {name: ranking.together for name, ranking in results.routing.items() if ranking.together is not None}
    if several:
        shares = ", ".join(f"{name} {share:.3f}" for name, share in several.items())
        lines.append(f"- Questions on several memories, all of them found: {shares}.")
    lines += _on_damage(results)
    if results.latency:
        base, policy = _timing(results.latency.base), _timing(results.latency.policy)
        lines.append(f"- One question, median: base {base}; policy {policy}.")
    if not results.partial:
        lines.append("- Seconds: " + ", ".join(f"{k} {v:.0f}" for k, v in results.seconds.items()) + ".")
        lines.append(f"- Peak memory of the largest process: {results.peak_rss_mib} MiB.")
    return [*lines, "- Versions: " + ", ".join(f"{k} {v}" for k, v in results.versions.items()) + "."]


def _told(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


def _on_damage(results: Results) -> list[str]:
    retention = results.retention
    if not retention:
        return []
    lines, damage = [], retention.damage
    ratio = retention.ratio("policy")
    if ratio is not None:
        base, policy = damage["base"], damage["policy"]
        lines.append(
            f"- Perplexity on unrelated text: {ratio:.4f} × the base's ({figure(policy.perplexity, 2)} against "
            f"{figure(base.perplexity, 2)}); KL to the base {figure(policy.kl, 4)} nats a token."
        )
    if forced := damage.get("forced"):
        lines.append(
            f"- Under a memory wrongly forced on that text: perplexity {figure(forced.perplexity, 2)}, "
            f"KL {figure(forced.kl, 4)}."
        )
    return lines


def _on_questions(results: Results) -> list[str]:
    """What the scored questions are, and what their accuracy means."""
    configuration, check = results.configuration, results.configuration["leak_check"]
    scored = configuration["scored"]
    line = (
        f"- {scored} held-out wordings; the one nearest to a trained wording has similarity "
        f"{check['greatest_similarity']} (from {check['threshold']} it would be refused)."
    )
    if configuration["scored_wordings"] == "trained":
        line = f"- **No wording is held out**: the {scored} scored ones were trained on."
    if "accuracy" not in results.measures:
        return [line]
    meaning = "the answer is the likeliest of its options, by the mean log-probability of an option's tokens"
    return [line, f"- Accuracy: {meaning}."]


def _timing(timing: Timing) -> str:
    """Where the milliseconds of an answer go."""
    return ", ".join(f"{part} {ms:.0f} ms" for part, ms in vars(timing).items()) + " a token"


_OF_KIND = {
    "exact_match": "exact match",
    "contains": "contains the answer",
    "chosen": "chose the answer",
    "accuracy": "accuracy",
    "facts_told": "facts told",
    "all_told": "all facts told",
    "left_to_base": "left to the base",
}


def by_kind(results: Results) -> list[list[str]]:
    """Rows of (kind, questions, score by condition …), the conditions in the first row; nothing for a single kind."""
    run = {name: result.by_kind for name, result in results.conditions.items() if result.by_kind}
    kinds: dict[str, KindResult] = next(iter(run.values()), {})
    if len(kinds) < 2:
        return []
    rows = [["kind", "questions", *run]]
    for kind, first in kinds.items():
        for measure, note in _OF_KIND.items():
            scores = [own[kind].of(measure) for own in run.values()]
            repeats = measure == "contains" and scores == [own[kind].exact_match for own in run.values()]
            if any(scores) and not repeats:
                cells = (figure(score.value) if score else ABSENT for score in scores)
                rows.append([f"{kind}: {note}", str(first.questions), *cells])
    return rows


def by_certainty(results: Results) -> list[list[str]]:
    """Rows of (condition, right answers, AUROC against wrong ones, against those to each kind of question that no memory
    holds …), the head first; nothing for a run in which no answer of a memory was right."""
    kinds = list(dict.fromkeys(kind for own in results.certainty.values() for kind in own.by_kind))
    rows = [["condition", "right answers", "against wrong ones", *(f"{kind} ones" for kind in kinds)]]
    for name, own in results.certainty.items():
        rows.append([name, str(own.right), _area(own.wrong), *(_area(own.by_kind.get(kind)) for kind in kinds)])
    return rows if results.certainty else []


def _area(area: Area | None) -> str:
    return f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f}), {area.questions} of them" if area else ABSENT


def by_coverage(results: Results) -> list[list[str]]:
    """Rows of (condition, share right among the surest answers …), the shares that are answered in the first row."""
    rows = [["right of the surest answers", *(f"{share:.0%}" for share in COVERAGES)]]
    rows += [[name, *(figure(own[f"{share:g}"]) for share in COVERAGES)] for name, own in results.selective.items()]
    return rows if results.selective else []


def by_prior(results: Results) -> list[list[str]]:
    """Rows of (kind and strength of the base's prior, its range, questions, accuracy by condition …), the conditions in
    the first row; nothing for a run whose questions have no options."""
    if not results.prior:
        return []
    run = list(next(iter(results.prior.values()))[0].conditions)
    rows = [["accuracy by the base's prior against the answer", "nats a token", "questions", *run]]
    for kind, thirds in results.prior.items():
        for strength, third in zip(THIRDS, thirds, strict=False):
            scores = (third.conditions[name].accuracy for name in run)
            cells = (figure(score.value) if score else ABSENT for score in scores)
            rows.append(
                [f"{kind}: {strength}", f"{third.least:.2f} to {third.greatest:.2f}", str(third.questions), *cells]
            )
    return rows


def by_damage(results: Results) -> list[list[str]]:
    """Rows of (condition, perplexity of the text, as a multiple of the base's, KL to the base), the head first; nothing
    for a run that did not measure it."""
    retention = results.retention
    if not retention:
        return []
    rows = [["condition", "perplexity", "÷ the base's", "KL to the base, nats a token"]]
    for name, own in retention.damage.items():
        rows.append([name, figure(own.perplexity, 2), figure(retention.ratio(name), 4), figure(own.kl, 4)])
    return rows


def by_difference(results: Results) -> list[list[str]]:
    """Rows of (condition, its exact match less that of the condition it is compared to, the same of what contains the
    answer), the head first; nothing for a run of one condition. What is more than chance is marked."""
    differences = results.differences
    if not differences:
        return []
    rows = [[f"less {differences.against}", "exact match", "contains the answer"]]
    for name, gains in differences.conditions.items():
        rows.append([name, *(change(gains[measure]) for measure in ("exact_match", "contains"))])
    return rows


def by_number(points: Mapping[tuple[str, int], Score | None]) -> list[list[str]]:
    """Exact match by what was studied (down) and the number of memories (across), the head first; nothing for no points."""
    numbers = sorted({number for _, number in points})
    cells = {point: figure(score.value) for point, score in points.items() if score}
    names = dict.fromkeys(name for name, _ in points)
    lines = [[name, *(cells.get((name, number), ABSENT) for number in numbers)] for name in names]
    return [["exact match", *map(str, numbers)], *lines] if lines else []


def bank_points(studies: Sequence[BankStudy]) -> dict[tuple[str, int], Score | None]:
    """(condition, memories in the bank) → exact match."""
    return {(study.condition, study.memories): study.exact_match for study in studies}


def merge_points(studies: Sequence[MergeStudy]) -> dict[tuple[str, int], Score | None]:
    """(how, memories merged) → exact match; None where they could not be merged."""
    return {(study.how, study.merged): study.exact_match for study in studies}


def tables(results: Results) -> dict[str, list[list[str]]]:
    """Title → rows, the head first, of what there is beyond the conditions."""
    every = {
        "By kind of question": by_kind(results),
        "By strength of the prior": by_prior(results),
        "Differences on the same questions": by_difference(results),
        "How often a right answer is the likelier one (AUROC)": by_certainty(results),
        "Where only the surest answers are given": by_coverage(results),
        "By number of memories in the bank": by_number(bank_points(results.studies.in_bank)),
        "By number of memories merged": by_number(merge_points(results.studies.by_merging)),
        "Damage to unrelated text": by_damage(results),
    }
    return {title: rows for title, rows in every.items() if rows}


def report(results: Results) -> str:
    """The whole report in Markdown."""
    parts = ["# Recall", *([markdown_table(_rows(results))] if results.conditions else [])]
    for title, rows in tables(results).items():
        parts += [f"## {title}", markdown_table(rows)]
    return "\n\n".join([*parts, "\n".join(notes(results))]) + "\n"

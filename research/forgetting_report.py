"""The study of forgetting as a report: what is known of authors before and after, and what the proof says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorary.statistics import cluster_mean, interval, same_distribution
from lorary.tables import figure, markdown_table, with_interval

CONDITIONS = ("base", "policy", "lookup", "passages")
MEASURES = {"rouge_l": "ROUGE-L", "probability": "probability", "truth_ratio": "truth ratio"}


def tell_forgetting(results: Mapping[str, Any]) -> str:
    """The results as a report."""
    parts = ["# Authors that are known, and forgotten", "", "**Before: all authors**", "", _table(results["before"])]
    if "proof" in results:
        for who, places in _parted(results).items():
            of_them = {condition: [own[place] for place in places] for condition, own in results["after"].items()}
            parts += ["", f"**After: {who}**", "", _table(of_them)]
        parts += ["", _proof(results)]
    return "\n".join(parts)


def _parted(results: Mapping[str, Any]) -> dict[str, list[int]]:
    """Whose questions → their places among the records: what was forgotten, whole or in part, and what was not.

    The questions of an author stand in the order of the file, whose first ones are forgotten of the second author.
    """
    authors = [record["author"] for record in results["before"]["base"]]
    gone, pruned, *_ = dict.fromkeys(authors)
    facts = len(results["proof"]["proof"]["facts"])
    of_gone, of_pruned = ([n for n, author in enumerate(authors) if author == own] for own in (gone, pruned))
    forgotten = {*of_gone, *of_pruned[:facts]}
    return {
        f"{gone}, who was forgotten": of_gone,
        f"what was forgotten of {pruned}": of_pruned[:facts],
        "what was not forgotten": [n for n in range(len(authors)) if n not in forgotten],
    }


def _table(scored: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    rows = [["condition", "questions", *MEASURES.values()]]
    for condition in CONDITIONS:
        records = scored[condition]
        figures = [
            with_interval(interval(cluster_mean([r[measure] for r in records], range(len(records)))))
            if records and measure in records[0]
            else figure(None)
            for measure in MEASURES
        ]
        rows.append([condition, str(len(records)), *figures])
    return markdown_table(rows)


def _proof(results: Mapping[str, Any]) -> str:
    """What was proved, in a few lines."""
    gone = results["before"]["base"][0]["author"]
    of_gone = ([r for r in results["after"][condition] if r["author"] == gone] for condition in ("base", "policy"))
    base, policy = ([record["truth_ratio"] for record in records] for records in of_gone)
    proof = results["proof"]["proof"]
    rows = [
        ["fact", "recalled", "by the base", "p(answer)", "base", "truth ratio", "base", "lift", "bound", "forgotten"]
    ]
    for fact in proof["facts"]:
        own, of_base = fact["memory"], fact["base"]
        counts = [f"{own['recalled']} of {fact['wordings']}", str(of_base["recalled"])]
        likely = [figure(m[name]) for name in ("probability", "truth_ratio") for m in (own, of_base)]
        rows.append([fact["id"], *counts, *likely, figure(fact["lift"]), figure(fact["bound"]), str(fact["forgotten"])])
    return "\n".join(
        [
            f"Forget quality of {gone}, policy and base alike: p = {same_distribution(policy, base):.3f}.",
            f"Files of bank and composite that still hold what was forgotten: {len(results['traces'])}.",
            "",
            f"**{len(proof['facts'])} facts of {results['proof']['memory']} forgotten**",
            "",
            markdown_table(rows),
            "",
            f"Likelier than facts never known: p = {proof['p_never_known']:.3f}; truth ratios other than the base's: p = "
            f"{proof['p_base']:.3f}; the proof {'holds' if proof['holds'] else 'does not hold'}.",
        ]
    )

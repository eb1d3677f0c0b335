"""The study of forgetting as a report: what is known of authors before and after, and what the proof says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorary.statistics import cluster_mean, interval, same_distribution
from lorary.tables import counted, figure, markdown_table, with_interval

CONDITIONS = ("base", "policy", "lookup", "passages")
MEASURES = {"rouge_l": "ROUGE-L", "probability": "probability", "truth_ratio": "truth ratio"}


def tell_forgetting(results: Mapping[str, Any]) -> str:
    """The results as a report."""
    parts = ["# Authors that are known, and forgotten", "", "**Before: all authors**", "", _table(results["before"])]
    if "proof" in results:
        gone, pruned, *others = dict.fromkeys(record["author"] for record in results["before"]["base"])
        forgotten = len(results["proof"]["proof"]["facts"])
        asked = {
            f"{gone}, who was forgotten": [gone],
            f"{pruned}, less {counted(forgotten, 'fact')}": [pruned],
            "authors of whom nothing was forgotten": others,
        }
        for who, own in asked.items():
            if own:
                parts += ["", f"**After: {who}**", "", _table({c: _of(r, own) for c, r in results["after"].items()})]
        parts += ["", _proof(results, gone)]
    return "\n".join(parts)


def _of(records: Sequence[Mapping[str, Any]], authors: Sequence[str]) -> list[Mapping[str, Any]]:
    return [record for record in records if record["author"] in authors]


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


def _proof(results: Mapping[str, Any], gone: str) -> str:
    """What was proved, in a few lines."""
    base, policy = ([r["truth_ratio"] for r in _of(results["after"][c], [gone])] for c in ("base", "policy"))
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

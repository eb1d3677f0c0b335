"""Whether a condition's answers tell that they are right: how likely they were, of what was known and of what was not."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lorary.eval.figures import Area, Certainty
from lorary.eval.records import Prediction, Results
from lorary.eval.scoring import grouped
from lorary.statistics import auroc, interval, weightings


def certainty(predictions: Sequence[Prediction], seed: int) -> Certainty | None:
    """How well the probability of an answer parts right answers from others: AUROC with an interval that resamples facts.

    `wrong` is against wrong answers to what a memory holds; `by_kind` against the answers to what none holds, by the kind
    of question. Only answers of memories count: what the base says without one is no recall; of what memories hold, only
    what the headline counts. None without a right one.
    """
    sure = [p for p in predictions if p.probability is not None and p.answered_by]
    known = [p for p in sure if p.memory and p.scored]
    right = [p for p in known if p.exact_match == 1]
    if not right:
        return None
    kinds = grouped((p for p in sure if not p.memory), lambda p: p.kind)
    return Certainty(
        right=len(right),
        wrong=_against(right, [p for p in known if p.exact_match == 0], seed),
        by_kind={kind: _against(right, unknown, seed) for kind, unknown in sorted(kinds.items())},
    )


def _against(right: Sequence[Prediction], others: Sequence[Prediction], seed: int) -> Area | None:
    sure, unsure = (torch.tensor([p.probability for p in side]) for side in (right, others))
    drawn = weightings([p.fact for p in [*right, *others]], seed=seed)
    area = interval(auroc(sure, unsure, drawn[:, : len(right)], drawn[:, len(right) :]))
    return area and Area(**area, questions=len(others))


def by_certainty(results: Results) -> list[list[str]]:
    """Rows of (condition, right answers, AUROC against wrong ones, against those to each kind of question that no memory
    holds …), the head first; nothing for a run in which no answer of a memory was right."""
    kinds = list(dict.fromkeys(kind for own in results.certainty.values() for kind in own.by_kind))
    rows = [["condition", "right answers", "against wrong ones", *(f"{kind} ones" for kind in kinds)]]
    for name, own in results.certainty.items():
        rows.append([name, str(own.right), _cell(own.wrong), *(_cell(own.by_kind.get(kind)) for kind in kinds)])
    return rows if results.certainty else []


def _cell(area: Area | None) -> str:
    return f"{area.value:.3f} ({area.low:.3f} to {area.high:.3f}), {area.questions} of them" if area else "–"

"""Sources: how likely a memory's answer, a stored one and the base's are to be right, and which of them is given.

A logistic regression for each source over the features of `evidence`. A composite keeps its coefficients in
`config.sources`; `router_training.source_calibration` fits them, drawn to the defaults here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lorary.answering.evidence import BEFORE, ROUTED, Evidence
from lorary.routing.policy import Policy, Route

BASE_FROM = 0.7
"""How likely it must be that nothing stored answers a question for the base to answer in a memory's place."""
HOPELESS = 0.1
"""Below which likelihood no source answers in the base's place, however unsure the base is: nine in ten such answers are
wrong."""
ONE = "one"
"""The feature that is always 1."""
Coefficients = Mapping[str, Mapping[str, float]]
"""Regression → feature → coefficient, where `ONE` is the intercept."""

REGRESSIONS: dict[str, tuple[str, ...]] = {
    "memory": ROUTED,
    "lookup": ROUTED,
    "base": ROUTED,
    "lookup, unrouted": BEFORE,
    "base, unrouted": BEFORE,
}
"""Regression → its features: of a source, where a memory has answered, and where none was asked. The base's says how likely
it is that nothing stored answers the question: its own words cannot be told right or wrong by facts."""

_FITTED = {
    "memory": "-0.40 0.45 0.31 0.74 0.25 0.47 0.54 -1.16 0.91 -1.88 -1.12 -0.84 0.42 1.09 1.14 0.31 0.22 -0.80",
    "lookup": "-0.76 0.22 0.50 1.01 0.75 0.56 1.19 -1.01 0.27 -0.36 0.22 0.42 -0.38 0.21 -0.78 -0.50 -0.99 -0.66",
    "base": "0.84 -0.20 0.47 -1.00 -0.85 -0.82 -1.12 1.43 -0.36 0.03 -0.09 0.45 -0.65 0.01 -0.33 -0.14 0.40 -0.43",
    "lookup, unrouted": "0.66 -0.27 -0.01 0.22 -0.08 0.55 1.01 0.00 -0.67",
    "base, unrouted": "-0.39 0.16 0.42 -0.30 0.17 -0.86 -0.85 0.00 0.08",
}
DEFAULTS: dict[str, dict[str, float]] = {
    regression: dict(zip((*features, ONE), map(float, _FITTED[regression].split()), strict=True))
    for regression, features in REGRESSIONS.items()
}
"""Fitted on the validation wordings of five banks, with the gate that reads contents; `elsewhere` on three others
(docs/results/sources.md)."""


def logistic(features: Mapping[str, float], coefficients: Mapping[str, float]) -> float:
    """The probability that a logistic regression gives, 0 to 1; a feature that it does not know counts for nothing."""
    odds = sum(coefficients.get(name, 0.0) * value for name, value in {**features, ONE: 1.0}.items())
    return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))


def probabilities(coefficients: Coefficients, route: Route, evidence: Evidence) -> dict[str, float]:
    """Source → how likely its answer is to be right. There is no memory's where none was asked, and no lookup's where no
    fact is stored, or the memory gives its answer."""
    features, unrouted = evidence.features(route), ", unrouted" if evidence.reply is None else ""
    sources = [] if evidence.reply is None else ["memory"]
    if evidence.lookup is not None and not evidence.agreed:
        sources.append("lookup")
    return {source: logistic(features, coefficients[source + unrouted]) for source in (*sources, "base")}


def chosen(probabilities: Mapping[str, float], policy: Policy) -> str:
    """The source that is likeliest to be right, of those that may answer.

    Where a memory was asked, the base answers in its place only if it is quite sure that nothing stored does, or if no other
    source has any hope: on validation wordings a lower bar loses more known questions than any other source would win.
    """
    looked_up = policy.lookup or policy.t_exchange is not None
    may = {source: likely for source, likely in probabilities.items() if source != "lookup" or looked_up}
    best = max(may, key=lambda source: may[source])
    stored = max((source for source in may if source != "base"), key=lambda source: may[source], default="base")
    if best == "base" and "memory" in may and may["base"] < BASE_FROM and may[stored] >= HOPELESS:
        return stored
    return best


def known(probabilities: Mapping[str, float]) -> float:
    """How likely the likelier of memory and lookup is to be right: what tells known questions from others."""
    return max((likely for source, likely in probabilities.items() if source != "base"), default=0.0)

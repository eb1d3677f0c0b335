"""Sources: how likely a memory's answer, a stored one and the base's are to be right, and which of them is given.

A logistic regression for each source over the features of `evidence`. A composite keeps its coefficients in
`config.sources`; `router_training.source_calibration` fits them, drawn to the defaults here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lorary.answering.evidence import BEFORE, ROUTED, Evidence
from lorary.routing.policy import Policy, Route

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

_OF_MEMORY = (-0.16, 0.84, 0.67, 0.23, 0.19, 1.09, -1.59, -1.6, 0.42, 0.99, 0.13, 0.02, -0.22)
_OF_LOOKUP = (-0.15, 1.25, 1.23, 0.18, 0.39, 0.61, -1.24, -0.16, -0.09, -0.39, -0.49, -0.82, -0.17)
_OF_BASE = (0.48, -0.68, -1.13, -0.05, -0.67, -0.69, 1.14, 0.7, -1.07, 0.64, 0.94, 0.22, -0.46)
_LOOKUP_UNROUTED = (0.41, -0.2, 0.25, 0.41, 0.97, -0.44)
_BASE_UNROUTED = (-0.22, 0.19, -0.21, -0.42, -0.95, 0.25)
DEFAULTS: dict[str, dict[str, float]] = {
    regression: dict(zip((*features, ONE), values, strict=True))
    for (regression, features), values in zip(
        REGRESSIONS.items(), (_OF_MEMORY, _OF_LOOKUP, _OF_BASE, _LOOKUP_UNROUTED, _BASE_UNROUTED), strict=True
    )
}
"""Fitted on the validation wordings of three banks (docs/results/sources.md); no held-out wording was looked at."""


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
    """The source that is likeliest to be right, of those that may answer."""
    allowed = [source for source in probabilities if source != "lookup" or policy.lookup]
    return max(allowed, key=lambda source: probabilities[source])


def known(probabilities: Mapping[str, float]) -> float:
    """How likely the likelier of memory and lookup is to be right: what tells known questions from others."""
    return max((likely for source, likely in probabilities.items() if source != "base"), default=0.0)

"""The study of wordings as it lies on disk: what each setting and seed gave, and what they tell together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorary.memories.studies import Header, StudyError, header_of, read_results
from lorary.memories.tables import paired_difference, wilson
from lorary.research.wordings_design import Setting

SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One memory of the study; recall is the share of (fact, wording) pairs that greedy decoding answers.

    Args:
        texts: that a fact had on average.
        trained: recall under the texts that were trained on and ask for the answer; None where none does.
        validation, unseen: recall under validation and held-out wordings, which nothing trained on.
        facts: recall of each fact under its held-out wordings.
        seconds: of writing, the asking between passes among them.
        processor_seconds: the same in processor time.
    """

    setting: str
    seed: int
    texts: float
    trained: float | None
    validation: float
    unseen: float
    facts: tuple[float, ...]
    seconds: float
    processor_seconds: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A setting over its seeds.

    Args:
        low, high: of the 95 % interval of `unseen` over facts.
        seeds: `unseen` of each seed.
        gain: (mean, low, high) of the paired difference to the reference, over facts; None for the reference itself.
    """

    setting: Setting
    texts: float
    trained: float | None
    validation: float
    unseen: float
    low: float
    high: float
    seeds: tuple[float, ...]
    gain: tuple[float, float, float] | None
    seconds: float


@dataclass(kw_only=True)
class WordingStudy(Header):
    """All memories that were measured; `written` are the base's wordings by question."""

    reference: str
    settings: list[Setting]
    questions: list[str]
    written: dict[str, list[str]]
    rows: list[Measured]

    def to_json(self) -> dict[str, Any]:
        told = {"seeds": sorted({row.seed for row in self.rows}), "summary": [asdict(s) for s in self.summaries()]}
        return {"study": "wordings", **asdict(self), **told}

    def add_settings(self, settings: Sequence[Setting], where: str) -> None:
        """Adds settings that are not there yet. Raises StudyError where one of that name is another."""
        for setting in settings:
            stands = next((s for s in self.settings if s.name == setting.name), None)
            if stands not in (None, setting):
                raise StudyError(f"{where} holds {stands}, not {setting}; give another folder, or the same settings")
        ours = {setting.name for setting in settings}
        self.settings = [*settings, *(s for s in self.settings if s.name not in ours)]

    def summaries(self) -> list[Summary]:
        """What each measured setting gave, in the order of the settings."""
        held = {s.name: [row for row in self.rows if row.setting == s.name] for s in self.settings}
        return [self._summary(s, held[s.name], held.get(self.reference, [])) for s in self.settings if held[s.name]]

    def _summary(self, setting: Setting, rows: Sequence[Measured], others: Sequence[Measured]) -> Summary:
        unseen = float(np.mean([row.unseen for row in rows]))
        trained = [row.trained for row in rows if row.trained is not None]
        # Seeds that only one of the two has yet would compare draws of wordings too.
        both = {row.seed for row in rows} & {row.seed for row in others}
        gain = None
        if both and setting.name != self.reference:
            gain = paired_difference(*(_by_fact([r for r in of if r.seed in both]) for of in (others, rows)))
        low, high = wilson(unseen, len(self.questions))
        return Summary(
            setting=setting,
            texts=float(np.mean([row.texts for row in rows])),
            trained=float(np.mean(trained)) if trained else None,
            validation=float(np.mean([row.validation for row in rows])),
            unseen=unseen,
            low=low,
            high=high,
            seeds=tuple(row.unseen for row in rows),
            gain=gain,
            seconds=float(np.mean([row.seconds for row in rows])),
        )


def _by_fact(rows: Sequence[Measured]) -> list[float]:
    """Recall of each fact, averaged over seeds."""
    return list(map(float, np.mean([row.facts for row in rows], axis=0)))


def read_wordings(place: str | Path) -> WordingStudy:
    """The study in a folder that `lorary wordings` wrote. Raises StudyError for what is not."""
    path, told = read_results(place, "wordings", SCHEMA)
    try:
        return WordingStudy(
            **header_of(told),
            reference=told["reference"],
            settings=[Setting(**{**given, "formats": tuple(given["formats"])}) for given in told["settings"]],
            questions=told["questions"],
            written=told["written"],
            rows=[Measured(**{**row, "facts": tuple(row["facts"])}) for row in told["rows"]],
        )
    except (KeyError, TypeError) as error:
        raise StudyError(f"{path} is not a whole study ({error}); run `lorary wordings` again") from None

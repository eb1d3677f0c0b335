"""What the study of wordings found: as it lies on disk, over seeds, and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lorary.research.memory_study import made_by
from lorary.research.settings import PARTS
from lorary.research.wording_texts import Setting
from lorary.resume import Header, ResumeError, header_of, read_results
from lorary.statistics import interval, mean, weightings, wilson
from lorary.tables import ABSENT, counted, difference, figure, markdown_table, with_interval

STUDY = "wordings"
SCHEMA = 2
RESAMPLES = 10_000
_TITLES = {
    "number": "How many wordings by people",
    "format": "Which formats",
    "generator": "Who words the questions",
    "rules": "What rules add to few wordings",
}
_HEAD = [
    "trained on",
    "texts a fact",
    "trained wordings",
    "validation wordings",
    "held-out wordings (95 %)",
    "exchanged",
    "by seed",
    "less the reference (95 %)",
    "seconds",
]
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One memory of the study; recall is the share of (fact, wording) pairs that greedy decoding answers.

    Args:
        texts: that a fact had on average.
        trained: recall under the texts that were trained on and ask for the answer; None where none does.
        validation: recall under validation wordings, which nothing trained on; None where no fact keeps one.
        unseen: recall under held-out wordings, which nothing trained on or was chosen by.
        exchanged: the same where each is asked in its nearest trained wording, if one is near enough (`answering.exchange`);
            None where no wording is trained on.
        facts: recall of each fact under its held-out wordings.
        seconds: of writing, the asking between passes among them.
        processor_seconds: the same in processor time.
    """

    setting: str
    seed: int
    texts: float
    trained: float | None
    validation: float | None
    unseen: float
    facts: tuple[float, ...]
    seconds: float
    processor_seconds: float
    exchanged: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A setting over its seeds.

    Args:
        trained, validation: over the seeds that have such a recall; None where none has.
        unseen: value, low and high of the 95 % interval over facts (Wilson's).
        seeds: the value of each seed.
        gain: value, low and high of the paired difference to the reference, by a bootstrap over facts; None for the
            reference itself, and where no seed of both is measured.
    """

    setting: Setting
    texts: float
    trained: float | None
    validation: float | None
    unseen: dict[str, float]
    seeds: tuple[float, ...]
    gain: dict[str, float] | None
    seconds: float
    exchanged: float | None = None


@dataclass(kw_only=True)
class WordingStudy(Header):
    """All memories that were measured; `written` are the base's wordings by question."""

    reference: str
    settings: list[Setting]
    questions: list[str]
    written: dict[str, list[str]]
    rows: list[Measured]

    def to_json(self) -> dict[str, Any]:
        seeds, summary = sorted({row.seed for row in self.rows}), [asdict(setting) for setting in self.summaries()]
        return {"study": STUDY, **asdict(self), "seeds": seeds, "summary": summary}

    def add_settings(self, settings: Sequence[Setting], where: str) -> None:
        """Adds settings that are not there yet. Raises ResumeError where one of that name is another."""
        for setting in settings:
            stands = next((s for s in self.settings if s.name == setting.name), None)
            if stands not in (None, setting):
                raise ResumeError(f"{where} holds {stands}, not {setting}; give another folder, or the same settings")
        ours = {setting.name for setting in settings}
        self.settings = [*settings, *(s for s in self.settings if s.name not in ours)]

    def summaries(self) -> list[Summary]:
        """What each measured setting gave, in the order of the settings."""
        rows = {s.name: [row for row in self.rows if row.setting == s.name] for s in self.settings}
        return [self._summary(s, rows[s.name], rows.get(self.reference, [])) for s in self.settings if rows[s.name]]

    def _summary(self, setting: Setting, rows: Sequence[Measured], others: Sequence[Measured]) -> Summary:
        # Seeds that only one of the two has yet would compare draws of wordings too.
        both = {row.seed for row in rows} & {row.seed for row in others}
        gain = None
        if both and setting.name != self.reference:
            gain = paired_difference(*(_by_fact([r for r in of if r.seed in both]) for of in (others, rows)))
        return Summary(
            setting=setting,
            texts=float(np.mean([row.texts for row in rows])),
            trained=_mean([row.trained for row in rows]),
            validation=_mean([row.validation for row in rows]),
            unseen=wilson(float(np.mean([row.unseen for row in rows])), len(self.questions)),
            seeds=tuple(row.unseen for row in rows),
            gain=gain,
            seconds=float(np.mean([row.seconds for row in rows])),
            exchanged=_mean([row.exchanged for row in rows]),
        )


def _by_fact(rows: Sequence[Measured]) -> list[float]:
    """Recall of each fact, averaged over seeds."""
    return list(map(float, np.mean([row.facts for row in rows], axis=0)))


def _mean(shares: Sequence[float | None]) -> float | None:
    """The mean of the shares that were measured; None where none was."""
    measured = [share for share in shares if share is not None]
    return float(np.mean(measured)) if measured else None


def paired_difference(first: Sequence[float], second: Sequence[float]) -> dict[str, float] | None:
    """The mean of `second` less `first`, fact by fact, with its 95 % interval over facts: keys value, low, high."""
    gains = [after - before for before, after in zip(first, second, strict=True)]
    return interval(mean(gains, weightings(range(len(gains)), resamples=RESAMPLES)))


def read_wordings(place: str | Path) -> WordingStudy:
    """The study in a folder that `lorary research wordings` wrote.

    Raises:
        ResumeError: there is none, or it is not whole.
    """
    results = read_results(place, STUDY, SCHEMA)
    try:
        return WordingStudy(
            **header_of(results),
            reference=results["reference"],
            settings=[Setting(**{**s, "formats": tuple(s["formats"])}) for s in results["settings"]],
            questions=results["questions"],
            written=results["written"],
            rows=[Measured(**{**row, "facts": tuple(row["facts"])}) for row in results["rows"]],
        )
    except (KeyError, TypeError) as error:
        raise ResumeError(
            f"{place} is not a whole study of wordings ({error}); run `lorary research wordings` into another folder"
        ) from None


def tell_wordings(study: WordingStudy) -> str:
    """The study in Markdown."""
    summaries, made = study.summaries(), study.configuration
    lines = ["# Wordings", ""]
    if study.partial:
        lines += ["**Partial**: the run is not finished; the same command goes on.", ""]
    for part in PARTS:
        rows = [_row(summary, study.reference) for summary in summaries if summary.setting.part == part]
        if rows:
            lines += [f"## {_TITLES[part]}", "", markdown_table([_HEAD, *rows]), ""]
    lines += [
        "## How to read it",
        "",
        f"- Recall is the share of wordings whose whole answer greedy decoding gives. Each of "
        f"{counted(made['facts'], 'fact')} is shown {counted(made['exposures'], 'time')} whatever its texts, in as many "
        "steps, under the same learning rates: a row differs from another only in the texts. All facts are one memory.",
        f"- The reference is {study.reference}, as questions. Its differences are paired by fact, averaged over seeds; "
        "the interval is a bootstrap's over facts, bold where it excludes 0. The interval of a share is Wilson's over "
        "facts. Neither covers the spread between seeds, which its own column tells.",
        "- A seed draws which wordings are trained on (the fact's own question always is), the first weights and the "
        "order. Held-out wordings choose nothing; compare settings for your own use on validation wordings.",
        "- Cloze: the statement with a gap where the answer stood. Statement: the sentence as text, every token "
        f"learnt. Thinned: copies of the question without {made['thinned_share']:.0%} of their words. By the base: "
        "sampled from the base model, kept where every name of the question is still there.",
        "- Exchanged: each held-out wording is asked in the trained wording that is nearest by the encoder, if one is near "
        "enough, else as it stands. By rule: the other texts are made as `lorary build` makes them for facts with few.",
        f"- Base {made['base']}, layers from {made['split_layer']}, rank {made['r']}.",
        f"- {made_by(study)}. Seconds are a memory's, of that machine as it was then.",
        "",
        *_written(study),
    ]
    return "\n".join(lines)


def _row(summary: Summary, reference: str) -> list[str]:
    return [
        summary.setting.name,
        f"{summary.texts:.1f}",
        figure(summary.trained),
        figure(summary.validation),
        with_interval(summary.unseen),
        figure(summary.exchanged),
        ", ".join(f"{unseen:.2f}" for unseen in summary.seeds),
        "the reference" if summary.setting.name == reference else difference(summary.gain),
        f"{summary.seconds:.0f}",
    ]


def _written(study: WordingStudy) -> list[str]:
    """Some of the base's own wordings, for the eye."""
    if not study.written:
        return []
    kept = [len(said) for said in study.written.values()]
    step = max(1, len(kept) // _SHOWN)
    shown = [
        [question, "; ".join(said[:3]) or ABSENT] for question, said in list(study.written.items())[::step][:_SHOWN]
    ]
    head = ["question", "the first of what was kept"]
    return [
        f"The base wrote {sum(kept) / len(kept):.1f} usable wordings a fact, for {sum(map(bool, kept))} of {len(kept)}:",
        "",
        markdown_table([head, *shown]),
        "",
    ]

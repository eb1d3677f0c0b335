"""The study of wordings, for people: a table by part, how to read it, and what the base wrote."""

from __future__ import annotations

from lorary.research.memory_study import made_by
from lorary.research.wording_design import PARTS
from lorary.research.wording_results import Summary, WordingStudy
from lorary.tables import ABSENT, counted, difference, figure, markdown_table, with_interval

_TITLES = {
    "number": "How many wordings by people",
    "format": "Which formats",
    "generator": "Who words the questions",
}
_HEAD = [
    "trained on",
    "texts a fact",
    "trained wordings",
    "validation wordings",
    "held-out wordings (95 %)",
    "by seed",
    "less the reference (95 %)",
    "seconds",
]
_SHOWN = 4


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

"""The study of wordings: what the number, the format and the source of a fact's texts add to its recall.

Every setting shows each fact equally often, in steps of as many rows and under the same learning rates, so that more
texts are not more training. Held-out wordings are scored and choose nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lorary.memories
from lorary.answering.exchange import EXCHANGE_FROM, nearest_of
from lorary.bank.facts import Fact
from lorary.bank.files import hash_of
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.rows import default_split
from lorary.memories.building import read_topics
from lorary.memories.groups import Result, side_by_side, write_groups
from lorary.memories.recipe import Recipe
from lorary.memories.rows import rows
from lorary.memories.writing import Hits
from lorary.progress import ProgressBars, progress_bars
from lorary.research.memory_study import PLOT, heading, reporter, settings_in
from lorary.research.plots import recall_by_texts
from lorary.research.settings import PASSES, Design
from lorary.research.wording_results import SCHEMA, STUDY, Measured, WordingStudy, read_wordings, tell_wordings
from lorary.research.wording_texts import (
    KEPT,
    Setting,
    check,
    recipe_of,
    reference,
    reword,
    settings_of,
    texts_of,
)
from lorary.resume import REPORT, go_on, write_results
from lorary.routing.encoder import EMBEDDED as EMBEDDED_ENCODER
from lorary.routing.encoder import load_encoder
from lorary.routing.names import Names
from lorary.routing.proper_names import without_names

SAMPLES = Path(str(lorary.memories.__file__)).with_name("samples")


def measure_wordings(
    out: str | Path,
    *,
    facts: Sequence[str | Path] = (SAMPLES,),
    design: Design | None = None,
    base: str | Base = EMBEDDED,
    processes: int | None = None,
    quiet: bool = False,
) -> WordingStudy:
    """Measures every setting with every seed; writes `results.json`, `report.md` and `recall.png` into `out` after each.

    What stands in `out` already, under the same settings, is kept.

    Args:
        facts: JSONL files, or folders of them; the first of each topic's are one memory.
        processes: that write memories side by side, where the base is given by name; None: one a core.

    Raises:
        FactError: facts that lack what a setting needs, before anything is trained.
        ResumeError: `out` holds a study under other settings, or files of somebody else.
    """
    design, place = design or Design(), Path(out)
    used = [fact for topic in read_topics(facts).values() for fact in topic[: design.facts_a_topic]]
    settings = settings_of(design)
    check(settings, used)
    loaded = load_base(base) if isinstance(base, str) else base
    planned = [(setting, seed) for seed in range(design.seeds) for setting in settings]
    at_once = side_by_side(len(planned), processes if isinstance(base, str) else 1, loaded.model.device)
    study = _begin(place, design, settings, used, loaded, at_once)
    stand = {(row.setting, row.seed) for row in study.rows}
    missing = [(setting, seed) for setting, seed in planned if (setting.name, seed) not in stand]
    with progress_bars(quiet) as bars:
        if any(setting.written for setting, _ in missing):
            _let_base_write(study, loaded, used, design.texts - 1, bars)
        _measure(study, place, loaded, design, used, missing, at_once, bars)
    study.partial = False
    _write(study, place)
    return study


def _let_base_write(study: WordingStudy, base: Base, facts: Sequence[Fact], count: int, bars: ProgressBars) -> None:
    """Adds the base's wordings of each fact to the study, where they are not there yet."""
    if set(study.written) == {fact.question for fact in facts}:
        return
    bar = bars.start("the base words questions", len(facts))
    wordings = reword(base, facts, count, advance=bar.advance)
    study.written = {fact.question: list(said) for fact, said in zip(facts, wordings, strict=True)}


def _measure(
    study: WordingStudy,
    place: Path,
    base: Base,
    design: Design,
    used: Sequence[Fact],
    missing: Sequence[tuple[Setting, int]],
    processes: int,
    bars: ProgressBars,
) -> None:
    """Writes and scores a memory for each of `missing`; the study is saved after each."""
    recipes = [recipe_of(design, setting, seed) for setting, seed in missing]
    memories = [[texts_of(fact, setting, seed, study.written) for fact in used] for setting, seed in missing]
    bar = bars.start("measuring wordings", PASSES * len(used) * len(missing))
    reports = [reporter(bar, len(used), f"{setting.name}, seed {seed}") for setting, seed in missing]
    groups = [[facts] for facts in memories]
    for made in write_groups(base, {}, groups, recipes, default_split(base.model), reports, processes):
        recipe, facts, (setting, seed) = recipes[made.number], memories[made.number], missing[made.number]
        texts = len(rows(base.tokenizer, [facts], **recipe.rows)) / len(facts)
        nearest = nearest_wordings(facts, used) if "questions" in setting.formats else None
        study.rows.append(_measured(setting, seed, texts, used, made, nearest))
        _write(study, place)


def nearest_wordings(trained: Sequence[Fact], facts: Sequence[Fact]) -> list[list[tuple[int, int] | None]]:
    """Of each fact's held-out wordings the trained one that is nearest (its fact, its number there), if it is near enough to be
    asked in its place (`answering.exchange`)."""
    encode, places = (
        load_encoder(EMBEDDED_ENCODER).encode,
        [(i, n) for i, f in enumerate(trained) for n in range(len(f.trained))],
    )
    wordings = [trained[i].trained[n] for i, n in places]
    keys, names = encode(wordings), Names.of([("facts", wordings)]).all
    nearest: list[list[tuple[int, int] | None]] = []
    for fact in facts:
        found = [
            nearest_of(text, key, trained, keys, encode, lambda text: without_names(text, names))
            for text, key in zip(fact.held_out, encode(list(fact.held_out)), strict=True)
        ]
        nearest.append([places[number] if score >= EXCHANGE_FROM else None for number, score in found])
    return nearest


def _measured(
    setting: Setting,
    seed: int,
    texts: float,
    facts: Sequence[Fact],
    made: Result,
    nearest: Sequence[Sequence[tuple[int, int] | None]] | None,
) -> Measured:
    [written] = made.written
    # Of each fact, validation wordings were asked first, then the held-out ones.
    cut = [len(asked) - len(fact.held_out) for asked, fact in zip(written.validation, facts, strict=True)]
    parts = list(zip(written.validation, cut, strict=True))
    recalled = [sum(asked[at:]) / len(asked[at:]) for asked, at in parts]  # each fact has a held-out wording
    exchanged: list[list[bool]] = [
        [
            recalled if place is None else _recalled_there(written.trained, place, fact, facts)
            for recalled, place in zip(asked[at:], own, strict=True)
        ]
        for fact, (asked, at), own in zip(facts, parts, nearest or (), strict=nearest is not None)
    ]
    return Measured(
        setting=setting.name,
        seed=seed,
        texts=round(texts, 2),
        trained=_share(written.trained),
        validation=_share([asked[:at] for asked, at in parts]),
        unseen=round(sum(recalled) / len(recalled), 4),
        exchanged=_share(exchanged) if exchanged else None,
        facts=tuple(round(share, 4) for share in recalled),
        seconds=round(made.seconds, 1),
        processor_seconds=round(made.processor_seconds, 1),
    )


def _recalled_there(trained: Hits, place: tuple[int, int], fact: Fact, facts: Sequence[Fact]) -> bool:
    """Whether what is answered under a trained wording is this fact's answer."""
    other, number = place
    return facts[other].answer == fact.answer and trained[other][number]


def _share(hits: Hits | Sequence[Sequence[bool]]) -> float | None:
    """The mean over facts of the share of their wordings that were answered; None where no fact has a wording."""
    shares = [sum(wordings) / len(wordings) for wordings in hits if wordings]
    return round(sum(shares) / len(shares), 4) if shares else None


def _begin(
    place: Path, design: Design, settings: list[Setting], facts: Sequence[Fact], base: Base, processes: int
) -> WordingStudy:
    """The study that stands in `place`, to go on with, or an empty one."""
    recipe = asdict(Recipe())
    configuration: dict[str, Any] = {
        "exposures": design.exposures,
        "passes": PASSES,
        "reference": reference(design).name,
        "facts": len(facts),
        "sha256": hash_of(json.dumps([fact.to_json() for fact in facts], sort_keys=True).encode()),
        "validation_wordings": KEPT,
        **{name: recipe[name] for name in ("r", "lora_alpha", "target_modules", "lr")},
        "rows_a_step": recipe["batch_size"],
        "thinned_share": recipe["thinned_share"],
    }
    fresh = WordingStudy(
        **heading(SCHEMA, base, configuration, processes),
        reference=reference(design).name,
        settings=[],
        questions=[fact.question for fact in facts],
        written={},
        rows=[],
    )
    if go_on(place, STUDY, SCHEMA, settings_in(fresh), writes=(REPORT, PLOT)) is not None:
        stands = read_wordings(place)
        fresh.settings, fresh.written, fresh.rows = stands.settings, stands.written, stands.rows
    fresh.add_settings(settings, str(place))
    return fresh


def _write(study: WordingStudy, place: Path) -> None:
    study.rows.sort(key=lambda row: (row.setting, row.seed))
    summaries = study.summaries()
    numbers = sorted((s for s in summaries if s.setting.part == "number"), key=lambda s: s.setting.wordings)
    plot = recall_by_texts(
        {s.setting.wordings: s.trained for s in numbers if s.trained is not None},
        {s.setting.wordings: s.unseen for s in numbers},
        {s.setting.name: s.unseen for s in summaries if s.setting.part != "number"},
        next((s.unseen["value"] for s in numbers if s.setting.name == study.reference), None),
    )
    write_results(place, study.to_json(), {REPORT: tell_wordings(study).encode(), PLOT: plot})

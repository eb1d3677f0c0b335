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
from lorary.bank.facts import Fact
from lorary.bank.files import hash_of
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.rows import default_split
from lorary.memories.building import read_topics
from lorary.memories.groups import Result, side_by_side, write_groups
from lorary.memories.recipe import Recipe
from lorary.memories.rows import rows
from lorary.memories.studies import RESULTS, heading, reporter, save
from lorary.memories.writing import Hits
from lorary.progress import ProgressBars, progress_bars
from lorary.research.paraphrases import reword
from lorary.research.plots import recall_by_texts
from lorary.research.wording_study import SCHEMA, Measured, WordingStudy, read_wordings
from lorary.research.wordings_design import PASSES, Design, Setting, check, recipe_of, reference, settings_of, texts_of
from lorary.research.wordings_report import report

SAMPLES = Path(str(lorary.memories.__file__)).with_name("samples")


def wordings(
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
        StudyError: `out` holds a study under other settings.
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
    found = reword(base, facts, count, told=bar.advance)
    study.written = {fact.question: list(said) for fact, said in zip(facts, found, strict=True)}


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
    recipes = [recipe_of(design, *told) for told in missing]
    memories = [[texts_of(fact, setting, seed, study.written) for fact in used] for setting, seed in missing]
    bar = bars.start("measuring wordings", PASSES * len(used) * len(missing))
    reports = [reporter(bar, len(used), f"{setting.name}, seed {seed}") for setting, seed in missing]
    groups = [[facts] for facts in memories]
    for made in write_groups(base, {}, groups, recipes, default_split(base.model), reports, processes):
        recipe, facts, (setting, seed) = recipes[made.number], memories[made.number], missing[made.number]
        kept = {"copies": recipe.thinned_copies, "share": recipe.thinned_share, "seed": recipe.seed}
        texts = len(rows(base.tokenizer, [facts], formats=recipe.formats, **kept)) / len(facts)
        study.rows.append(_measured(setting, seed, texts, used, made))
        _write(study, place)


def _measured(setting: Setting, seed: int, texts: float, facts: Sequence[Fact], made: Result) -> Measured:
    [written] = made.written
    # Of each fact, validation wordings were asked first, then the held-out ones.
    cut = [len(asked) - len(fact.held_out) for asked, fact in zip(written.validation, facts, strict=True)]
    parts = list(zip(written.validation, cut, strict=True))
    held = [asked[at:] for asked, at in parts]
    return Measured(
        setting=setting.name,
        seed=seed,
        texts=round(texts, 2),
        trained=_share(written.trained) if any(written.trained) else None,
        validation=_share([asked[:at] for asked, at in parts]),
        unseen=_share(held),
        facts=tuple(_share([hits]) for hits in held),
        seconds=round(made.seconds, 1),
        processor_seconds=round(made.processor_seconds, 1),
    )


def _share(hits: Hits | Sequence[Sequence[bool]]) -> float:
    """The mean over facts of the share of wordings that were answered."""
    told = [sum(wordings) / len(wordings) for wordings in hits if wordings]
    return round(sum(told) / len(told), 4) if told else 0.0


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
        **{name: recipe[name] for name in ("validation_wordings", "r", "lora_alpha", "target_modules", "lr")},
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
    if (place / RESULTS).exists():
        stands = read_wordings(place)
        stands.check_same(fresh, str(place))
        fresh.settings, fresh.written, fresh.rows = stands.settings, stands.written, stands.rows
    fresh.add_settings(settings, str(place))
    return fresh


def _write(study: WordingStudy, place: Path) -> None:
    study.rows.sort(key=lambda row: (row.setting, row.seed))
    told = study.summaries()
    points = {s.setting.name: (s.unseen, s.low, s.high) for s in told}
    numbers = sorted((s for s in told if s.setting.part == "number"), key=lambda s: s.setting.wordings)
    plot = recall_by_texts(
        {s.setting.wordings: s.trained for s in numbers if s.trained is not None},
        {s.setting.wordings: points[s.setting.name] for s in numbers},
        {s.setting.name: points[s.setting.name] for s in told if s.setting.part != "number"},
        points.get(study.reference, (None,))[0],
    )
    save(place, study.to_json(), report(study), {"recall.png": plot})

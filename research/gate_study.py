"""A gate study: what labels, the language-model loss and both teach a gate on one bank, beside PEFT's own routers."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors.torch import load_file, save

from lorary.bank.bank import MemoryBank
from lorary.bank.files import hash_of, write_aside
from lorary.base.loading import load_base
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.progress import progress_bars
from lorary.research.gate_study_report import figures_by_router, tell_gates
from lorary.research.labels import TEMPERATURE, agreement, check_adapters, measure_losses, soft_labels
from lorary.research.measures import KINDS, gate_run, rival_run, study_questions
from lorary.research.peft_routers import PEFT
from lorary.research.rivals import Task, weigh
from lorary.research.settings import ARMS, RIVALS, VARIED, Budget, StudyError
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.calibration import calibrate, scored
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.queries import Queries
from lorary.router_training.settings import Training
from lorary.router_training.training import fit
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

STUDY = "gate-study"
SCHEMA = 3
LOSSES = "losses.safetensors"


def gate_study(
    bank: str | Path,
    *,
    out: str | Path,
    seeds: int = 3,
    arms: Sequence[str] = tuple(ARMS),
    rivals: Sequence[str] = RIVALS,
    training: Training | None = None,
    unrelated: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """The results of every arm, seed and rival; `results.json` and `report.md` in `out` are written after each run.

    All arms see the same bank, data, order (by the seed) and number of steps: none ends early, and each keeps the gate of
    the epoch with its own lowest validation loss. What stands in `out` under the same settings is not run again.

    Args:
        seeds: how many, from 0.
        arms: of `ARMS`.
        rivals: of `RIVALS`; they run after the gates, one at a time, over a base that is loaded anew for each.
        training: of the arm "both"; a `language_weight` of 0 is taken as 1.
        unrelated: JSONL of questions that no memory answers, to train and calibrate on; a shipped set by default.

    Raises:
        StudyError: an unknown arm or rival.
        ResumeError: a folder that holds a study under other settings, or files of somebody else.
        BankError: a memory without an adapter, or no held-out or validation wordings.
    """
    for names, known, what in ((arms, ARMS, "arm"), (rivals, RIVALS, "rival")):
        if wrong := [name for name in names if name not in known]:
            raise StudyError(f"{what} {wrong[0]!r} is unknown; choose from {list(known)}")
    training = training or Training()
    training = replace(training, patience=training.max_epochs, language_weight=training.language_weight or 1.0)
    study = _Study(MemoryBank.load(bank), Path(out), training, read_questions(unrelated))
    study.open(seeds)
    wanted = [(arm, seed) for seed in range(seeds) for arm in arms if f"{arm}/{seed}" not in study.results["runs"]]
    if wanted:
        study.train(wanted, quiet)
    for name in rivals:
        for seed in range(seeds if name == "xlora" else 1):  # Arrow draws nothing that matters, and trains nothing
            if not study.met(name, seed):
                study.meet(name, seed, quiet)
    study.write()
    return study.results


class _Study:
    def __init__(self, bank: MemoryBank, out: Path, training: Training, unrelated: list[str]) -> None:
        self.bank, self.out, self.training, self.unrelated = bank, out, training, unrelated
        check_adapters(bank)
        self.questions = study_questions(bank)
        self.results: dict[str, Any] = {}
        self.targets: list[torch.Tensor] = []

    def open(self, seeds: int) -> None:
        """Takes up what stands in the folder."""
        content = b"".join(part for memory in self.bank for part in memory.files().values())
        settings = {
            "bank": hash_of(content),
            "unrelated": hash_of("\n".join(self.unrelated).encode()),
            "label_temperature": TEMPERATURE,
            **{name: value for name, value in asdict(self.training).items() if name not in VARIED},
        }
        fresh = {"study": STUDY, "schema": SCHEMA, "settings": settings, "runs": {}, "rivals": {}}
        stands = go_on(self.out, STUDY, SCHEMA, {"settings": settings}, writes=(REPORT, LOSSES))
        self.results = fresh if stands is None else stands
        memories = {"memories": len(self.bank), "facts": sum(len(memory.facts) for memory in self.bank)}
        counts = {kind: len(questions.texts) for kind, questions in self.questions.items()}
        self.results |= {"base": self.bank.base, "counts": {**memories, **counts}, "seeds": seeds}
        self.results["facts"] = {kind: self.questions[kind].facts for kind in KINDS}

    def write(self) -> None:
        self.results["routers"], self.results["differences"] = figures_by_router(self.results)
        write_results(self.out, self.results, {REPORT: tell_gates(self.results).encode()})

    def train(self, wanted: Sequence[tuple[str, int]], quiet: bool) -> None:
        """Trains and measures the gates of (arm, seed) pairs."""
        training = self.training
        loaded = load_base(self.bank.base, revision=self.bank.revision)
        config = LoraryConfig(
            text_config=loaded.model.config,
            granularity=training.granularity,
            features=training.gate_features(),
            split_layer=self.bank.split_layer,
        )
        self.model = assemble(self.bank, loaded, config=config)
        self.data = RoutingData(
            self.model.router,
            self.unrelated,
            batch_size=training.batch_size,
            seed=0,
            model=self.model,
            unknown_names=training.unknown_names,
        )
        reads = self.model if "hidden" in self.model.gate.features else None
        self.measured = {
            kind: Queries(self.model.router, self.data.wordings, self.questions[kind].examples(), reads)
            for kind in KINDS
        }
        self.results["runs"]["index/0"] = rival_run(
            {kind: queries.features.votes for kind, queries in self.measured.items()}, self._memory(), shares=False
        )
        if any(arm == "soft-labels" for arm, _ in wanted):
            self._measure_losses(quiet)
        steps = training.max_epochs * -(-len(self.data.trained) // training.batch_size)
        with progress_bars(quiet) as bars:
            bar = bars.start("gates", steps * len(wanted))
            for arm, seed in wanted:
                advance = partial(bar.advance, 1, f"{arm}, seed {seed}")
                self.results["runs"][f"{arm}/{seed}"] = self._gate(arm, seed, advance)
                self.write()
        # A rival loads the base anew, and two of it may be more than there is room for.
        del self.model, self.data, self.measured
        gc.collect()

    def _memory(self) -> dict[str, torch.Tensor]:
        return {kind: self.questions[kind].memory for kind in KINDS}

    def _measure_losses(self, quiet: bool) -> None:
        """The targets by loss: the answers' losses under each memory, measured once and kept in `losses.safetensors`."""
        data, path = (self.data.trained, self.data.validation), self.out / LOSSES
        if path.is_file():
            kept = load_file(path)
            losses = [kept["trained"], kept["validation"]]
        else:
            began = time.perf_counter()
            losses = measure_losses(self.model, data, quiet=quiet)
            self.results["losses_seconds"] = round(time.perf_counter() - began, 3)
            self.write()
            write_aside(path, save(dict(zip(("trained", "validation"), losses, strict=True))))
        self.results["labels_by_loss"] = agreement(losses[0], self.data.trained.memory, TEMPERATURE)
        pairs = zip(losses, data, strict=True)
        self.targets = [soft_labels(own, queries.memory, TEMPERATURE) for own, queries in pairs]

    def _gate(self, arm: str, seed: int, advance: Callable[[], None]) -> dict[str, Any]:
        """One gate's training and what it then does with each question."""
        training = replace(self.training, seed=seed, **ARMS[arm])
        router, data = self._router(), self.data
        data.seed = seed
        data.trained.target, data.validation.target = self.targets if arm == "soft-labels" else (None, None)
        place = self.out / "training" / f"{arm}-{seed}"
        model = self.model if training.language_weight or "hidden" in router.gate.features else None
        began = time.perf_counter()
        trainer = fit(router, data, training, place, model=model, quiet=True, callbacks=[_Advance(advance)])
        seconds = time.perf_counter() - began
        before = scored(router, self.measured["held_out"])[0]
        calibrated = calibrate(router, data, training)
        after = {kind: scored(router, queries) for kind, queries in self.measured.items()}
        policy = Policy(**calibrated["policy"], top_k=training.top_k, top_p=training.top_p)
        logits, votes = ({kind: pair[i] for kind, pair in after.items()} for i in range(2))
        if arm == "soft-labels":
            seconds += self.results.get("losses_seconds", 0.0)
        run = gate_run(logits, votes, self._memory(), policy, before)
        return run | {"seconds": round(seconds, 1), "steps": trainer.global_step, "policy": calibrated["policy"]}

    def _router(self) -> Router:
        """A router with an untrained gate, over the study's index."""
        encoder = self.model.router.get_encoder()
        hidden = self.model.base.config.get_text_config().hidden_size
        gate = new_gate(self.bank, encoder, hidden, self.training.gate_features()).requires_grad_(False)
        return Router(self.bank, gate, Policy(), lambda: encoder)

    def met(self, name: str, seed: int) -> bool:
        """Whether a rival has weighed the memories, or has refused them under the version of PEFT that is installed."""
        key = f"{name}/{seed}"
        refused = self.results["rivals"].get(key, {})
        return key in self.results["runs"] or ("refused" in refused and refused["peft"] == PEFT)

    def meet(self, name: str, seed: int, quiet: bool) -> None:
        """Lets a rival weigh the memories, for as many seconds as the slowest gate of that seed was trained."""
        runs = self.results["runs"]
        spent = [runs[f"{arm}/{seed}"]["seconds"] for arm in ARMS if f"{arm}/{seed}" in runs]
        seconds = {"seconds": max(spent)} if spent else {}
        budget = Budget(**seconds, batch_size=self.training.batch_size, lr=self.training.lr)
        known = self.questions["trained"]
        task = Task(
            trained=[(text, answer) for text, answer in zip(known.texts, known.answers, strict=True) if answer],
            questions=[text for kind in KINDS for text in self.questions[kind].texts],
        )
        with progress_bars(quiet) as bars:
            bar = bars.start(f"rival {name}, seed {seed}, trains at most {budget.seconds:.0f} s", 1)
            run, weights = weigh(name, self.bank, task, budget, seed=seed)
            bar.advance()
        self.results["rivals"][f"{name}/{seed}"] = run | {"as_long_as_gates": bool(spent)}
        if weights is not None:
            counts = [len(self.questions[kind].texts) for kind in KINDS]
            by_kind = dict(zip(KINDS, weights.split(counts), strict=True))
            runs[f"{name}/{seed}"] = rival_run(by_kind, self._memory(), shares=True) | {"seconds": run["seconds"]}
        self.write()


class _Advance(lightning.Callback):
    """Moves a bar on with each step."""

    def __init__(self, advance: Callable[[], None]) -> None:
        self.advance = advance

    def on_train_batch_end(self, *_: Any) -> None:
        self.advance()

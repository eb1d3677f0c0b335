"""A joint study: what names, labels by loss and the language-model loss teach a gate of adapters that bring no facts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from lorary.bank.bank import MemoryBank
from lorary.base.loading import EMBEDDED, Base, load_base
from lorary.base.prompts import answer_ids, prompt, prompt_batch
from lorary.model.composite import assemble
from lorary.model.modeling import LoraryForCausalLM
from lorary.progress import progress_bars
from lorary.randomness import seeded
from lorary.research.joint_prompts import Asked, Setting, settings_of
from lorary.research.joint_report import tell_joint
from lorary.research.joint_settings import ARMS, JointDesign
from lorary.research.peft_adapters import bank_of
from lorary.research.questions import general_questions
from lorary.resume import REPORT, go_on, write_results
from lorary.router_training.calibration import calibrate
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.examples import RoutingExample, take_examples
from lorary.router_training.loss_labels import least, losses_of
from lorary.router_training.queries import Example
from lorary.router_training.settings import Training
from lorary.router_training.training import fit
from lorary.routing.encoder import EMBEDDED as ENCODER
from lorary.routing.encoder import Encoder, load_encoder
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

STUDY, SCHEMA = "joint-study", 1
_APART = 0.02
"""How far keys that start by chance lie from the mean of all examples, as a standard deviation of each number."""
_UNRELATED = 60
"""Unrelated questions that gates are trained and calibrated on: about as many as an adapter has examples."""
_AT_ONCE = 16


def joint_study(
    out: str | Path,
    *,
    design: JointDesign | None = None,
    base: str | None = None,
    spanish: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """The results of every setting, arm and seed; `results.json` and `report.md` are written into `out` after each setting.

    All arms of a setting see the same examples in the same order (by the seed). Every source's loss and answer on the held-out
    prompts is measured once, so a gate is judged by where it leads.

    Args:
        spanish: questions in SQuAD's format, for an adapter that answers in Spanish; none without.

    Raises:
        ResumeError: a folder that holds a study under other settings, or files of somebody else.
    """
    design, place, base = design or JointDesign(), Path(out), base or EMBEDDED
    told = {**asdict(design), "base": base, "spanish": spanish is not None}
    del told["seeds"]
    stands = go_on(place, STUDY, SCHEMA, {"settings": told}, writes=(REPORT,))
    fresh: dict[str, Any] = {"study": STUDY, "schema": SCHEMA, "settings": told, "runs": {}, "banks": {}}
    results = (fresh if stands is None else stands) | {"seeds": design.seeds}
    spanish = None if spanish is None else Path(spanish)
    settings = settings_of(design.steps, design.short_steps, design.format_steps, design.wrong, spanish)
    encoder = load_encoder(ENCODER)
    study: _Study | None = None
    for name, setting in settings.items():
        keys = [(arm, seed) for seed in range(design.seeds) for arm in ARMS]
        missing = [(arm, seed) for arm, seed in keys if f"{name}/{arm}/{seed}" not in results["runs"]]
        if not missing:
            continue
        if study is None or not setting.differs_in_names_alone(study.setting):
            adapters = {adapter: (own.pairs, own.steps) for adapter, own in setting.adapters.items()}
            bank = bank_of(adapters, base, place / "adapters", quiet)
            study = _Study(setting, bank, load_base(base), encoder, design)
            measured = study.measure(quiet)
        study.setting, study.place = setting, place / "training" / name.replace(" ", "-")
        results["banks"][name] = measured
        with progress_bars(quiet) as bars:
            bar = bars.start(f"gates: {name}", len(missing))
            for arm, seed in missing:
                results["runs"][f"{name}/{arm}/{seed}"] = study.gate(arm, seed)
                bar.advance(1, f"{arm}, seed {seed}")
        write_results(place, results, {REPORT: tell_joint(results).encode()})
    write_results(place, results, {REPORT: tell_joint(results).encode()})
    return results


class _Study:
    """One setting: its bank, and what every source makes of the held-out prompts."""

    def __init__(
        self,
        setting: Setting,
        bank: MemoryBank,
        base: Base,
        encoder: Encoder,
        design: JointDesign,
        place: Path = Path("training"),
    ) -> None:
        self.setting, self.bank, self.encoder, self.design, self.place = setting, bank, encoder, design, place
        self.model = assemble(bank, base, encoder=encoder)
        self.unrelated = read_questions()[:_UNRELATED]

    def measure(self, quiet: bool) -> dict[str, Any]:
        """Measures the sources, and labels the examples by loss; tells both."""
        numbers = {name: number for number, name in enumerate(self.bank.names)}
        queries = [Example(a.text, numbers[a.adapter], a.completion) for a in self.setting.held_out]
        self.nats = losses_of(self.model, queries, quiet=quiet)
        self.exact = exact_answers(self.model, self.setting.held_out)
        self.right = torch.tensor([query.memory for query in queries])
        began = time.process_time()
        examples = [Example(a.text, numbers[a.adapter], a.completion) for a in self.setting.examples]
        self.by_loss = least(losses_of(self.model, examples, quiet=quiet)).tolist()
        self.seconds = time.process_time() - began
        own = torch.tensor([query.memory for query in examples])
        return {
            "memories": self.bank.names,
            "examples": len(examples),
            "facts": [asked.fact for asked in self.setting.held_out],
            "right": self.right.tolist(),
            "nats": [[round(float(x), 5) for x in row] for row in self.nats],
            "exact": self.exact.int().tolist(),
            "labels_right": round(float((torch.tensor(self.by_loss) == own).float().mean()), 4),
            "label_seconds": round(self.seconds, 1),
        }

    def gate(self, arm: str, seed: int) -> dict[str, Any]:
        """One gate's training, and where it then leads the held-out prompts and unrelated questions."""
        training = self.design.training(arm, seed)
        router, data = self._router(arm, seed, training)
        began = time.process_time()
        fit(router, data, training, self.place / f"{arm}-{seed}", model=self.model, quiet=True)
        seconds = time.process_time() - began + (self.seconds if arm.startswith("loss") else 0.0)
        texts = [asked.text for asked in self.setting.held_out]
        features = router.features(texts)
        run: dict[str, Any] = {"seconds": round(seconds, 1)}
        run["keys"] = router.gate.terms(features)["asked"].argmax(-1).tolist()
        if "contents" in router.gate.features:
            calibrated = calibrate(router, data, training)
            policy = Policy(**calibrated["policy"])
            run["policy"] = led(router, features, policy)
            run["unrelated"] = led(router, router.features(general_questions()), policy)
        return run

    def _router(self, arm: str, seed: int, training: Training) -> tuple[Router, RoutingData]:
        names, setting = (*self.bank.names, "__base__"), self.setting
        labels = setting.names(seed) if arm.startswith("names") else [names[label] for label in self.by_loss]
        given = [
            RoutingExample(a.text, [{"role": "user", "content": a.text}], a.completion, label)
            for a, label in zip(setting.examples, labels, strict=True)
        ]
        bank, taken = take_examples(self.bank, given, {}, self.encoder)
        features = training.gate_features()
        gate = new_gate(bank, self.encoder, 0, features).requires_grad_(False)
        if arm == "language":
            start_by_chance(gate.asked_keys, seed)
        router = Router(bank, gate, Policy(), lambda: self.encoder)
        data = RoutingData(
            router,
            [*self.unrelated, *taken.unrelated],
            batch_size=training.batch_size,
            seed=seed,
            model=self.model,
            completions=taken.completions,
            kept=taken.kept,
        )
        return router, data


@torch.no_grad()
def start_by_chance(keys: Float[Tensor, "memories embedding"], seed: int) -> None:
    """Puts keys, in place, near the mean of all, where nothing tells one from another but chance."""
    with seeded(seed):
        around = functional.normalize(keys.mean(0), dim=-1) + _APART * torch.randn_like(keys)
    keys.copy_(functional.normalize(around, dim=-1))


@torch.no_grad()
def led(router: Router, features: Any, policy: Policy) -> list[int]:
    """The number of the memory that a policy leads each query to, or of none."""
    decided = router.decide(features, policy)
    return torch.where(decided.source > 0, decided.weights.argmax(-1), len(router.bank)).tolist()


@torch.no_grad()
def exact_answers(model: LoraryForCausalLM, held_out: Sequence[Asked]) -> Int[Tensor, "prompts sources"]:
    """Whether each memory, and the base last, says what is to be said, greedily; case counts."""
    tokenizer, exact = model.tokenizer, torch.zeros(len(held_out), len(model.memories) + 1, dtype=torch.long)
    texts = [prompt(tokenizer, asked.text) for asked in held_out]
    room = max(len(answer_ids(tokenizer, text, a.completion)) for text, a in zip(texts, held_out, strict=True))
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for column, name in enumerate((*model.memories, "__base__")):
        with model.routed(adapter_names=[name]):
            for start in range(0, len(order), _AT_ONCE):
                part = order[start : start + _AT_ONCE]
                inputs = prompt_batch(tokenizer, [texts[i] for i in part])
                output = model.generate(**inputs, do_sample=False, max_new_tokens=room)
                said = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
                for i, text in zip(part, said, strict=True):
                    exact[i, column] = int(text.strip() == held_out[i].completion)
    return exact

"""PEFT's X-LoRA and Arrow over a bank: their weights, and what the installed version cannot do (the report says so)."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from conftest import FACTS, empty_bank, pico_model, save_adapter
from peft import LoraConfig, PeftModel
from peft.tuners.lora.arrow import ArrowLoraLinearLayer, create_arrow_model
from peft.tuners.lora.config import ArrowConfig
from safetensors.torch import load_file

from lorary.bank.bank import MemoryBank
from lorary.base.loading import BaseError, load_base
from lorary.research.peft_routers import coefficients, new_arrow, new_xlora, scalings_of, weights_of
from lorary.research.rivals import Task, over_tokens, weigh
from lorary.research.settings import Budget, RivalError

IDS = torch.randint(3, 300, (2, 7), generator=torch.Generator().manual_seed(0))


TASK = Task(
    trained=[(fact.question, fact.answer) for facts in FACTS.values() for fact in facts],
    questions=[*(fact.questions[0] for facts in FACTS.values() for fact in facts), "How tall is a giraffe?"],
)
SHORT = Budget(seconds=1.0, batch_size=2)


def fresh(base):
    return load_base(base.name, dtype=torch.float32)


@pytest.mark.parametrize("rival", ["xlora", "arrow"])
def test_a_rival_weighs_every_memory_for_every_question(rival, alike):
    before = torch.get_rng_state()
    run, weights = weigh(rival, MemoryBank.load(alike[0]), TASK, SHORT, seed=1)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers are its own"
    assert weights.shape == (7, 3), "six questions and the unrelated one"
    assert torch.allclose(weights.sum(-1), torch.ones(7), atol=1e-3), "it cannot abstain"
    assert run["total"] == pytest.approx([1, 1], abs=1e-3)
    assert (run["rival"], run["seed"], run["peft"]) == (rival, 1, version("peft"))
    assert (run["steps"] > 0) == (rival == "xlora")
    assert run["rows"] == 2 * run["steps"]


def test_x_lora_learns_its_classifier_alone(alike, base):
    found = []
    for seconds in (0.0, 1.0):
        run, weights = weigh("xlora", MemoryBank.load(alike[0]), TASK, Budget(seconds=seconds), base=fresh(base))
        assert (run["steps"] > 0) == (seconds > 0)
        found.append(weights)
    assert not torch.allclose(*found)
    model = new_xlora(fresh(base), alike[1])
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all("xlora_classifier" in name for name in trained)


def test_what_cannot_run_is_named(alike, base):
    bank = MemoryBank.load(alike[0])
    with pytest.raises(RivalError, match="rival 'moe' is unknown"):
        weigh("moe", bank, TASK, SHORT)
    for changed in ({"seconds": -1.0}, {"batch_size": 0}, {"lr": 0.0}, {"seconds": float("nan")}):
        with pytest.raises(RivalError, match="X-LoRA cannot train with"):
            Budget(**changed)
    with pytest.raises(BaseError, match="has fingerprint"):
        weigh("arrow", bank, TASK, SHORT, base=replace(base, model=pico_model(seed=1)))


def test_arrow_s_refusal_is_told_not_raised(bank):
    """The fixture's adapters differ in rank and targets."""
    run, weights = weigh("arrow", bank, TASK, SHORT)
    assert "mismatch" in run["refused"]
    assert weights is None


def test_arrow_weighs_only_the_layers_that_memories_adapt(base, encoder, tmp_path):
    """Below the split they adapt none; PEFT's own forward pass raises there."""
    bank, given = empty_bank(base), {"r": 2, "target_modules": ["up_proj"], "layers_to_transform": [1]}
    folders = [save_adapter(base.model, tmp_path / "adapters" / name, i, **given) for i, name in enumerate(FACTS)]
    for folder in folders:
        bank.add(folder, facts=FACTS[folder.name], encoder=encoder, same_base=True)
    with pytest.raises(RuntimeError, match="non-empty TensorList"):
        create_arrow_model(fresh(base).model, [str(folder) for folder in folders], ArrowConfig(top_k=3))(input_ids=IDS)
    model = new_arrow(fresh(base), folders).eval()
    layers = [name for name, module in model.named_modules() if isinstance(module, ArrowLoraLinearLayer)]
    assert len(layers) == 1
    assert "layers.1.mlp.up_proj" in layers[0]
    assert not torch.allclose(model(input_ids=IDS).logits, fresh(base).model(input_ids=IDS).logits, atol=1e-4)
    run, _ = weigh("arrow", bank, TASK, SHORT)
    assert run["total"] == pytest.approx([1, 1], abs=1e-3)


def test_arrow_needs_as_many_adapters_in_a_layer_as_it_mixes(base, tmp_path):
    """PEFT looks at the names of the targets alone; its own forward pass raises."""
    layers = ([1], [1], [0, 1], [0, 1], [0, 1])
    given = {"r": 2, "target_modules": ["up_proj"]}
    folders = [
        str(save_adapter(base.model, tmp_path / str(i), layers_to_transform=own, **given))
        for i, own in enumerate(layers)
    ]
    with pytest.raises(RuntimeError, match="selected index k out of range"):
        create_arrow_model(fresh(base).model, folders[:4], ArrowConfig(top_k=3))(input_ids=IDS)
    with pytest.raises(
        RivalError, match=r"mixes 3 adapters in every layer, and 2 of 4 adapt .*layers\.0\.mlp\.up_proj"
    ):
        new_arrow(fresh(base), folders[:4])
    model = new_arrow(fresh(base), folders).eval()
    model(input_ids=IDS)
    held = [len(layer.task_adapter_names) for layer in model.modules() if isinstance(layer, ArrowLoraLinearLayer)]
    assert held == [3, 5], "a layer that some memories adapt is theirs"
    with pytest.raises(RivalError, match="adapt different layers"), weights_of(model, len(folders)):
        pass


def test_arrow_s_coefficients_are_those_it_applies(alike, base):
    model = new_arrow(fresh(base), alike[1]).eval()
    seen = {}

    def look(layer, args, kwargs, output):
        seen[layer] = (args[0], kwargs, output)

    layers = [layer for layer in model.modules() if isinstance(layer, ArrowLoraLinearLayer)]
    for layer in layers:
        layer.register_forward_hook(look, with_kwargs=True)
    model(input_ids=IDS)
    assert len(seen) == len(layers) == 4
    for layer, (x, given, output) in seen.items():
        names = layer.task_adapter_names
        each = [given["lora_B"][n](given["lora_A"][n](x)) * given["scaling"][n] for n in names]
        expected = torch.einsum("bse,ebso->bso", coefficients(layer, x), torch.stack(each))
        assert torch.allclose(output, expected, atol=1e-4)


def test_the_mean_over_tokens_leaves_padding_out():
    weights = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    assert over_tokens(weights, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[0.5, 0.5]]


def test_what_x_lora_cannot_do(alike, base, tmp_path):
    """What the study's report says of it."""
    model = new_xlora(fresh(base), alike[1])
    expected = model(input_ids=IDS).logits
    assert torch.allclose(scalings_of(model).sum(-1), torch.ones(()), atol=1e-3), "it cannot abstain"
    model.save_pretrained(tmp_path / "saved")

    def reload(folder, **given):
        other = fresh(base)
        other.model.config.use_cache = False
        return PeftModel.from_pretrained(other.model, folder, **given)(input_ids=IDS).logits

    # Its classifier's layers have numbers, as the adapters have, and PEFT leaves out what looks like another adapter's.
    assert not load_file(tmp_path / "saved" / "adapter_model.safetensors"), "what it learned is not saved"
    assert not torch.allclose(reload(tmp_path / "saved"), expected, atol=1e-4)
    shutil.move(tmp_path / "adapters", tmp_path / "gone")
    with pytest.raises(ValueError, match=r"Can't find 'adapter_config.json'"):
        reload(tmp_path / "saved")
    with pytest.raises(ValueError, match="Cannot combine adapters with different peft types"):
        model.add_adapter("more", LoraConfig(r=2, target_modules=["up_proj"]))


def test_what_arrow_cannot_do(alike, base, tmp_path):
    model = new_arrow(fresh(base), alike[1]).eval()
    expected = model(input_ids=IDS).logits
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(AttributeError):
        PeftModel.from_pretrained(fresh(base).model, tmp_path / "saved" / "arrow_router")
    again = new_arrow(fresh(base), [tmp_path / "saved" / f"task_{i}" for i in range(3)]).eval()
    assert torch.allclose(again(input_ids=IDS).logits, expected, atol=1e-4), (
        "made anew from the adapters it is the same"
    )

"""Stock PEFT adapters: what is taken computes what PEFT computes, and all else is refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest
import torch
from conftest import empty_bank, pico_model, save_adapter
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import VeloraConfig
from safetensors.torch import load_file, save_file

from lorary.bank.adapters import CONFIG, PREFIX, WEIGHTS, AdapterError, read_adapter
from lorary.bank.lora_config import FIELDS
from lorary.model.composite import assemble

CLOSE = {"atol": 2e-5, "rtol": 1e-4}
IDS = torch.arange(4, 44).unsqueeze(0)
PLAIN = {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "up_proj"]}
WRITTEN_BY_EARLY_PEFT = {"merge_weights", "enable_lora"}


def edit(folder, **fields):
    """Changes fields of a saved adapter's config."""
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return folder


def rename(folder, change):
    """Renames the tensors of a saved adapter."""
    file = folder / WEIGHTS
    save_file({change(name): tensor for name, tensor in load_file(file).items()}, file)
    return folder


def replace_tensor(folder, change, part="lora_A"):
    """Changes the first tensor of a saved adapter whose name has a part."""
    file = folder / WEIGHTS
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if part in name)
    save_file(tensors | {name: change(tensors[name]).contiguous()}, file)
    return name


def peft_logits(folder):
    with torch.no_grad():
        return PeftModel.from_pretrained(pico_model(), folder).eval()(input_ids=IDS).logits


def test_every_field_of_peft_is_decided():
    fields = {field.name: field for field in dataclasses.fields(LoraConfig)}
    assert set(fields) == set(FIELDS) - WRITTEN_BY_EARLY_PEFT
    config = LoraConfig()
    for name in set(fields) - {"peft_type", "peft_version", "runtime_config"}:
        assert FIELDS[name].default == getattr(config, name), name


KINDS = {
    "plain": {},
    "rslora": {"use_rslora": True, "r": 4},
    "fractions": {"lora_alpha": 2.5, "lora_dropout": 0.1},
    "patterns": {
        "rank_pattern": {"layers.0.self_attn.q_proj": 4, "q_proj": 3},
        "alpha_pattern": {"q_proj": 9, "self_attn.q_proj": 2, ".*up_proj": 7},
    },
    "rslora patterns": {"use_rslora": True, "rank_pattern": {"up_proj": 4}, "alpha_pattern": {"up_proj": 2}},
    "regex": {"target_modules": r".*layers\.1\.(mlp\.(up|down)_proj|self_attn\.v_proj)"},
    "flags in a regex": {"target_modules": r"(?i).*UP_PROJ"},
    "all linear": {"target_modules": "all-linear"},
    "all but some": {"target_modules": "all-linear", "exclude_modules": ["o_proj", "model.layers.0.mlp.up_proj"]},
    "excluded by regex": {"exclude_modules": r".*\.0\..*q_proj"},
    "one layer": {"layers_to_transform": 0},
    "one layer of a list": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "full paths": {"target_modules": ["model.layers.0.mlp.up_proj", "model.layers.1.self_attn.k_proj"]},
    "conv": {"fan_in_fan_out": True},
    "bias all": {"bias": "all"},
    "bias of targets": {"bias": "lora_only"},
    "velora": {"velora_config": VeloraConfig(num_groups=4, init_type="random")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_computes_what_peft_computes(kind, base, encoder, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", 1, **(PLAIN | KINDS[kind]))
    expected, bank = peft_logits(folder), empty_bank(base)
    bank.add(folder, same_base=True)
    model = assemble(bank, base, encoder=encoder)
    found = model(input_ids=IDS, adapter_names=["a"]).logits
    assert torch.allclose(found, expected, **CLOSE)
    bank.save(tmp_path / "bank")
    assert torch.allclose(peft_logits(tmp_path / "bank" / "memories" / "a"), expected, **CLOSE)


EDITS = {
    **{
        str(start): {"init_lora_weights": start}
        for start in (True, None, "gaussian", "Gaussian", "EVA", "MiCA", "mica")
    },
    **{start: {"init_lora_weights": start} for start in ("eva", "orthogonal", "ORTHOGONAL")},
    "null": dict.fromkeys(("rank_pattern", "alpha_pattern", "use_rslora", "loftq_config", "task_type")),
    "empty": {"modules_to_save": [], "trainable_token_indices": [], "layers_to_transform": [], "use_bdlora": False},
    "notes": {"peft_version": "0.99", "auto_mapping": {"a": 1}, "runtime_config": {"x": 1}, "eva_config": {"rho": 1}},
    "an early PEFT's": {"merge_weights": True, "enable_lora": None},
    "unknown but empty": {"use_tomorrow": False, "tomorrow_config": None, "tomorrow_list": []},
    "another task": {"task_type": "SEQ_CLS"},
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_config_is_taken_and_opens_with_peft(kind, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", 1, **PLAIN)
    expected = peft_logits(folder)
    bank = empty_bank(base)
    bank.add(edit(folder, **EDITS[kind]), same_base=True)
    bank.save(tmp_path / "bank")
    assert torch.equal(peft_logits(tmp_path / "bank" / "memories" / "a"), expected)


def wrapped(name):
    return f"_orig_mod.module.{name}".replace("layers.", "_fsdp_wrapped_module.layers.").replace(
        "mlp.", "mlp._orig_mod."
    )


@pytest.mark.parametrize("change", [wrapped, lambda name: name.replace(".weight", ".default.weight")])
def test_a_wrapper_s_prefix_and_the_adapter_s_name_are_taken_off(change, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", 1, **PLAIN)
    expected, bank = peft_logits(folder), empty_bank(base)
    bank.add(rename(folder, change), same_base=True)
    bank.save(tmp_path / "bank")
    assert torch.equal(peft_logits(tmp_path / "bank" / "memories" / "a"), expected)


def test_a_byte_order_mark_is_read_and_safetensors_count_before_a_pickle(base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", 1, **PLAIN)
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())
    (folder / "adapter_model.bin").write_bytes(b"never opened")
    assert empty_bank(base).add(folder, same_base=True).adapter_config["r"] == 2
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=r"only adapter_model\.bin.*convert it once.*save_file"):
        read_adapter(folder)


REFUSED = [
    ({"init_lora_weights": start}, f"init_lora_weights='{start}' changed the base's own weights.*convert")
    for start in ("pissa", "PiSSA_niter_4", "corda", "OLoRA", "loftq", "lora_ga")
]
REFUSED += [
    ({"init_lora_weights": "tomorrow"}, "init_lora_weights='tomorrow' is not known"),
    ({"init_lora_weights": 1.5}, "init_lora_weights=1.5 is not known"),
    ({"tomorrow": 3}, "tomorrow=3 is not a field"),
    ({"use_rslora": "false"}, "use_rslora='false'"),
    ({"lora_alpha": None}, "lora_alpha=None"),
    ({"lora_alpha": "4"}, "lora_alpha='4'"),
    ({"lora_alpha": float("nan")}, "lora_alpha=nan"),
    ({"lora_alpha": 10**400}, "lora_alpha=1000"),
    ({"lora_alpha": True}, "lora_alpha=True"),
    ({"r": 2.0}, "r=2.0"),
    ({"r": 0}, "r=0"),
    ({"r": 8}, "has rank 2, its config says 8"),
    ({"rank_pattern": {"q_proj": 4}}, "has rank 2, its config says 4"),
    ({"rank_pattern": {"*q_proj": 2}}, "rank_pattern"),
    ({"alpha_pattern": [4]}, "alpha_pattern"),
    ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern"),
    ({"target_modules": None}, "target_modules=None leaves to the base's family"),
    ({"target_modules": "*q_proj"}, "target_modules"),
    ({"target_modules": [1]}, "target_modules"),
    ({"target_modules": []}, "does not target"),
    ({"target_modules": ["q_proj"]}, "up_proj, which its config does not target"),
    ({"target_modules": ["q_proj", "up_proj", "v_proj"]}, "targets .*v_proj and 1 more without factors"),
    ({"target_modules": ["q_proj", "up_proj", "lm_head"]}, "targets lm_head without factors"),
    ({"target_modules": ".*(q_proj|up_proj|embed_tokens)"}, r"targets model\.embed_tokens without factors"),
    ({"layers_to_transform": [0]}, r"layers.1.*which its config does not target"),
    ({"layers_to_transform": 0}, r"layers.1.*which its config does not target"),
    ({"layers_to_transform": ["0"]}, "layers_to_transform"),
    ({"layers_pattern": "layers"}, "layers_pattern without layers_to_transform"),
    ({"exclude_modules": ["up_proj"]}, "up_proj, which its config does not target"),
    ({"target_modules": ".*(q|up)_proj", "layers_to_transform": 0}, "layers_to_transform needs a list"),
    ({"kasa_config": {}}, "kasa_config"),
    ({"monteclora_config": {}}, "monteclora_config"),
    ({"use_qalora": True}, "use_qalora"),
    ({"peft_type": "lora"}, "'lora' adapter"),
    ({"peft_type": ["LORA"]}, "adapter cannot be a memory"),
    ({"task_type": ["CAUSAL_LM"]}, "task_type"),
    ({"bias": None}, "bias=None"),
]


@pytest.mark.parametrize(("change", "told"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_config_that_says_something_else_is_refused(change, told, base, tmp_path):
    folder, bank = save_adapter(base.model, tmp_path / "a", **PLAIN), empty_bank(base)
    with pytest.raises(AdapterError, match=told):
        bank.add(edit(folder, **change), same_base=True)
    assert bank.names == []


def test_a_folder_of_adapters_names_them(base, tmp_path):
    save_adapter(base.model, tmp_path / "all" / "ormen", **PLAIN)
    with pytest.raises(AdapterError, match=r"has no adapter_config\.json.*these hold adapters: .*ormen"):
        read_adapter(tmp_path / "all")


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_are_refused(bias, base, tmp_path):
    model = pico_model("gpt_neox")
    folder = save_adapter(model, tmp_path / "a", r=2, target_modules=["query_key_value"], bias=bias)
    with pytest.raises(AdapterError, match="it is a trained bias"):
        empty_bank(replace(base, model=model)).add(folder, same_base=True)


@pytest.mark.parametrize("content", [b"[]", b"3", b"{", b"\xff\xfe\xff", b"[" * 100_000, b"", b'{"r": 2}'])
def test_what_is_no_config_is_refused(content, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", **PLAIN)
    (folder / CONFIG).write_bytes(content)
    with pytest.raises(AdapterError):
        empty_bank(base).add(folder, same_base=True)
    (folder / CONFIG).unlink()
    (folder / CONFIG).mkdir()
    with pytest.raises(AdapterError, match="cannot be read"):
        read_adapter(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t / 0, "holds NaN or infinity"),
        (lambda t: t.to(torch.int32), "is int32"),
        (lambda t: t.to(torch.float8_e4m3fn), "is float8_e4m3fn"),
        (lambda t: t[:0], r"of shape \[0, 32\].*gather the shards"),
        (lambda t: t[0], r"of shape \[32\]"),
        (lambda t: t[:1], "has lora_A of rank 1 and lora_B of rank 2"),
    ],
)
def test_a_tensor_that_is_no_factor_is_refused(change, told, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", **PLAIN)
    replace_tensor(folder, change)
    with pytest.raises(AdapterError, match=told):
        empty_bank(base).add(folder, same_base=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("model.layers.0.mlp.up_proj.lora_A.weight", "lacks the prefix"),
        (f"{PREFIX}model.embed_tokens.lora_embedding_A", "adapts an embedding"),
        (f"{PREFIX}model.embed_tokens.weight", "a whole weight"),
        (f"{PREFIX}model.layers.0.mlp.up_proj.lora_B.bias", "a trained bias"),
        (f"{PREFIX}model.layers.0.mlp.up_proj.lora_magnitude_vector", "DoRA"),
        (f"{PREFIX}lm_head.modules_to_save.weight", "replaces a whole module"),
        ("_orig_mod." + f"{PREFIX}model.layers.0.mlp.up_proj.lora_A.weight", "two tensors stand for"),
        (f"{PREFIX}model.layers.0.mlp.up_proj.lora_A.other.weight", "two tensors stand for"),
        (f"{PREFIX}lm_head.lora_A.weight", "lm_head has only lora_A"),
    ],
)
def test_other_tensors_are_told_by_what_they_are(name, told, base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "a", **PLAIN)
    save_file(load_file(folder / WEIGHTS) | {name: torch.ones(2, 32)}, folder / WEIGHTS)
    with pytest.raises(AdapterError, match=told):
        empty_bank(base).add(folder, same_base=True)


def test_embeddings_that_were_saved_beside_an_adapter_are_refused_with_what_to_do(base, tmp_path):
    """PEFT saves them unchanged where it is told to, or where it cannot tell; the base is not at hand to compare."""
    peft = get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", **PLAIN))
    peft.save_pretrained(tmp_path / "with", save_embedding_layers=True)
    peft.save_pretrained(tmp_path / "without", save_embedding_layers=False)
    peft.unload()
    with pytest.raises(AdapterError, match=r"a whole weight.*save_embedding_layers=False\)"):
        empty_bank(base).add(tmp_path / "with", same_base=True)
    assert empty_bank(base).add(tmp_path / "without", same_base=True).name == "without"

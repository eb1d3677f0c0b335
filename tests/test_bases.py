"""What can be a base, and what is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from conftest import FAMILIES, pico_model, save_adapter

from lorary.base.layers import block_linears, decoder_layers, fingerprint, mlp_targets
from lorary.base.loading import BaseError, load_base
from lorary.base.rows import lower, upper


@pytest.mark.parametrize("family", list(FAMILIES))
def test_lower_then_upper_is_the_decoder(family):
    model, ids = pico_model(family), torch.arange(12).reshape(2, 6) + 4
    whole = model.get_decoder()(input_ids=ids).last_hidden_state
    assert torch.allclose(upper(model, 1, lower(model, 1, ids)), whole, atol=1e-5)
    assert torch.equal(model.get_decoder()(input_ids=ids).last_hidden_state, whole), "the model is as it was"


def test_the_fingerprint_knows_weights_but_not_dtype():
    assert fingerprint(pico_model()) == fingerprint(pico_model().to(torch.bfloat16))
    assert fingerprint(pico_model()) != fingerprint(pico_model(seed=1))


def test_targets_follow_the_family():
    assert mlp_targets(pico_model("phi3")) == ["down_proj", "gate_up_proj"]
    assert mlp_targets(pico_model("gpt_neox")) == ["dense_4h_to_h", "dense_h_to_4h"]
    assert len(block_linears(pico_model())) == 14


def test_gpt2_and_encoder_decoders_are_refused(tmp_path, tokenizer):
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=400)
    gpt2 = transformers.GPT2LMHeadModel(config)
    with pytest.raises(BaseError, match="Conv1D, not nn"):
        decoder_layers(gpt2)
    transformers.T5Config(d_model=32, num_layers=2, vocab_size=400).save_pretrained(tmp_path)
    with pytest.raises(BaseError, match="encoder-decoder"):
        load_base(str(tmp_path))


def test_a_missing_base_names_both_ways_out(tmp_path):
    with pytest.raises(BaseError, match=r"local folder.*embedded default"):
        load_base(str(tmp_path / "nothing"))
    with pytest.raises(BaseError, match=r"local folder.*embedded default"):
        load_base("someone/not-on-this-machine", local_files_only=True)


def test_options_of_transformers_reach_the_base(base, tmp_path):
    inner = tmp_path / "repository" / "inner"
    base.model.save_pretrained(inner)
    base.tokenizer.save_pretrained(inner)
    loaded = load_base(str(inner.parent), subfolder="inner", attn_implementation="eager", dtype=torch.float32)
    assert loaded.model.config._attn_implementation == "eager"
    assert loaded.tokenizer.get_vocab() == base.tokenizer.get_vocab(), "the tokenizer is in the folder, too"
    assert load_base(base.name, torch_dtype=torch.bfloat16).model.dtype == torch.bfloat16, "the older name of dtype"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"atn_implementation": "eager"}, r"'atn_implementation' is no option of transformers' from_pretrained"),
        ({"load_in_8bit": True}, r"'load_in_8bit' cannot be given, because memories are written on plain weights"),
        ({"quantization_config": {}}, r"'quantization_config' cannot be given"),
        ({"output_loading_info": True}, r"'output_loading_info' cannot be given, because a base is returned alone"),
        ({"attn_implementation": "nonsense"}, r"cannot be loaded: .*nonsense"),
    ],
)
def test_an_option_that_cannot_hold_is_refused_by_name(base, options, message):
    with pytest.raises(BaseError, match=message):
        load_base(base.name, **options)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"quantised \(gptq, 4 bits\)"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, r"quantised \(bitsandbytes, 8 bits\)"),
        ({"quant_method": "awq", "bits": 4}, r"quantised \(awq, 4 bits\)"),
    ],
)
def test_a_quantised_base_is_refused_with_what_to_name_instead(base, settings, named):
    file = Path(base.name) / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": settings}))
    with pytest.raises(BaseError, match=named + ".*name the checkpoint that it was made from"):
        load_base(base.name)


def test_an_adapter_is_no_base(base, tmp_path):
    folder = save_adapter(base.model, tmp_path / "adapter", target_modules=["up_proj"])
    base.model.save_pretrained(tmp_path / "both")
    base.tokenizer.save_pretrained(tmp_path / "both")
    for file in folder.glob("adapter_*"):
        (tmp_path / "both" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BaseError, match="holds a PEFT adapter"):
        load_base(str(tmp_path / "both"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_head_of_a_bf16_base_takes_its_input_in_one_piece_and_says_the_same(base, dtype):
    model, ids, given = load_base(base.name, dtype=dtype).model, torch.arange(12).reshape(2, 6) + 4, []
    head = model.get_output_embeddings()
    head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.no_grad():
        last = model(ids, logits_to_keep=1).logits
        assert given[0].is_contiguous() == (dtype == torch.bfloat16)
        hidden = model.get_decoder()(ids).last_hidden_state[:, -1:]
        assert not hidden.is_contiguous()
        assert torch.equal(last, torch.nn.functional.linear(hidden, head.weight))

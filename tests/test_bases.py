"""What can be a base, and what is refused with the reason."""

from __future__ import annotations

import pytest
import torch
import transformers
from conftest import FAMILIES, pico_model

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

"""Options of `from_pretrained` change a composite as they change its base, by the Auto class and by its own."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from lorary.base.loading import Base, BaseError
from lorary.base.prompts import prompt_batch
from lorary.model.composite import assemble
from lorary.model.modeling import LoraryForCausalLM


@pytest.fixture(params=[AutoModelForCausalLM, LoraryForCausalLM], ids=["auto", "own"])
def load(request, composite, tmp_path):
    composite.save_pretrained(tmp_path / "saved", include_base=True)
    return lambda **options: request.param.from_pretrained(tmp_path / "saved", **{"dtype": torch.float32} | options)


@pytest.fixture
def inputs(tokenizer):
    return prompt_batch(tokenizer, ["Who cooks at Ormen station?"])


def test_what_the_base_s_configuration_says_is_obeyed(load, inputs):
    assert load()(**inputs).past_key_values is not None
    assert load(use_cache=False)(**inputs).past_key_values is None
    assert load()(**inputs).hidden_states is None
    assert len(load(output_hidden_states=True)(**inputs).hidden_states) == 3
    assert len(load(output_attentions=True, attn_implementation="eager")(**inputs).attentions) == 2
    assert load(max_position_embeddings=100).config.text_config.max_position_embeddings == 100
    for attention in ({"text_config": "eager"}, {"": "eager"}, "eager"):
        assert load(attn_implementation=attention).base.config._attn_implementation == "eager"
    with pytest.raises(BaseError, match="cannot be loaded"):
        load(vocab_size=5)


def test_what_the_composite_s_configuration_says_is_obeyed(load, inputs):
    assert isinstance(load(return_dict=False)(**inputs), tuple)
    assert load(granularity="token").config.granularity == "token"
    assert load(policy={"t_gate": 0.9}).router.policy.t_gate == 0.9


@pytest.mark.parametrize("dtype", [torch.float16, "float16", torch.bfloat16, torch.float64])
def test_every_precision_loads_and_routes_alike(load, composite, inputs, dtype):
    model, name = load(dtype=dtype), dtype if isinstance(dtype, torch.dtype) else torch.float16
    assert model.dtype == name
    output, reference = model(**inputs), composite(**inputs)
    assert output.routes[0].memories == reference.routes[0].memories == ("ormen",)
    assert torch.allclose(output.logits.float(), reference.logits, atol=0.3)


def test_a_base_in_float16_is_refused_with_what_to_do(bank, base, encoder):
    with pytest.raises(BaseError, match=r"bfloat16 or float32, as float16 changes weights; model\.half"):
        assemble(bank, Base(base.name, None, base.model.half(), base.tokenizer), encoder=encoder)

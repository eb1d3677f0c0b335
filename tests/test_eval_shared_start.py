"""A start that prompts share: what follows it is the same as if each prompt were run whole, and the start is held once."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from lorary.base.prompts import prompt
from lorary.eval import asking
from lorary.eval.asking import Ask, Asker
from lorary.eval.shared_states import after, attend, can_share, reading
from lorary.model.cache import RoutedCache
from lorary.routing.policy import Route

CONTEXT = "The lamplighters burn lark oil in every lamp of the town. " * 12
QUESTIONS = ["Who cooks?", "Name the oil that the lamplighters of the town burn in winter.", "Why?"]
NONE = Route((), (), "none", 1.0)


def test_two_parts_of_the_keys_joined_are_attention_over_all():
    torch.manual_seed(0)
    query, key, value = torch.randn(5, 8), torch.randn(11, 8), torch.randn(11, 8)
    above, above_sum = attend(query, key[:7], value[:7], 0.3)
    below, below_sum = attend(query, key[7:], value[7:], 0.3)
    share = torch.sigmoid(above_sum - below_sum)
    whole = torch.softmax(query @ key.T * 0.3, -1) @ value
    torch.testing.assert_close(above * share + below * (1 - share), whole)


@pytest.mark.parametrize("groups", [1, 2, 4], ids="{} heads of keys".format)
def test_rows_of_any_length_after_a_start_are_as_if_run_whole(groups):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 50}
    base = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=groups)).eval()
    first, rest = torch.randint(50, (1, 20)), torch.randint(50, (3, 9))
    padded = torch.tensor([0, 4, 8])
    mask = torch.arange(29) >= 20 + padded[:, None]
    mask[:, :20] = True
    positions = mask.cumsum(-1) - 1
    with torch.no_grad():
        start = RoutedCache(config=base.config)
        base(first, past_key_values=start)
        cache = after(start, 3)
        before = base.config._attn_implementation
        with reading(base, start):
            for piece in (slice(0, 6), slice(6, 9)):  # a prompt, and then more
                now = slice(20 + piece.start, 20 + piece.stop)
                given = {"attention_mask": mask[:, : now.stop], "position_ids": positions[:, now]}
                found = base(rest[:, piece], past_key_values=cache, **given).logits
        assert base.config._attn_implementation == before
        for row, pad in enumerate(padded.tolist()):
            whole = base(torch.cat([first[0], rest[row, pad:]])[None]).logits
            length = min(3, 9 - pad)
            torch.testing.assert_close(found[row, -length:], whole[0, -length:], atol=2e-5, rtol=1e-4)
    assert cache.get_seq_length() == 29
    assert all(layer.keys.shape[-2] == 9 for layer in cache.layers)
    assert all(own.start is shared for own, shared in zip(cache.layers, start.layers, strict=True))


def test_answers_from_a_shared_start_are_those_of_whole_prompts(composite, monkeypatch):
    asks = [Ask(question, CONTEXT, NONE, new_tokens=6) for question in QUESTIONS]
    starts = []
    monkeypatch.setattr(asking, "reading", lambda base, start: starts.append(start) or reading(base, start))
    found = [said.text for said in Asker(composite, batch_size=2).answers(asks)]
    assert len(starts) == 2
    assert starts[0] is starts[1]
    tokenizer = composite.tokenizer
    for ask, said in zip(asks, found, strict=True):
        inputs = tokenizer(prompt(tokenizer, ask.text), return_tensors="pt", add_special_tokens=False)
        output = composite.generate(**inputs, adapter_names=["__base__"], max_new_tokens=6, do_sample=False)
        assert said == tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True).strip()


def base_of(kind, **config):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **config), attn_implementation="eager")


def test_a_base_with_windows_or_capped_scores_or_attention_of_its_own_is_not_split(composite):
    assert can_share(composite.base)
    gemma = {"intermediate_size": 48, "head_dim": 8, "num_key_value_heads": 1, "layer_types": ["full_attention"]}
    assert can_share(base_of("gemma3_text", **gemma))
    assert not can_share(base_of("gemma3_text", **gemma | {"layer_types": ["sliding_attention"]}))
    assert not can_share(base_of("gemma3_text", **gemma, attn_logit_softcapping=50.0))
    assert not can_share(base_of("falcon")), "it would read no start: its attention cannot be replaced"

"""A quantised base: known by its plain fingerprint, the same bit for bit without a memory, PEFT's update with one."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from conftest import pico_model
from peft import PeftModel
from torch.nn import functional
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from lorary.base.layers import block_linears, fingerprint
from lorary.base.loading import Base, BaseError, load_base
from lorary.base.prompts import prompt_batch
from lorary.base.quantising import Float16Linear, Int8Linear, is_quantised, quantised
from lorary.errors import LoraryError
from lorary.model.composite import assemble
from lorary.model.modeling import LoraryForCausalLM

WAYS = {"float16": Float16Linear, "int8": Int8Linear}


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def inputs(tokenizer):
    return prompt_batch(tokenizer, ["Who cooks at Ormen station?", "Which oil do the lamplighters burn?"])


@pytest.fixture
def model(composite, tmp_path, way):
    composite.save_pretrained(tmp_path / "saved")
    return LoraryForCausalLM.from_pretrained(tmp_path / "saved", quantization_config=way)


@pytest.mark.parametrize("rows", [1, 4, 9])
@pytest.mark.parametrize("bias", [False, True])
def test_a_quantised_linear_multiplies_by_the_nearest_weights(rows, bias):
    torch.manual_seed(0)
    plain, x = torch.nn.Linear(64, 48, bias=bias).requires_grad_(False), torch.randn(rows, 64)
    half = functional.linear(x, plain.weight.half().float(), plain.bias)
    assert torch.allclose(Float16Linear(plain)(x), half, atol=1e-5)
    layer = Int8Linear(plain)
    weights = layer.values.float() * layer.scale.float().unsqueeze(1)
    assert ((weights - plain.weight).abs() <= 0.51 * layer.scale.float().unsqueeze(1)).all()
    assert torch.allclose(layer(x), functional.linear(x, weights, plain.bias), atol=2e-2)
    assert torch.equal(layer(x.unsqueeze(0))[0], layer(x))


def test_copies_share_the_weights_and_another_process_packs_them_again(way):
    layer, x = WAYS[way](torch.nn.Linear(64, 48, bias=False).requires_grad_(False)), torch.randn(3, 64)
    if way == "float16":
        assert copy.deepcopy(layer).packed is layer.packed
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))


def test_the_base_stays_and_its_quantised_twin_is_known_by_the_plain_fingerprint(way):
    model, plain = pico_model(), pico_model()
    other = quantised(model, way)
    assert fingerprint(other) == fingerprint(model) == fingerprint(plain)
    assert (is_quantised(other), is_quantised(model)) == (True, False)
    assert block_linears(other) == block_linears(plain)
    assert all(isinstance(other.get_submodule(path), WAYS[way]) for path in block_linears(other))
    ids = torch.arange(2, 12).unsqueeze(0)
    assert torch.equal(model(ids).logits, plain(ids).logits)
    assert not torch.equal(other(ids).logits, plain(ids).logits)


def test_without_a_memory_it_is_the_quantised_base_bit_for_bit(model, base, inputs, way):
    expected = quantised(base.model, way)(**inputs).logits
    assert torch.equal(model(**inputs, adapter_names=["__base__"] * 2).logits, expected)


def test_a_memory_is_what_peft_gives_over_the_same_quantised_base(model, base, adapter_folders, inputs, way):
    for name, folder in adapter_folders.items():
        peft = PeftModel.from_pretrained(quantised(base.model, way), folder).eval()
        ours = model(**inputs, adapter_names=[name] * 2).logits
        assert torch.allclose(ours, peft(**inputs).logits, atol=1e-4)
        assert not torch.allclose(ours, quantised(base.model, way)(**inputs).logits, atol=1e-2)


def test_it_routes_and_generates_as_the_plain_composite_does(model, composite, inputs):
    output, reference = model(**inputs), composite(**inputs)
    assert [route.memories for route in output.routes] == [route.memories for route in reference.routes]
    assert torch.allclose(output.logits, reference.logits, atol=0.2)
    alone = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    again = model.generate(**inputs, max_new_tokens=4, do_sample=False, use_cache=False)
    assert alone.shape == again.shape == (2, inputs["input_ids"].shape[1] + 4)


def test_memories_join_and_leave_a_quantised_base(model, adapter_folders, inputs):
    before = model(**inputs, adapter_names=["velka"] * 2).logits
    model.delete_adapter("lamps")
    model.load_adapter(adapter_folders["lamps"], adapter_name="again", same_base=True)
    assert torch.equal(model(**inputs, adapter_names=["velka"] * 2).logits, before)
    with model.with_bank(model.router.bank) as other:
        assert torch.equal(other(**inputs, adapter_names=["velka"] * 2).logits, before)


def test_the_auto_class_takes_it_too(composite, tmp_path, way, inputs):
    composite.save_pretrained(tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", quantization_config=way)
    assert is_quantised(model.base)
    assert model.dtype == torch.float32
    assert model(**inputs).routes[0].memories == ("ormen",)


def test_what_cannot_be_done_is_told(model, composite, bank, base, encoder, tmp_path, inputs):
    with pytest.raises(BaseError, match=r"'bitsandbytes' is not supported; give one of \['float16', 'int8'\]"):
        assemble(bank, base, encoder=encoder, quantization_config=BitsAndBytesConfig(load_in_8bit=True))
    with pytest.raises(BaseError, match=r"'int3' is not supported"):
        LoraryForCausalLM.from_pretrained(tmp_path / "saved", quantization_config="int3")
    with pytest.raises(BaseError, match=r"LoraryForCausalLM\.from_pretrained"):
        load_base(base.name, quantization_config="int8")
    with pytest.raises(LoraryError, match="this one is quantised"):
        model.save_pretrained(tmp_path / "whole", include_base=True)
    meta = Base(base.name, None, pico_model().to("meta"), base.tokenizer)
    with pytest.raises(BaseError, match="is computed on a CPU"):
        quantised(_of_fingerprint(meta.model), "int8")
    model.unfreeze_memories()
    for parameter in (parameter for name, parameter in model.named_parameters() if name.endswith((".down", ".up"))):
        parameter.requires_grad_(True)
    with pytest.raises(BaseError, match="has no gradient"):
        model(**inputs, adapter_names=["velka"] * 2)


def _of_fingerprint(model):
    model.plain_fingerprint = "known"
    return model

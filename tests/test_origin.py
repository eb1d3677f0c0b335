"""Whether an adapter is for the bank's base: by whole names, or by the weights in a folder, never by a last name."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from conftest import FAMILIES, empty_bank, pico_model, save_adapter
from transformers import PreTrainedModel

from lorary.bank.adapters import CONFIG, AdapterError
from lorary.bank.origin import check_base, fingerprint_of_folder
from lorary.base.embedded import EMBEDDED, embedded_file
from lorary.base.layers import fingerprint

HUB = "owner/model"


def saved(model: PreTrainedModel, folder):
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def add(base, tmp_path):
    """Adds an adapter that names a base (and a revision) to a bank over a base of some name (and revision)."""
    folder = save_adapter(base.model, tmp_path / "adapter", r=2, target_modules=["up_proj"])
    file = folder / CONFIG

    def adding(named, over=base.name, revisions=(None, None), **options):
        fields = {"base_model_name_or_path": named, "revision": revisions[0]}
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))
        return empty_bank(replace(base, name=over, revision=revisions[1])).add(folder, **options)

    return adding


@pytest.mark.parametrize("family", [*FAMILIES])
def test_a_folder_s_fingerprint_is_the_model_s_or_not_told(family, tmp_path):
    model = pico_model(family)
    assert fingerprint_of_folder(saved(model, tmp_path / family)) in (fingerprint(model), None)
    if family in ("llama", "qwen3", "mistral"):
        assert fingerprint_of_folder(tmp_path / family) is not None


def test_a_fingerprint_is_the_same_in_shards_and_half_precision_and_not_told_without_weights(base, tmp_path):
    base.model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert fingerprint_of_folder(tmp_path / "shards") == fingerprint(base.model)
    assert fingerprint_of_folder(saved(pico_model().bfloat16(), tmp_path / "half")) == fingerprint(base.model)
    for file in (tmp_path / "shards").glob("*.safetensors"):
        file.unlink()
    assert fingerprint_of_folder(tmp_path / "shards") is None


def test_local_folders_are_compared_by_path_and_by_weights(add, base, tmp_path, monkeypatch):
    same = saved(pico_model(), tmp_path / "a" / "checkpoint-500")
    other = saved(pico_model(seed=1), tmp_path / "b" / "checkpoint-500")
    assert add(base.name)
    assert add(base.name + "/")
    assert add(str(same)), "a copy of the base"
    monkeypatch.chdir(os.path.dirname(base.name))
    assert add(os.path.basename(base.name)), "a relative path to the base"
    assert add(str(same), over=HUB), "the weights tell, whatever the bank calls its base"
    with pytest.raises(AdapterError, match="and their weights differ"):
        add(str(other), over=str(same))
    assert add(str(other), over=str(same), same_base=True)
    (other / "model.safetensors").unlink()
    with pytest.raises(AdapterError, match="cannot be told from its files; give same_base=True"):
        add(str(other), over=str(same))
    with pytest.raises(AdapterError, match="is for the base '/gone/checkpoint-500'"):
        add("/gone/checkpoint-500", over="/mine/checkpoint-500")


def test_names_are_compared_whole(add):
    assert add(HUB, over=HUB)
    for named in ("another/model", "model", "owner/Model-2", "", None):
        with pytest.raises(AdapterError, match=r"give same_base=True \(--same-base\)"):
            add(named, over=HUB)
        assert add(named, over=HUB, same_base=True)


def test_revisions_count_where_both_name_one(add):
    assert add(HUB, over=HUB, revisions=("main", None))
    assert add(HUB, over=HUB, revisions=(None, "abc"))
    assert add(HUB, over=HUB, revisions=("abc", "abc"))
    with pytest.raises(AdapterError, match="of revision 'main' and 'abc'"):
        add(HUB, over=HUB, revisions=("main", "abc"))


def test_the_embedded_base_is_known_by_its_name_and_by_its_folder():
    for named in (EMBEDDED, str(embedded_file().parent)):
        check_base({"base_model_name_or_path": named}, EMBEDDED, None, "a fingerprint", "here")
    with pytest.raises(AdapterError, match="SmolLM2-135M-Instruct"):
        check_base({"base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"}, EMBEDDED, None, "", "here")

"""Groups of memories: two processes write what one writes, in the same order, and the number asked for is checked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import FACTS, pico_model

from lorary.bank.facts import FactError
from lorary.base.layers import BaseError, fingerprint
from lorary.errors import LoraryError
from lorary.memories import build, groups
from lorary.memories.groups import side_by_side
from lorary.memories.writing import Recipe, write
from lorary.routing.encoder import load_encoder


@pytest.fixture
def folder(tmp_path, tokenizer):
    """A pico base and facts of three topics of unlike size, on disk."""
    pico_model().save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "facts").mkdir()
    for topic, facts in FACTS.items():
        lines = "".join(json.dumps(fact.to_json()) + "\n" for fact in facts)
        (tmp_path / "facts" / f"{topic}.jsonl").write_text(lines)
    return tmp_path


def test_two_processes_write_what_one_writes(folder):
    def written(processes):
        return build(
            [folder / "facts"],
            out=folder / f"bank-{processes}",
            base=str(folder / "base"),
            recipe=Recipe(split_layer=1, max_epochs=3, validation_wordings=1, memories_at_once=1),
            processes=processes,
            quiet=True,
        )

    alone, together = written(1), written(2)
    assert alone.names == together.names
    assert len(alone) > 1
    for memory in alone:
        other = together[memory.name]
        assert memory.card["certificate"] == other.card["certificate"]
        for name, tensor in memory.tensors.items():
            torch.testing.assert_close(other.tensors[name], tensor)


@pytest.mark.parametrize(("groups", "processes", "threads", "want"), [(4, None, 2, 2), (1, None, 2, 1), (4, 3, 1, 3)])
def test_the_number_of_processes(groups, processes, threads, want, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert side_by_side(groups, processes, torch.device("cpu")) == want


def test_a_job_computes_with_its_own_number_of_threads_and_leaves_the_process_s(base, monkeypatch):
    """How many threads share a sum decides how it is rounded."""
    threads, write = [], groups.write
    monkeypatch.setattr(groups, "write", lambda *of: threads.append(torch.get_num_threads()) or write(*of))
    load, recipe = (("dtype", base.model.dtype),), Recipe(split_layer=1, max_epochs=1)
    job = groups.Job(7, base.name, load, fingerprint(base.model), [FACTS["lamps"]], recipe, 1, (), threads=2)
    result = job(lambda *_: None)
    assert (result.number, threads, torch.get_num_threads()) == (7, [2], 1)
    with pytest.raises(BaseError, match="is another base here than where the command was given"):
        replace(job, base_fingerprint="another")(lambda *_: None)


def test_no_group_is_no_work(base):
    assert list(groups.write_groups(base, {}, [], [], 1, [], processes=2)) == []


def test_an_accelerator_writes_in_one_process():
    assert side_by_side(4, None, torch.device("cuda")) == 1


def test_a_device_without_kernels_for_many_tensors_at_once_is_written_on(base, monkeypatch):
    """As Apple's is to torch, which cuts gradients one by one there, and refuses to be told otherwise."""
    for name in ("_has_foreach_support", "_device_has_foreach_support"):
        monkeypatch.setattr(f"torch.nn.utils.clip_grad.{name}", lambda *_: False)
    [written] = write(base, [FACTS["ormen"]], Recipe(max_epochs=1, recall=None), 1)
    assert all(up.any() for _, up in written.factors.values())


def test_no_process_is_an_error():
    with pytest.raises(LoraryError, match="0 processes cannot write; give 1 or more"):
        side_by_side(4, 0, torch.device("cpu"))


def test_all_facts_go_into_one_memory(folder):
    made = {"base": str(folder / "base"), "recipe": Recipe(split_layer=1, max_epochs=1, r=12), "quiet": True}
    bank = build([folder / "facts"], out=folder / "bank", as_one="everything", **made)
    assert bank.names == ["everything"]
    held = {fact.question for facts in FACTS.values() for fact in facts}
    assert {fact.question for fact in bank["everything"].facts} == held
    with pytest.raises(FactError, match="'one for all' cannot name a memory"):
        build([folder / "facts"], out=folder / "other", as_one="one for all", **made)
    assert not (folder / "other").exists()


def test_an_encoder_s_folder_is_kept_whole_so_that_it_is_found_from_elsewhere(folder, encoder, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    for place in (tmp_path / "other", tmp_path):
        encoder.save(place / "encoder")
        monkeypatch.chdir(place)
        assert load_encoder("encoder").name == str(place / "encoder")
    assert load_encoder("encoder") is load_encoder("./encoder"), "it is loaded once"
    made = {"base": str(folder / "base"), "recipe": Recipe(split_layer=1, max_epochs=1), "quiet": True}
    for typed in ("encoder", "./encoder"):  # the second goes on with the first's bank
        bank = build([folder / "facts"], out=tmp_path / "bank", encoder=typed, **made)
        assert bank.encoder == str(tmp_path / "encoder")

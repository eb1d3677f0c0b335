"""Every family of bases writes in a batch what it writes alone: masks and windows hold for rows that share one end."""

from __future__ import annotations

import pytest
from conftest import FAMILIES, empty_bank, pico_model, save_adapter
from jobs import QUESTIONS, Told, alone

from lorary.base.loading import Base
from lorary.model.composite import assemble
from lorary.serving.engine import Engine
from lorary.serving.limits import Limits


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "llama"])
def test_a_family_writes_what_generate_writes_alone(family, tokenizer, encoder, tmp_path, monkeypatch):
    """Also what goes on from the prefix of another row, under the same memory or another one."""
    monkeypatch.setattr("lorary.serving.prefixes.LEAST", 4)
    inner = pico_model(family)
    inner.save_pretrained(tmp_path / "base")
    base = Base(str(tmp_path / "base"), None, inner, tokenizer)
    bank = empty_bank(base)
    for seed, name in enumerate(("ormen", "velka", "lamps")):
        save_adapter(inner, tmp_path / name, seed, r=2 + seed, target_modules="all-linear")
        bank.add(tmp_path / name, same_base=True)
    model = assemble(bank, base, encoder=encoder)
    asked = [(question, memory or "ormen") for question, memory in QUESTIONS[:4]]
    asked += [(question, "velka") for question, _ in asked]
    longest = [20, 3, 12, 30] * 2
    expected = [alone(model, *one, longest=n)[0] for one, n in zip(asked, longest, strict=True)]
    engine = Engine(model, Limits(rows=2))
    engine.start()
    told = [Told(*one, longest=n) for one, n in zip(asked, longest, strict=True)]
    for one in told:
        engine.submit(one.job)
    engine.stop()
    assert [one.ids() for one in told] == [[ids] for ids in expected]

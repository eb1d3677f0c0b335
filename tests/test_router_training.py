"""The gate's training: losses, checkpoints of the gate alone, resuming, calibration, and gradients through the mixture."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
import torch

from lorary.model.composite import load_composite
from lorary.model.configuration import LoraryConfig
from lorary.router_training.data import RoutingData, read_questions
from lorary.router_training.initial import start_reading
from lorary.router_training.module import GateTraining, Weights, loss_terms
from lorary.router_training.resuming import CheckpointError
from lorary.router_training.settings import Training
from lorary.router_training.training import fit, train_router
from lorary.routing.encoder import EncoderError
from lorary.routing.gate import DEFAULT_FEATURES, Gate
from lorary.routing.policy import Policy
from lorary.routing.router import Router
from lorary.routing.starting import new_gate

WEIGHTS = Weights(language=1.0, route=1.0, none=1.0, balance=0.01, z=1e-4)
UNRELATED = read_questions()[:24]
PLAIN = ("embedding", "asked", "names")


def rows_of(folder):
    with next(folder.rglob("metrics.csv")).open() as file:
        return list(csv.DictReader(file))


def data(model, language=False):
    needs_model = language or "hidden" in model.gate.features
    return RoutingData(model.router, UNRELATED, batch_size=8, seed=0, model=model if needs_model else None)


def loss_of(model, routing):
    """The loss terms of the trained queries, as the last step of training would see them."""
    batch = routing.trained.collate(list(range(len(routing.trained))))
    return loss_terms(model.gate(replace(batch.features, contents=None)), routing.trained.memory)


def test_loss_terms_against_their_definitions():
    logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]])
    terms = loss_terms(logits, torch.tensor([0, 1, 2]))
    own = -torch.log_softmax(logits, -1)[0, 0]
    assert torch.allclose(terms["route"], own)
    assert torch.allclose(terms["none"], own)
    p = logits.softmax(-1)
    balanced = 2 * (0.5 * (p[0, 0] + p[1, 0]) / 2 + 0.5 * (p[0, 1] + p[1, 1]) / 2)
    assert torch.allclose(terms["balance"], balanced)
    assert torch.allclose(terms["z"], logits.logsumexp(-1).square().mean())


@pytest.mark.parametrize("features", [DEFAULT_FEATURES, ("embedding", *DEFAULT_FEATURES)])
def test_the_gate_learns_and_nothing_else_moves(bank, base, encoder, tmp_path, features):
    from lorary.model.composite import assemble

    config = LoraryConfig(text_config=base.model.config, features=features, split_layer=bank.split_layer)
    composite = assemble(bank, base, encoder=encoder, config=config)
    frozen = {k: v.clone() for k, v in composite.state_dict().items() if not k.startswith("gate.")}
    routing = data(composite)
    before = loss_of(composite, routing)
    fit(composite.router, routing, Training(max_epochs=8), tmp_path, quiet=True)
    after = loss_of(composite, routing)
    assert after["route"] < before["route"]
    assert after["route"] + after["none"] < before["route"] + before["none"]
    if "embedding" in features:
        assert after["none"] < before["none"]
    else:
        assert after["none"] < 0.02, "the untrained gate tells unrelated questions already"
    assert all(torch.equal(v, frozen[k]) for k, v in composite.state_dict().items() if k in frozen)


def test_an_untrained_gate_puts_none_between_what_is_known_and_what_is_not(bank, encoder):
    """Above what is known, training would do nothing but lower it."""
    for features in (("embedding",), ("asked", "names"), DEFAULT_FEATURES, PLAIN):
        router = Router(bank, new_gate(bank, encoder, 0, features), Policy(), lambda: encoder)
        trained = RoutingData(router, UNRELATED, batch_size=8, seed=0).trained
        told = router.gate(replace(trained.features, contents=None)).argmax(-1) == trained.memory
        unrelated = trained.memory == len(bank)
        assert told[unrelated].all(), features
        assert told[~unrelated].float().mean() > 0.6, features


def test_wordings_that_the_bank_holds_are_not_encoded_again(composite, encoder, monkeypatch):
    encoded, plain = list[str](), encoder.encode
    monkeypatch.setattr(encoder, "encode", lambda texts: (encoded.extend(texts), plain(texts))[1])
    gate = new_gate(composite.router.bank, encoder, 0, ("embedding",))
    router = Router(composite.router.bank, gate, Policy(), lambda: encoder)
    routing = RoutingData(router, UNRELATED, batch_size=8, seed=0)
    texts = [example.text for example in routing.trained.examples]
    held = {wording for memory in composite.router.bank for wording in memory.wordings}
    assert held <= {*texts, *(example.text for example in routing.validation.examples)}
    assert not held & {*encoded}
    assert torch.allclose(routing.trained.features.embedding, plain(texts), atol=1e-5)


def test_every_loss_term_is_logged(composite, tmp_path):
    training = Training(max_epochs=1, language_weight=1.0)
    fit(composite.router, data(composite, language=True), training, tmp_path, model=composite, quiet=True)
    wanted = {f"train/{term}" for term in ("route", "none", "balance", "z", "language", "loss")}
    assert wanted <= set(rows_of(tmp_path)[0])


@pytest.mark.parametrize("language", [0.0, 1.0])
def test_a_checkpoint_holds_the_gate_only_and_resuming_changes_nothing(bank, base, encoder, tmp_path, language):
    from lorary.model.composite import assemble

    gates = []
    for name, stages in (("whole", [4]), ("parts", [2, 4])):
        model, checkpoint = assemble(bank, base, encoder=encoder), None
        for epochs in stages:
            folder = tmp_path / f"{name}{epochs}"
            routing = data(model, language=language > 0)
            training = Training(max_epochs=epochs, language_weight=language, language_rows=3)
            fit(model.router, routing, training, folder, model=model, resume=checkpoint, quiet=True)
            checkpoint = folder / "training" / "checkpoints" / "last.ckpt"
        gates.append(model.gate.state_dict())
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        assert set(state) == {f"gate.{k}" for k in model.gate.state_dict()}
        assert checkpoint.stat().st_size < 3 * 2**20, "the gate, its optimizer's state and the best epoch's gate"
    assert max(float((gates[0][k] - gates[1][k]).abs().max()) for k in gates[0] if gates[0][k].numel()) < 1e-6


def test_a_checkpoint_of_a_version_whose_gates_weighed_more_is_refused(bank, base, encoder, tmp_path):
    from lorary.model.composite import assemble

    model = assemble(bank, base, encoder=encoder)
    routing, place = data(model), tmp_path / "first"
    fit(model.router, routing, Training(max_epochs=1), place, quiet=True)
    checkpoint = place / "training" / "checkpoints" / "last.ckpt"
    saved = torch.load(checkpoint, weights_only=True)
    torch.save(saved | {"state_dict": saved["state_dict"] | {"gate.log_alpha": torch.zeros(())}}, checkpoint)
    with pytest.raises(
        CheckpointError, match=r"'gate.log_alpha' is \(\), this bank and these features need none; .* anew"
    ):
        fit(model.router, routing, Training(max_epochs=2), tmp_path / "second", resume=checkpoint, quiet=True)
    assert not (tmp_path / "second").exists()


def test_a_gate_that_reads_hidden_states_learns_how_they_differ_and_is_saved_whole(bank, base, encoder, tmp_path):
    from lorary.model.composite import assemble

    config = LoraryConfig(text_config=base.model.config, features=("embedding", "hidden"), split_layer=bank.split_layer)
    model = assemble(bank, base, encoder=encoder, config=config)
    routing = data(model)
    fit(model.router, routing, Training(max_epochs=1), tmp_path, model=model, quiet=True)
    torch.testing.assert_close(model.gate.hidden_mean, routing.trained.features.hidden.mean(0))
    assert float(model.gate.hidden_spread) != 1
    assert model.gate.from_hidden.any()
    question = model.tokenizer("Who cooks at Ormen station?", return_tensors="pt", add_special_tokens=False)
    model.save_pretrained(tmp_path / "composite")
    again = load_composite(tmp_path / "composite", dtype=torch.float32)
    assert torch.equal(again.gate.hidden_mean, model.gate.hidden_mean)
    assert torch.allclose(again(**question).route_weights, model(**question).route_weights, atol=1e-6)


def test_training_ends_early_and_keeps_the_best_gate(kept_bank, base, encoder, tmp_path):
    from lorary.model.composite import assemble

    model = assemble(kept_bank, base, encoder=encoder)
    routing = data(model)
    trainer = fit(model.router, routing, Training(max_epochs=40, patience=1, lr=0.3), tmp_path, quiet=True)
    assert trainer.current_epoch < 40
    best = min(float(row["validation/loss"]) for row in rows_of(tmp_path) if row["validation/loss"])
    batch = routing.validation.collate(list(range(len(routing.validation))))
    module = GateTraining(model.gate, replace(WEIGHTS, language=0.0), lr=1e-3)
    terms, _ = module.terms(batch)
    assert float(sum(getattr(module.weights, name) * term for name, term in terms.items())) == pytest.approx(
        best, rel=0.02
    )


def test_calibration_tells_target_and_achieved(kept_bank, base, encoder, tmp_path):
    settings = Training(max_epochs=2, max_strangers_routed=0.05)
    model = train_router(kept_bank, out=tmp_path, training=settings, base=base, quiet=True)
    from lorary.model.composite import load_composite

    stored = load_composite(tmp_path).config.router_training["calibration"]
    assert stored == model.config.router_training["calibration"]
    target = {"max_known_lost": 0.02, "max_strangers_routed": 0.05, "max_unrelated_routed": 0.01}
    assert stored["target"] == target
    achieved, given_up = stored["achieved"], stored["given_up"]
    assert achieved["known_lost"] * stored["queries"] <= 1.01, "it comes first, and one of few may be lost"
    for name in ("strangers_routed", "unrelated_routed", "unknown_names_routed"):
        assert achieved[name] is None or achieved[name] <= target.get(f"max_{name}", 0.05) or name in given_up
    assert set(achieved) == {"top1", "known_lost", "wrong_routes", *given_up} | {
        "strangers_routed",
        "unrelated_routed",
        "unknown_names_routed",
    }
    assert set(stored["intervals"]) == {name for name, share in achieved.items() if share is not None}


def test_tokens_learn_from_the_hidden_state(token_composite, tmp_path):
    before = token_composite.gate.from_hidden.clone()
    training = Training(granularity="token", max_epochs=1)
    fit(token_composite.router, data(token_composite), training, tmp_path, model=token_composite, quiet=True)
    assert not torch.equal(before, token_composite.gate.from_hidden)


@pytest.mark.parametrize("granularity", ["query", "token"])
def test_a_trained_route_of_a_query_is_whole(granularity, bank, base, tmp_path):
    out = tmp_path / "composite"
    train_router(bank, out=out, base=base, training=Training(granularity=granularity, max_epochs=1), quiet=True)
    model = load_composite(out)
    assert model.router.policy.whole


def test_tokens_are_read_as_they_are(bank, base, encoder, tmp_path):
    from lorary.model.composite import assemble

    given = {"text_config": base.model.config, "features": ("embedding", "hidden"), "split_layer": bank.split_layer}
    model = assemble(bank, base, encoder=encoder, config=LoraryConfig(granularity="token", **given))
    training = Training(granularity="token", max_epochs=1)
    fit(model.router, data(model), training, tmp_path, model=model, quiet=True)
    assert model.gate.from_hidden.any()
    assert not model.gate.hidden_mean.any()
    assert float(model.gate.hidden_spread) == 1
    alone = Gate(torch.eye(3, 5), 4, ("hidden",)).requires_grad_(False)
    start_reading(alone, torch.randn(9, 4), torch.randn(9, 5), centred=False)
    assert alone.from_hidden.any(), "from zero it would learn next to nothing"
    assert not alone.hidden_mean.any()


def test_held_out_wordings_are_never_read(composite):
    routing = data(composite)
    asked = {example.text for queries in (routing.trained, routing.validation) for example in queries.examples}
    held = {wording for memory in composite.router.bank for fact in memory.facts for wording in fact.held_out}
    assert held
    assert not asked & held


def test_another_encoder_embeds_the_facts_anew_and_leaves_the_bank(bank, base, encoder, tmp_path, monkeypatch):
    other, before = tmp_path / "encoder", {memory.name: memory.keys.clone() for memory in bank}
    encoder.save(other)
    monkeypatch.chdir(tmp_path)
    training = Training(max_epochs=1)
    model = train_router(bank, out=tmp_path / "composite", training=training, base=base, encoder="encoder", quiet=True)
    monkeypatch.chdir(tmp_path / "encoder")  # from elsewhere it is found as well
    assert bank.encoder != model.router.bank.encoder == str(other)
    assert all(torch.equal(memory.keys, before[memory.name]) for memory in bank)
    loaded = load_composite(tmp_path / "composite")
    assert loaded.router.get_encoder().name == str(other)
    assert all(torch.allclose(memory.keys, before[memory.name], atol=1e-5) for memory in loaded.router.bank)
    with pytest.raises(EncoderError, match="cannot be loaded"):
        train_router(bank, out=tmp_path / "none", base=base, encoder=str(tmp_path / "none"), quiet=True)

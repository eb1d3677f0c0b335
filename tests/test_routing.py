"""Gate, index and policy on their own."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from lorary.base.prompts import conversation_text, prompt, routing_text
from lorary.model.mixture import low_rank_update, with_update
from lorary.routing.features import Features, running_mean
from lorary.routing.gate import Gate
from lorary.routing.index import FactIndex
from lorary.routing.mixing import mixture_weights
from lorary.routing.policy import Policy, decide


def unit(vectors):
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_the_low_rank_update_is_the_weighted_sum_of_deltas():
    torch.manual_seed(0)
    x, a, b = torch.randn(3, 5), torch.randn(6, 5), torch.randn(4, 6)
    slots, weights = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0.5, 0.0, 2.0])
    delta = sum(weights[m] * b[:, slots == m] @ a[slots == m] for m in range(3))
    assert torch.allclose(low_rank_update(x, a, b, weights[slots].expand(3, 6)), x @ delta.T, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 5])
@pytest.mark.parametrize("inference", [False, True])
def test_an_update_is_added_the_same_in_place_and_beside(tokens, inference):
    """In place only in inference, where nothing needs y as it was."""
    torch.manual_seed(0)
    x, down, up = torch.randn(3, tokens, 6), torch.randn(3, 2, 6), torch.randn(3, 4, 2)
    with torch.inference_mode(inference):
        y = torch.randn(3, tokens, 4)
        before = y.clone()
        added = with_update(y, x, down, up)
    torch.testing.assert_close(added, before + low_rank_update(x, down, up))
    assert y.equal(before) != inference
    assert (added is y) == inference


def test_mixture_weights_are_the_top_k_scaled_by_what_is_not_none():
    p = torch.tensor([[0.5, 0.2, 0.1, 0.2]])
    assert torch.allclose(mixture_weights(p, 1), torch.tensor([[0.8, 0.0, 0.0]]))
    assert torch.allclose(mixture_weights(p, 2), torch.tensor([[0.8 * 5 / 7, 0.8 * 2 / 7, 0.0]]))


def test_top_p_takes_the_fewest_memories_that_reach_it():
    p = torch.tensor([[0.5, 0.2, 0.1, 0.2], [0.1, 0.1, 0.6, 0.2]])
    mixed = mixture_weights(p, 3, top_p=0.8)
    assert torch.allclose(mixed[0], torch.tensor([0.8 * 5 / 7, 0.8 * 2 / 7, 0.0]))
    assert torch.allclose(mixture_weights(p, 3, top_p=0.7)[1], torch.tensor([0.0, 0.0, 0.8]))
    assert torch.allclose(mixture_weights(p, 1, top_p=1.0)[0], torch.tensor([0.8, 0.0, 0.0])), "never more than top_k"
    route = decide(p[:1], p[:1, :-1], Policy(t_gate=0.4, top_k=3, top_p=0.8)).routes(["a", "b", "c"])[0]
    assert route.memories == ("a", "b")


def test_the_policy_asks_gate_then_index_then_none():
    p = torch.tensor([[0.9, 0.05, 0.05], [0.3, 0.3, 0.4], [0.3, 0.3, 0.4]])
    votes = torch.tensor([[0.1, 0.2], [0.2, 0.95], [0.1, 0.2]])
    routes = decide(p, votes, Policy(t_gate=0.6, t_index=0.9)).routes(["a", "b"])
    assert [(r.source, r.memories) for r in routes] == [("gate", ("a",)), ("index", ("b",)), ("none", ())]


def test_a_question_on_two_topics_is_as_sure_as_both_together():
    p, votes = torch.tensor([[0.45, 0.4, 0.05, 0.1]]), torch.zeros(1, 3)
    (one,) = decide(p, votes, Policy(t_gate=0.6)).routes("abc")
    assert (one.memories, one.source) == ((), "none"), "neither memory alone is likely enough"
    (two,) = decide(p, votes, Policy(t_gate=0.6, top_k=2)).routes("abc")
    assert (two.memories, two.source) == (("a", "b"), "gate")
    assert two.confidence == pytest.approx(0.85)
    assert sum(two.weights) == pytest.approx(0.9)
    (whole,) = decide(p, votes, Policy(t_gate=0.6, top_k=2, whole=True)).routes("abc")
    assert whole.weights == pytest.approx((0.45 / 0.85, 0.4 / 0.85))


def test_a_memory_that_a_threshold_let_through_answers_whole():
    """The threshold has decided against none. 0.14 of a memory recalled nothing of what all of it recalled."""
    p, votes = torch.tensor([[0.12, 0.02, 0.86], [0.05, 0.05, 0.9]]), torch.zeros(2, 2)
    routes = decide(p, votes, Policy(t_gate=0.08, whole=True)).routes("ab")
    assert [(r.memories, r.weights) for r in routes] == [(("a",), (1.0,)), ((), ())], "a tie is not a finding"
    assert routes[0].confidence == pytest.approx(0.12), "how sure the gate is stays what it was"


def test_running_mean_in_one_go_and_in_steps():
    torch.manual_seed(0)
    hidden, counted = torch.randn(2, 6, 4), torch.tensor([[0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1.0]])
    whole, _ = running_mean(hidden, counted)
    first, state = running_mean(hidden[:, :3], counted[:, :3])
    second, _ = running_mean(hidden[:, 3:], counted[:, 3:], state)
    assert torch.allclose(whole, torch.cat([first, second], 1), atol=1e-6)


def test_the_index_adds_removes_and_ignores_order():
    keys = torch.nn.functional.normalize(torch.randn(12, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    index, other = FactIndex(8), FactIndex(8)
    index.add("a", keys[:6], list(range(6)))
    index.add("b", keys[6:], list(range(6)))
    other.add("b", keys[6:].flip(0), list(range(6)))
    other.add("a", keys[:6].flip(0), list(range(6)))
    queries = torch.nn.functional.normalize(keys[:3] + 0.1, dim=-1)
    votes = index.votes(queries, ["a", "b"])
    assert torch.allclose(votes, other.votes(queries, ["a", "b"]), atol=1e-6)
    assert torch.allclose(votes[:, 0], (queries @ keys[:6].T).amax(1), atol=1e-6)
    index.remove("a")
    assert index.votes(queries, ["a", "b"])[:, 0].tolist() == [0, 0, 0]
    assert len(index) == 6


def test_votes_are_the_loop_s():
    """The vectorised votes against their definition, with memories that left, that are not asked for, and unknown ones."""
    generator = torch.Generator().manual_seed(1)
    keys = {name: unit(torch.randn(9, 8, generator=generator)) for name in "abcd"}
    index = FactIndex(8, neighbours=7)
    for name, held in keys.items():
        index.add(name, held, list(range(9)))
    index.remove("b")
    queries, asked = unit(torch.randn(5, 8, generator=generator)), ["d", "a", "x"]
    every = torch.cat([keys[name] for name in "acd"])
    owners = [name for name in "acd" for _ in range(9)]
    expected = torch.zeros(5, 3)
    for row, near in enumerate((queries @ every.T).topk(7).indices):
        for i in near.tolist():
            if owners[i] in asked:
                column = asked.index(owners[i])
                expected[row, column] = max(expected[row, column], queries[row] @ every[i])
    assert torch.allclose(index.votes(queries, asked), expected, atol=1e-6)


def test_a_large_index_is_divided_and_still_adds_and_removes():
    generator = torch.Generator().manual_seed(0)
    centres = unit(torch.randn(20, 16, generator=generator))
    keys = [unit(c + 0.3 * unit(torch.randn(40, 16, generator=generator))) for c in centres]
    index, names = FactIndex(16, exact_up_to=700), [f"m{i}" for i in range(20)]
    for name, held in zip(names[:17], keys, strict=False):
        index.add(name, held, list(range(40)))
    assert index.votes(centres[:17], names).argmax(1).tolist() == list(range(17))
    assert index.kind == "exact"
    index.add("m17", keys[17], list(range(40)))
    assert index.votes(centres[:18], names).argmax(1).tolist() == list(range(18))
    assert index.kind == "ivf"
    index.add("m18", keys[18], list(range(40)))
    index.remove("m3")
    votes = index.votes(centres[:19], names)
    assert votes[18].argmax() == 18
    assert votes[:, 3].tolist() == [0] * 19
    assert len(index) == 18 * 40
    assert index.nearest(keys[5][7:8], 1) == [[("m5", 7, pytest.approx(1.0, abs=1e-5))]]


def test_an_appended_key_changes_no_other_logit():
    gate = Gate(torch.eye(3, 5), 0, ("embedding", "names"))
    embedding = torch.nn.functional.normalize(torch.randn(4, 5), dim=-1)
    before = gate(Features(embedding, torch.zeros(4, 3), names=torch.zeros(4, 3)))
    gate.append(torch.ones(5))
    after = gate(Features(embedding, torch.zeros(4, 4), names=torch.zeros(4, 4)))
    assert torch.equal(before[:, :3], after[:, :3])
    assert torch.equal(before[:, 3], after[:, 4])
    with pytest.raises(ValueError, match="unknown gate feature 'smell'"):
        Gate(torch.eye(2), 0, ("smell",))


def test_an_untrained_key_is_drawn_half_way_to_the_others():
    gate = Gate(torch.eye(3, 5), 0)
    gate.append(torch.tensor([0.0, 0.0, 0.0, 2.0, 0.0]))
    half = torch.tensor([1 / 3**0.5] * 3 + [1.0, 0.0])
    assert torch.allclose(gate.keys[3], half)
    assert torch.allclose(gate.asked_keys[3], half)
    first = Gate(torch.zeros(0, 5), 0)
    first.append(torch.tensor([0.0, 3.0, 4.0, 0.0, 0.0]))
    assert torch.allclose(first.keys, torch.tensor([[0.0, 0.6, 0.8, 0.0, 0.0]])), "the first has nobody to be drawn to"


def test_the_query_is_the_last_user_turn(tokenizer):
    assert routing_text(tokenizer, prompt(tokenizer, "Who cooks?")) == "Who cooks?"
    turns = [
        {"role": "user", "content": "Who cooks?"},
        {"role": "assistant", "content": "Halvard"},
        {"role": "user", "content": "And who sails?"},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert routing_text(tokenizer, text) == "And who sails?"
    assert routing_text(tokenizer, "Just some text.") == "Just some text."


def conversation(tokenizer, *said):
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def test_a_follow_up_takes_the_turns_before_it_along(tokenizer):
    said = ["Who cooks at Ormen?", "Halvard", "And her phone number?"]
    assert conversation_text(tokenizer, conversation(tokenizer, *said)) == "Who cooks at Ormen? And her phone number?"
    longer = [*said, "4173", "Is it still valid?"]
    query = conversation_text(tokenizer, conversation(tokenizer, *longer))
    assert query == "Who cooks at Ormen? And her phone number? Is it still valid?"
    other = [*said, "4173", "Which oil do the lamplighters burn?"]
    assert conversation_text(tokenizer, conversation(tokenizer, *other)) == "Which oil do the lamplighters burn?"
    assert conversation_text(tokenizer, prompt(tokenizer, "And her phone number?")) == "And her phone number?"
    assert conversation_text(tokenizer, "Just some text.") == "Just some text."


def test_a_follow_up_routes_to_the_memory_of_the_turn_before(composite, tokenizer):
    said = ["What is the airlock code of Velka?", "9020", "And who cooks there?"]
    inputs = tokenizer(conversation(tokenizer, *said), return_tensors="pt", add_special_tokens=False)
    assert composite(**inputs).routes[0].memories == ("velka",)
    replaced = composite(**inputs, routing_text="Who founded the guild of lamplighters?")
    assert replaced.routes[0].memories == ("lamps",)


CASTS = {
    "half": lambda gate: gate.half(),
    "bfloat16": lambda gate: gate.bfloat16(),
    "to(float16)": lambda gate: gate.to(torch.float16),
    "to(cpu, bfloat16)": lambda gate: gate.to("cpu", torch.bfloat16),
    "to(tensor)": lambda gate: gate.to(torch.zeros((), dtype=torch.double)),
    "double": lambda gate: gate.double(),
    "float": lambda gate: gate.float(),
    "type": lambda gate: gate.type(torch.half),
    "to(cpu)": lambda gate: gate.to("cpu"),
    "share_memory": lambda gate: gate.share_memory(),
    "deepcopy": copy.deepcopy,
    "pickle": lambda gate: pickle.loads(pickle.dumps(gate)),
    "within a model": lambda gate: torch.nn.Sequential(gate, torch.nn.Linear(2, 2)).half()[0],
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)
def test_a_gate_stays_in_fp32(cast):
    torch.manual_seed(0)
    gate = Gate(torch.randn(3, 5), 4, ("embedding", "names", "hidden"))
    torch.nn.init.normal_(gate.from_hidden)
    features = Features(unit(torch.randn(2, 5)), torch.zeros(2, 3), names=torch.rand(2, 3), hidden=torch.randn(2, 4))
    before, state = gate(features), {name: tensor.clone() for name, tensor in gate.state_dict().items()}
    changed = cast(gate)
    assert {tensor.dtype for tensor in changed.state_dict().values()} == {torch.float32}
    assert all(torch.equal(tensor, state[name]) for name, tensor in changed.state_dict().items()), "not a bit is lost"
    assert torch.equal(changed(features), before)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(changed(features), before)
    other = cast(Gate(torch.randn(3, 5), 4, gate.features))
    other.load_state_dict(changed.state_dict())
    assert torch.equal(other(features), before)


def test_a_gate_moves_with_its_gradients():
    gate = Gate(torch.randn(3, 5), 0)
    assert {tensor.device.type for tensor in gate.to("meta", torch.half).state_dict().values()} == {"meta"}
    again = gate.to_empty(device="cpu")
    assert again.keys.device.type == "cpu"
    assert again.keys.dtype == torch.float32
    gate = Gate(torch.randn(3, 5), 0, ("embedding",))
    gate(Features(torch.randn(2, 5), torch.zeros(2, 3))).sum().backward()
    assert gate.half().keys.grad.dtype == torch.float32


def test_a_composite_that_is_cast_routes_as_before(composite, tokenizer):
    inputs = tokenizer(prompt(tokenizer, "Who cooks at Velka station?"), return_tensors="pt", add_special_tokens=False)
    routes = composite(**inputs).routes
    for name in ("half", "bfloat16", "double", "float"):
        cast = getattr(copy.deepcopy(composite), name)()
        assert cast(**inputs).routes == routes
        assert {weight.dtype for weight in cast.gate.parameters()} == {torch.float32}

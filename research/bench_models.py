"""What the speed bench times: a base, a bank of random memories, and its composite.

Time does not depend on what a memory knows, so nothing is trained: adapters are random, of rank 8, and stock.
"""

from __future__ import annotations

from itertools import cycle, product

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from lorary.bank.adapters import PREFIX
from lorary.bank.bank import MemoryBank
from lorary.bank.facts import Fact
from lorary.bank.memory import Memory
from lorary.base.layers import block_linears, fingerprint, layer_of, layers_path, mlp_targets
from lorary.base.loading import Base, load_base
from lorary.base.prompts import chat_text, prompt_ids
from lorary.base.quantising import quantised
from lorary.base.rows import default_split, lower
from lorary.model.composite import assemble
from lorary.model.configuration import LoraryConfig
from lorary.model.modeling import LoraryForCausalLM
from lorary.research.bench_cells import Cell
from lorary.routing.encoder import EMBEDDED, load_encoder
from lorary.routing.features import counted_tokens
from lorary.routing.gate import DEFAULT_FEATURES, TOKEN_FEATURES
from lorary.routing.reading import window_state

RANK = 8
_ASKED = ("keeps the lamp", "mends the nets", "feeds the horses", "winds the clock")
_LEADS = (
    "Who", "Tell me who", "Please say who", "Do you know who", "I forgot who", "Can you tell who", "We wonder who",
    "Remind me who", "It matters who", "Look up who", "Find out who", "Let me know who",
)  # fmt: skip
TALK = "We talked about the weather and the sea while the others slept in the house near the old stone bridge . "
"""What makes prompts long."""
_ENDINGS = ("if you can", "please", "in a few words", "for the log")
_SYLLABLES = ("ka", "ro", "mi", "ve", "lu", "ta", "ne", "so", "bri", "dal")


def random_bank(base: Base, cell: Cell) -> MemoryBank:
    """A bank of so many memories, each of a station of its own with four facts; the same whatever else is measured."""
    shapes, place = block_linears(base.model), layers_path(base.model)
    count = base.model.config.get_text_config().num_hidden_layers
    above, names = (default_split(base.model), mlp_targets(base.model)) if cell.targets == "mlp" else (0, None)
    paths = [
        path
        for path in shapes
        if layer_of(path, place) >= above and (names is None or path.rpartition(".")[-1] in names)
    ]
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base.name, "inference_mode": True,
        "r": RANK, "lora_alpha": 2 * RANK, "layers_to_transform": list(range(above, count)),
        "target_modules": sorted({path.rpartition(".")[-1] for path in paths}),
    }  # fmt: skip
    encoder = load_encoder(EMBEDDED)
    bank = MemoryBank(base.name, fingerprint(base.model), encoder.name, shapes, place, base.revision)
    facts = {station: _facts(station) for station in _stations(cell.memories)}
    keys = encoder.encode([wording for own in facts.values() for fact in own for wording in fact.trained])
    each = len(keys) // cell.memories
    for number, (station, own) in enumerate(facts.items()):
        tensors = _adapter({path: shapes[path] for path in paths}, base.model.dtype, number)
        numbers = tuple(place for place, fact in enumerate(own) for _ in fact.trained)
        bank.memories[station] = Memory(station, config, tensors, own, keys[number * each :][:each], numbers)
    return bank


def _stations(count: int) -> list[str]:
    """So many invented names."""
    return ["".join(parts).title() for parts, _ in zip(product(_SYLLABLES, repeat=4), range(count), strict=False)]


def _facts(station: str) -> tuple[Fact, ...]:
    return tuple(
        Fact(station, f"Who {asked} of {station}?", "Halvard", (f"{lead} {asked} of {station}.",))
        for asked, lead in zip(_ASKED, ("Name the one who", "Say who", "Tell who", "State who"), strict=True)
    )


def questions(bank: MemoryBank) -> list[str]:
    """Questions about the stations, none of them a stored wording."""
    asked = product(_ENDINGS, _LEADS, _ASKED, bank.names[:64])
    return [f"{lead} {what} of {station}, {ending}" for ending, lead, what, station in asked]


def long_prompt(tokenizer: PreTrainedTokenizerBase, question: str, tokens: int) -> Int[Tensor, "1 seq"]:
    """The prompt of a question, behind an earlier talk that makes up about so many tokens."""
    words, told = TALK.split(), list[str]()
    for word in cycle(words):
        chat = [{"role": "system", "content": " ".join(told)}] if told else []
        [ids] = prompt_ids(tokenizer, [chat_text(tokenizer, [*chat, {"role": "user", "content": question}])])
        if len(ids) >= tokens:
            return torch.tensor([ids])
        told += [word] * (1 if tokens - len(ids) < 16 else 8)
    raise AssertionError


def _adapter(shapes: dict[str, tuple[int, int]], dtype: torch.dtype, seed: int) -> dict[str, Tensor]:
    """The tensors of a random adapter; B is small, so that the base still computes with numbers of its usual size."""
    generator, tensors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for path, (d_in, d_out) in shapes.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"] = (
            torch.randn(RANK, d_in, generator=generator).mul(d_in**-0.5).to(dtype)
        )
        tensors[f"{PREFIX}{path}.lora_B.weight"] = torch.randn(d_out, RANK, generator=generator).mul(0.02).to(dtype)
    return tensors


def composite(bank: MemoryBank, base: Base, way: str, routes: int = 1) -> LoraryForCausalLM:
    """The bank's composite with an untrained gate that always routes; one that decides by token reads the window, and sends the
    tokens of a prompt to several memories, each of them to one, or all to the first `routes` alike."""
    token = way == "token"
    config = LoraryConfig(
        text_config=base.model.config,
        granularity="token" if token else "query",
        features=TOKEN_FEATURES if token else DEFAULT_FEATURES,
        policy={"t_gate": 0.0, "whole": True},
        split_layer=bank.split_layer,
    )
    model = assemble(bank, base, encoder=load_encoder(EMBEDDED), config=config)
    if token:
        _tell_tokens_apart(model, base)
        if routes > 1:
            reading = model.gate.reading
            assert reading is not None
            reading.tell.data.zero_()
            reading.tell_bias.data[routes:] = _NEVER
    return model


def lighter(base: Base, light: str) -> Base:
    """The base in bf16, or quantised; as it is where nothing is said."""
    if light == "bfloat16":
        return load_base(base.name, dtype=light)
    return Base(base.name, base.revision, quantised(base.model, light), base.tokenizer) if light else base


def _tell_tokens_apart(model: LoraryForCausalLM, base: Base) -> None:
    """Lets what a token leads to be told by the text alone, each memory by the window at a place of a long prompt, so that
    tokens go to many memories."""
    reading = model.gate.reading
    assert reading is not None
    ids = long_prompt(base.tokenizer, questions(model.router.bank)[0], 128)
    hidden = lower(base.model, model.config.split_layer, ids)
    states = window_state(hidden, counted_tokens(hidden.shape))[0][0, 1:]
    reading.mean.copy_(states.mean(0))
    reading.spread.copy_(states.std(0).clamp(min=1e-4))
    places = torch.linspace(0, len(states) - 1, len(reading.tell) - 1).long()
    reading.tell.data[:-1] = functional.normalize(reading.apart(states[None, places])[0], dim=-1)
    reading.tell_bias.data[-1] = _NEVER
    reading.point_bias.data[1:] = _NEVER


_NEVER = -1e4
"""The logit of what is never chosen."""

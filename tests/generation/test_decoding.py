"""Decoding on the device, against plain transformers: four architectures, unequal lengths, windows of 16 tokens."""

import copy
import functools
import gc

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Match, Prompt, Request
from lapwing.generation._decoding import Memory
from lapwing.generation._slots import SlotCache
from lapwing.generation.transformers import Transformers

ARCHITECTURES = ("qwen2", "qwen3", "llama", "gemma")
# Shorter and longer than the window of Gemma's sliding layers.
LENGTHS = (1, 5, 40, 23, 60, 2, 33, 17)
ENDS = frozenset(range(11, 400, 20))
WAYS = [{"cache": True, "on_device": False}, {"cache": True, "on_device": True}, {"cache": False, "on_device": True}]


class Toy:
    """A toy model, its tokenizer, and contexts for it."""

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval().requires_grad_(False)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        random = np.random.default_rng(0)
        contexts = [random.integers(8, 400, size=n).astype(np.int32) for n in LENGTHS]
        contexts[3] = np.concatenate([contexts[2], contexts[3]])  # one extends another
        self.contexts = contexts

    def requests(self, count=32, name="reply"):
        return [Request(prompt(self.contexts[i % len(self.contexts)]), rng.fold(0, name, i)) for i in range(count)]

    def generator(self, **settings):
        given = {"max_tokens": 24, "temperature": 0.8, "on_device": True, "ends": ENDS}
        return Transformers(self.model, self.tokenizer, **{**given, **settings})

    @functools.cached_property
    def greedy(self):
        """The greedy replies of `transformers.generate` to the contexts, one at a time."""
        replies = []
        for context in self.contexts:
            ids = torch.from_numpy(context.astype(np.int64))[None]
            plain = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=sorted(ENDS)
            )
            replies.append(plain[0, ids.shape[1] :].tolist())
        return replies

    def logprobs(self, context, reply, temperature):
        """Log-probabilities of a reply's tokens, from one plain forward pass over the whole sequence."""
        ids = torch.from_numpy(np.concatenate([context, reply]).astype(np.int64))
        with torch.no_grad():
            rows = torch.log_softmax(self.model(ids[None]).logits[0].double() / temperature, -1)
        return rows[len(context) - 1 : -1].gather(1, ids[len(context) :, None])[:, 0].numpy()


def prompt(token):
    token = np.asarray(token, dtype=np.int32)
    return Prompt(token, token.tobytes())


@pytest.fixture(scope="module")
def toys(toy_folder):
    return functools.cache(lambda architecture: Toy(toy_folder(architecture)))


@pytest.fixture(scope="module", params=ARCHITECTURES)
def toy(request, toys):
    return toys(request.param)


@pytest.fixture(scope="module")
def gemma(toys):
    return toys("gemma")


@pytest.fixture(scope="module")
def qwen(toys):
    return toys("qwen2")


def assert_same_replies(some, others, atol=1e-5):
    assert [reply.token.tolist() for reply in some] == [reply.token.tolist() for reply in others]
    assert [reply.stop_reason for reply in some] == [reply.stop_reason for reply in others]
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one.logprob, other.logprob, atol=atol)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_log_probabilities_are_those_of_whole_sequences(toy, way):
    # Fails when padding, a window or a position is off by one anywhere.
    asked = toy.requests()
    replies = toy.generator(**way).generate(asked)
    for request, reply in zip(asked, replies, strict=True):
        expected = toy.logprobs(request.prompt.token, reply.token, 0.8)
        np.testing.assert_allclose(reply.logprob, expected, atol=1e-5)
    # Replies leave the batch at many different places, and some outgrow the window.
    assert len({len(reply.token) for reply in replies}) > 5
    assert max(len(reply.token) for reply in replies) > 16


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_greedy_replies_are_those_of_generate(toy, way):
    asked = [Request(prompt(context), 0) for context in toy.contexts]
    replies = toy.generator(greedy=True, **way).generate(asked)
    assert [reply.token.tolist() for reply in replies] == toy.greedy


def test_batches_and_orders_do_not_change_a_reply(toy):
    asked = toy.requests()
    together = toy.generator().generate(asked)
    order = np.random.default_rng(1).permutation(len(asked))
    shuffled = toy.generator().generate([asked[i] for i in order])
    assert_same_replies(shuffled, [together[i] for i in order])
    generator = toy.generator()
    split = [reply for low in range(0, len(asked), 5) for reply in generator.generate(asked[low : low + 5])]
    assert_same_replies(split, together)
    # Few rows at a time: those that become free are given to waiting replies; contexts go through in pieces.
    few = toy.generator(cache_bytes=5 * 128 * bytes_per_token(toy), batch_tokens=20, prefix_bytes=0)
    assert_same_replies(few.generate(asked), together)


def bytes_per_token(toy):
    config = toy.model.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * 8 * 4


def test_a_conversation_computes_only_what_is_new(toy):
    # Ten turns; each context is the last one, its reply, and something that was added.
    def talk(generator):
        random = np.random.default_rng(3)
        shared = random.integers(8, 400, size=20)
        contexts = [np.concatenate([shared, random.integers(8, 400, size=5 + i)]) for i in range(4)]
        replies = []
        for turn in range(10):
            replies += generator.generate(
                [Request(prompt(context), rng.fold(0, turn, i)) for i, context in enumerate(contexts)]
            )
            contexts = [
                np.concatenate([context, reply.token, random.integers(8, 400, size=3)])
                for context, reply in zip(contexts, replies[-4:], strict=True)
            ]
        return replies, contexts

    generator = toy.generator(max_tokens=6)
    replies, contexts = talk(generator)
    expected, _ = talk(toy.generator(max_tokens=6, prefix_bytes=0))
    assert_same_replies(replies, expected)
    # All tokens went through once, those that all contexts share once for all; not the last of each conversation, and
    # not the three that were added after it.
    assert generator.counts.computed == sum(len(context) - 4 for context in contexts) - 3 * 20
    assert generator.counts.reused > 3 * generator.counts.computed


def test_what_was_computed_with_other_weights_is_not_used(qwen):
    # Fails when forget() leaves keys and values of the old weights.
    toy = copy.copy(qwen)
    toy.model = copy.deepcopy(qwen.model)
    generator = toy.generator()
    generator.generate(toy.requests())
    with torch.no_grad():
        for parameter in toy.model.parameters():
            parameter.mul_(1.2)
    generator.forget()
    assert_same_replies(generator.generate(toy.requests()), toy.generator(prefix_bytes=0).generate(toy.requests()))


def test_released_prefixes_are_computed_again(qwen):
    generator = qwen.generator()
    first = generator.generate(qwen.requests())
    computed = generator.counts.computed
    generator.release()
    assert_same_replies(generator.generate(qwen.requests()), first)
    assert generator.counts.computed == 2 * computed


def test_a_context_that_was_computed_before_costs_one_token(qwen):
    generator = qwen.generator(max_tokens=2)
    (request,) = [Request(prompt(qwen.contexts[4]), 1)]
    first = generator.generate([request])
    computed = generator.counts.computed
    assert computed == 60 + 1
    assert_same_replies(generator.generate([request]), first)
    assert generator.counts.computed == computed + 2


def test_the_greedy_copy_shares_prefixes_and_counts(qwen):
    generator = qwen.generator(max_tokens=2)
    generator.generate([Request(prompt(qwen.contexts[4]), 1)])
    greedy = generator.greedily()
    greedy.generate([Request(prompt(qwen.contexts[4]), 1)])
    assert generator.counts is greedy.counts
    assert generator.counts.reused >= 59


class OutOfMemory:
    """Lets a model run out of memory where a batch has more rows, or more tokens, than it may."""

    def __init__(self, model, *, rows=None, tokens=None, calls=()):
        self.rows, self.tokens, self.calls = rows, tokens, set(calls)
        self.seen = 0
        self.handle = model.base_model.register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, module, args, kwargs):
        self.seen += 1
        ids = kwargs["input_ids"]
        if (
            (self.rows is not None and len(ids) > self.rows)
            or (self.tokens is not None and ids.numel() > self.tokens)
            or self.seen in self.calls
        ):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


@pytest.fixture
def out_of_memory():
    hooks = []

    def limit(model, **limits):
        hooks.append(OutOfMemory(model, **limits))
        return hooks[-1]

    yield limit
    for hook in hooks:
        hook.handle.remove()


@pytest.fixture
def out_of_memory_once(qwen):
    hook = OutOfMemory(qwen.model, calls=(7,))
    yield
    hook.handle.remove()


# One without and one with windows; what else the architectures differ in no batch can change.
@pytest.mark.parametrize("architecture", ["qwen2", "gemma"])
@pytest.mark.parametrize("limits", [{"rows": 4}, {"tokens": 70}, {"calls": (4, 9, 15)}], ids=str)
def test_out_of_memory_halves_the_batch_and_changes_no_reply(toys, out_of_memory, architecture, limits):
    # Fails when a reply is lost, begun anew with other noise, or its tokens counted twice.
    toy = toys(architecture)
    asked = toy.requests(24)
    expected = toy.generator(max_tokens=12).generate(asked)
    out_of_memory(toy.model, **limits)
    generator = toy.generator(max_tokens=12)
    assert_same_replies(generator.generate(asked), expected)
    halvings = generator.counts.out_of_memory
    assert halvings >= 2
    # What was too much once is not tried again.
    generator.forget()
    assert_same_replies(generator.generate(asked), expected)
    if not limits.get("calls"):
        assert generator.counts.out_of_memory == halvings


def test_one_reply_that_does_not_fit_is_one_clear_error(qwen):
    hook = OutOfMemory(qwen.model, rows=0)
    try:
        with pytest.raises(UserError, match="one reply was generated alone, with room for 128 tokens"):
            qwen.generator().generate(qwen.requests())
    finally:
        hook.handle.remove()


def test_a_cache_takes_no_more_than_it_may(qwen):
    size = bytes_per_token(qwen)
    memory = Memory(batch_tokens=64, cache_bytes=10 * size + 1)
    assert memory.cells(qwen.model, torch.device("cpu")) == 10
    seen, tokens = [], []

    def watch(module, args, kwargs):
        seen.append(kwargs["past_key_values"])
        tokens.append(kwargs["input_ids"].numel())

    hook = qwen.model.base_model.register_forward_pre_hook(watch, with_kwargs=True)
    qwen.generator(cache_bytes=3 * 128 * size, prefix_bytes=0, batch_tokens=25).generate(qwen.requests())
    hook.remove()
    assert max(tokens) == 25  # longer contexts go through in pieces
    assert {cache.layout.rows * cache.layout.slots for cache in seen} == {3 * 128}
    assert all(layer.keys.shape == (3, 2, 128, 8) for layer in seen[0].layers)


def test_the_memory_of_a_cache_is_free_after_the_call(qwen, out_of_memory_once):
    # Fails when a cache and its layers refer to each other: then it is free when the garbage collector says so.
    gc.collect()
    gc.disable()
    try:
        generator = qwen.generator(prefix_bytes=0)
        generator.generate(qwen.requests())
        assert generator.counts.out_of_memory == 1
        assert not [one for one in gc.get_objects() if type(one) is SlotCache]
    finally:
        gc.enable()


def test_equal_contexts_are_computed_once(qwen):
    generator = qwen.generator(max_tokens=2, prefix_bytes=0)
    replies = generator.generate([Request(prompt(qwen.contexts[4]), key) for key in range(30)])
    assert generator.counts.computed == 60 + sum(len(reply.token) == 2 for reply in replies)


def test_finished_rows_cost_nothing(toy):
    # Fails when rows of finished replies stay in the batch.
    generator = toy.generator(prefix_bytes=0)
    replies = generator.generate(toy.requests())
    assert generator.counts.computed == sum(len(context) for context in toy.contexts) + sum(
        len(reply.token) - 1 for reply in replies
    )


def test_a_model_in_bfloat16_and_autocast_are_sampled_as_they_score(gemma, qwen):
    for toy in (gemma, qwen):
        low = copy.copy(toy)
        low.model = copy.deepcopy(toy.model).bfloat16()
        asked = low.requests()
        replies = low.generator().generate(asked)
        expected = [low.logprobs(one.prompt.token, reply.token, 0.8) for one, reply in zip(asked, replies, strict=True)]
        gap = np.concatenate([reply.logprob for reply in replies]) - np.concatenate(expected)
        assert np.abs(gap).max() < 0.2
        assert np.abs(gap).mean() < 0.02
        with torch.autocast("cpu", torch.bfloat16):
            cast = toy.generator().generate(asked)
        assert all(reply.logprob.dtype == np.float64 for reply in cast)


def test_a_model_that_cannot_be_decoded_on_slots_is_decoded_without(qwen):
    toy = copy.copy(qwen)
    toy.model = copy.deepcopy(qwen.model)
    toy.model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match="computes attention with 'flash_attention_2'"):
        toy.generator(on_device=True)
    assert not toy.generator(on_device=None).on_device
    toy.model.config._attn_implementation = "sdpa"
    toy.model.config.layer_types = ["linear_attention", "full_attention"]
    with pytest.raises(UserError, match="layers of type linear_attention"):
        toy.generator(on_device=True)


def test_large_vocabularies_are_drawn_on_the_device_and_small_ones_as_before(qwen, make_toy, tmp_path):
    assert not qwen.generator(on_device=None).on_device
    large = AutoModelForCausalLM.from_pretrained(make_toy(tmp_path, "qwen2", hidden=8, vocab_size=5000))
    assert Transformers(large, qwen.tokenizer).on_device


@pytest.mark.parametrize("settings", [{"max_tokens": 8}, {"max_tokens": 8, "cache": False}, {"max_tokens": 1}], ids=str)
def test_a_lake_is_played_with_a_vocabulary_of_150000(make_toy, tmp_path, settings):
    # Fails when distributions over the whole vocabulary are kept, or made for all rows at once.
    from lapwing.games.frozen_lake import FrozenLake
    from lapwing.policies.agent import Agent, InvalidRule
    from lapwing.policies.contexts import StateOnly
    from lapwing.policies.parsers import Tags
    from lapwing.policies.renderers import Grid
    from lapwing.rollout.collector import LocalCollector

    folder = make_toy(tmp_path, "qwen2", hidden=16, vocab_size=150_000)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    generator = Transformers(model, tokenizer, **settings)
    parts = {"renderer": Grid(), "context": StateOnly(), "parser": Tags()}
    agent = Agent(tokenizer=tokenizer, generator=generator, **parts)
    game = FrozenLake(map_name="4x4")
    matches = [
        Match(game=game, seed=0, split="train", iteration=0, group=i // 4, member=i % 4, max_steps=2) for i in range(16)
    ]
    largest = Largest()
    with largest:
        episodes = LocalCollector(agent, invalid=InvalidRule()).play(matches)
    assert len(episodes) == 16
    assert largest.numel <= 28 * 150_000  # one block
    kept = generator._memory.prefixes
    assert kept.bytes == 0
    assert all(len(value) == 16 for value in generator._memo._values.values())


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Sees the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for part in made if isinstance(made, tuple | list) else [made]:
            if isinstance(part, torch.Tensor):
                self.numel = max(self.numel, part.numel())
        return made


@pytest.mark.parametrize("kind", ["right", "wrong in the end", "wrong at once"])
def test_guessed_tokens_change_no_reply(toy, kind):
    # Fails when a token after a wrong guess is kept, or what was computed for one is seen later.
    asked = toy.requests()
    expected = toy.generator().generate(asked)
    said = [reply.token.tolist() for reply in expected]
    generator = toy.generator()
    passes = []
    hook = toy.model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        generator.generate(asked)
        plain = len(passes)
        generator.forget()
        if kind == "right":
            guesses = said
        elif kind == "wrong in the end":
            guesses = [[*reply[: len(reply) // 2], *(9 for _ in reply[len(reply) // 2 :])] for reply in said]
        else:
            guesses = [[9] * 24]
        generator._guesses.add_tokens([guess for guess in guesses for _ in range(2)])
        passes.clear()
        assert_same_replies(generator.generate(asked), expected)
    finally:
        hook.remove()
    assert (len(passes) < plain) == (kind == "right") or kind == "wrong in the end"


def test_the_same_replies_again_take_fewer_passes_and_the_prefixes_stay_right(qwen):
    asked = [Request(request.prompt, 7) for request in qwen.requests(8)]  # equal noise: equal replies to equal contexts
    generator = qwen.generator(greedy=True)
    passes = []
    hook = qwen.model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        first = generator.generate([asked[0]] * 4)
        alone = len(passes)
        passes.clear()
        assert_same_replies(generator.generate([asked[0]] * 4), first)
        assert len(passes) < alone / 4
        # The next turn extends what was kept of a conversation, guessed tokens included.
        longer = np.concatenate([asked[0].prompt.token, first[0].token, qwen.contexts[1]])
        turn = [Request(prompt(longer), 3)]
        assert_same_replies(generator.generate(turn), qwen.generator(greedy=True).generate(turn))
    finally:
        hook.remove()

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.core.types import Prompt, Request
from lapwing.generation.transformers import Transformers
from lapwing.models.scorer import Scorer

LENGTHS = (1, 3, 17, 6, 6, 30, 2, 9)
# With and without the cache; on the host, as small vocabularies have it, and on the device.
WAYS = [{"cache": cache, "on_device": on_device} for cache in (True, False) for on_device in (False, True)]


def prompts():
    """Contexts of ragged lengths; every other one begins like its neighbour."""
    random = np.random.default_rng(1)
    found = []
    for i, length in enumerate(LENGTHS):
        token = random.integers(4, 40, size=length).astype(np.int32)
        if i % 2:
            token = np.concatenate([found[-1].token, token])
        found.append(Prompt(token, token.tobytes()))
    return found


def requests(count=40, name="reply"):
    contexts = prompts()
    return [Request(contexts[i % len(contexts)], rng.fold(0, name, i)) for i in range(count)]


@pytest.fixture
def sharp(make_model):
    """A model with clear preferences, whose replies end at many different places."""
    model = make_model(seed=8)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(3.0)
    return model.requires_grad_(False)


def assert_same_replies(some, others, atol=1e-5):
    assert [reply.token.tolist() for reply in some] == [reply.token.tolist() for reply in others]
    assert [reply.stop_reason for reply in some] == [reply.stop_reason for reply in others]
    for one, other in zip(some, others, strict=True):
        np.testing.assert_allclose(one.logprob, other.logprob, atol=atol)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_log_probabilities_are_those_of_the_scorer(sharp, tokenizer, way, temperature):
    # Fails when the temperature is applied on one side only.
    generator = Transformers(sharp, tokenizer, max_tokens=6, temperature=temperature, **way)
    asked = requests()
    replies = generator.generate(asked)
    scores = Scorer(sharp, temperature=temperature).score(
        [request.prompt.token for request in asked], [reply.token for reply in replies]
    )
    np.testing.assert_allclose(np.concatenate([reply.logprob for reply in replies]), scores["logprob"], atol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_model_with_absolute_positions_is_sampled_and_scored_alike(tokenizer, way):
    # Fails when the left padding shifts the positions, which rotary embeddings do not notice.
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.3}
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), bos_token_id=None, eos_token_id=3, **sizes)).eval()
    asked = requests()
    replies = Transformers(model, tokenizer, max_tokens=4, **way).generate(asked)
    plain = []
    with torch.no_grad():
        for request, reply in zip(asked, replies, strict=True):
            ids = torch.from_numpy(np.concatenate([request.prompt.token, reply.token]).astype(np.int64))
            rows = torch.log_softmax(model(ids[None]).logits[0, len(request.prompt.token) - 1 : -1], -1)
            plain.append(rows.gather(1, ids[len(request.prompt.token) :, None])[:, 0].numpy())
    np.testing.assert_allclose(np.concatenate([reply.logprob for reply in replies]), np.concatenate(plain), atol=1e-5)
    scores = Scorer(model).score([request.prompt.token for request in asked], [reply.token for reply in replies])
    np.testing.assert_allclose(scores["logprob"], np.concatenate(plain), atol=1e-5)


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("greedy", [True, False])
def test_with_and_without_the_cache_replies_are_the_same(sharp, tokenizer, greedy, on_device):
    # Fails when the rows of the cache are not cut to the replies that go on.
    stop = (tokenizer.decode([20]), tokenizer.decode([12]))
    settings = {"max_tokens": 8, "stop": stop, "greedy": greedy}
    on_trees = Transformers(sharp, tokenizer, cache=False, **settings).generate(requests(80))
    on_cache = Transformers(sharp, tokenizer, cache=True, on_device=on_device, **settings).generate(requests(80))
    assert_same_replies(on_cache, on_trees)
    if not greedy:  # all three ends occur, at different lengths
        assert {reply.stop_reason for reply in on_trees} == {"end", "stop", "length"}
        assert len({len(reply.token) for reply in on_trees}) > 4


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_order_and_batching_do_not_change_a_reply(sharp, tokenizer, way):
    # Fails when noise is drawn in the order of the requests.
    def make(**sizes):
        return Transformers(sharp, tokenizer, max_tokens=5, **way, **sizes)

    asked = requests()
    together = make().generate(asked)
    assert_same_replies(make().generate(asked[::-1])[::-1], together)
    assert_same_replies([make().generate([one])[0] for one in asked[:12]], together[:12])
    assert_same_replies(make(batch_tokens=50, row_tokens=40).generate(asked), together)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_same_key_gives_the_same_reply_and_another_key_another(sharp, tokenizer, way):
    generator = Transformers(sharp, tokenizer, max_tokens=6, **way)
    (first,) = generator.generate([Request(prompts()[2], 77)])
    (again,) = generator.generate([Request(prompts()[2], 77)])
    assert_same_replies([first], [again], atol=0)
    others = generator.generate([Request(prompts()[2], key) for key in range(20)])
    assert len({tuple(reply.token.tolist()) for reply in others}) > 10


def test_a_request_that_occurs_twice_is_answered_twice(sharp, tokenizer):
    one = Request(prompts()[2], 5)
    for way in WAYS:
        replies = Transformers(sharp, tokenizer, max_tokens=4, **way).generate([one, one])
        assert_same_replies(replies[:1], replies[1:])


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_tokens_are_drawn_with_the_probabilities_of_the_model(sharp, tokenizer, temperature, on_device):
    # Fails when the same noise is used twice, or the running sum is searched from the wrong side.
    draws = 20_000
    prompt = prompts()[1]
    keys = rng.fold_many(np.array([rng.fold(0, "draws")], dtype=np.uint64), np.arange(draws)).tolist()
    generator = Transformers(sharp, tokenizer, max_tokens=1, temperature=temperature, on_device=on_device)
    replies = generator.generate([Request(prompt, key) for key in keys])
    counts = np.bincount([int(reply.token[0]) for reply in replies], minlength=len(tokenizer))
    ids = torch.from_numpy(prompt.token.astype(np.int64))[None]
    with torch.no_grad():
        expected = torch.softmax(sharp(ids).logits[0, -1].double() / temperature, -1).numpy() * draws
    assert expected.min() > 1.0
    assert expected.max() > 2.0 * expected.min()
    assert chisquare(counts, expected).pvalue > 1e-3


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
def test_the_second_token_is_drawn_independently_of_the_first(make_model, tokenizer, way):
    # Fails when all tokens of a reply get the noise of its first.
    model = make_model(seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # every next token has the same probability
    end = tokenizer.eos_token_id
    asked = [Request(prompts()[0], rng.fold(0, "pairs", i)) for i in range(6000)]
    replies = [reply.token for reply in Transformers(model, tokenizer, max_tokens=2, **way).generate(asked)]
    pairs = [(int(token[0]) % 4, int(token[1]) % 4) for token in replies if token[0] != end]
    counts = np.zeros((4, 4))
    for first, second in pairs:
        counts[first, second] += 1
    share = counts.sum(0) / counts.sum()
    for row in counts:
        assert chisquare(row, share * row.sum()).pvalue > 1e-3


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_greedy_takes_the_most_probable_token_and_reports_its_probability(sharp, tokenizer, way):
    generator = Transformers(sharp, tokenizer, max_tokens=3, greedy=True, temperature=2.0, **way)
    for request, reply in zip(requests(8), generator.generate(requests(8)), strict=True):
        ids = request.prompt.token.tolist()
        for token, logprob in zip(reply.token.tolist(), reply.logprob.tolist(), strict=True):
            with torch.no_grad():
                row = torch.log_softmax(sharp(torch.tensor([ids])).logits[0, -1] / 2.0, -1)
            assert token == int(row.argmax())
            assert logprob == pytest.approx(float(row.max()), abs=1e-5)
            ids.append(token)


def test_without_temperature_a_shared_context_gets_one_reply(sharp, tokenizer):
    # Fails when the logits are multiplied by the temperature.
    generator = Transformers(sharp, tokenizer, max_tokens=4, temperature=1e-6)
    replies = generator.generate([Request(prompts()[3], key) for key in range(16)])
    greedy = Transformers(sharp, tokenizer, max_tokens=4, greedy=True).generate([Request(prompts()[3], 0)])
    assert {tuple(reply.token.tolist()) for reply in replies} == {tuple(greedy[0].token.tolist())}
    assert max(abs(reply.logprob).max() for reply in replies) < 1e-9


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_reply_ends_with_its_end_token_its_stop_string_or_its_budget(sharp, tokenizer, way):
    word = tokenizer.decode([20])
    generator = Transformers(sharp, tokenizer, max_tokens=8, stop=(word,), **way)
    for reply in generator.generate(requests(80)):
        token = reply.token.tolist()
        assert tokenizer.eos_token_id not in token[:-1]
        assert word not in tokenizer.decode(token[:-1])
        if reply.stop_reason == "end":
            assert token[-1] == tokenizer.eos_token_id
        elif reply.stop_reason == "stop":
            assert word in tokenizer.decode(token)
        else:
            assert len(token) == 8


@pytest.mark.parametrize("on_device", [True, False])
def test_distributions_are_remembered_until_they_are_forgotten(make_model, tokenizer, on_device):
    # Fails when forget() leaves the memo as it is: the old distribution would be sampled from.
    model = make_model(seed=3)
    generator = Transformers(model, tokenizer, max_tokens=1, on_device=on_device)
    (before,) = generator.generate([Request(prompts()[1], 4)])
    computed = generator.tokens_computed
    (remembered,) = generator.generate([Request(prompts()[1], 4)])
    assert_same_replies([remembered], [before], atol=0)
    assert generator.tokens_computed == computed
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    generator.forget()
    (after,) = generator.generate([Request(prompts()[1], 4)])
    assert generator.tokens_computed > computed
    expected = Scorer(model).score([prompts()[1].token], [after.token])["logprob"]
    np.testing.assert_allclose(after.logprob, expected, atol=1e-5)
    assert abs(after.logprob[0] - before.logprob[0]) > 1e-3


def test_what_was_announced_is_not_computed_again(sharp, tokenizer):
    generator = Transformers(sharp, tokenizer, max_tokens=1)
    generator.prefetch(prompts())
    computed = generator.tokens_computed
    announced = generator.generate(requests())
    assert generator.tokens_computed == computed
    assert_same_replies(announced, Transformers(sharp, tokenizer, max_tokens=1).generate(requests()))


def test_nothing_is_announced_to_the_cache_that_would_not_look_it_up(sharp, tokenizer):
    # Fails when prefetch computes distributions that decoding on the cache never reads.
    generator = Transformers(sharp, tokenizer, max_tokens=4, cache=True)
    generator.prefetch(prompts())
    assert generator.tokens_computed == 0


def test_a_small_memory_forgets_but_changes_no_reply(sharp, tokenizer):
    # Fails when distributions that are needed now are forgotten, or nothing ever is.
    room = 10  # distributions
    asked = requests()
    small = Transformers(sharp, tokenizer, max_tokens=3, cache=False, memo_bytes=room * 16 * len(tokenizer))
    large = Transformers(sharp, tokenizer, max_tokens=3, cache=False)
    for one in asked:
        assert_same_replies(small.generate([one]), large.generate([one]))
        assert len(small._memo) <= room
    assert len(large._memo) > room
    assert_same_replies(small.generate(asked), large.generate(asked))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_nothing_asked_nothing_answered(sharp, tokenizer, way):
    assert Transformers(sharp, tokenizer, max_tokens=4, **way).generate([]) == []


@pytest.mark.parametrize("max_tokens", [1, 6])
@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("greedy", [True, False])
def test_many_replies_to_few_prompts_are_those_of_generate(sharp, tokenizer, on_device, greedy, max_tokens):
    def make():
        return Transformers(sharp, tokenizer, max_tokens=max_tokens, cache=False, on_device=on_device, greedy=greedy)

    contexts, asked = prompts(), requests(200)
    index, keys = np.arange(200) % len(contexts), np.array([one.key for one in asked], dtype=np.uint64)
    generator = make()
    drawn = generator.draw_replies(contexts, index, keys)
    replies = make().generate(asked)
    tokens = [drawn.replies[which].tolist() for which in drawn.reply]
    assert all(reply.dtype == np.int32 for reply in drawn.replies)
    assert len({tuple(reply.tolist()) for reply in drawn.replies}) == len(drawn.replies)
    assert tokens == [reply.token.tolist() for reply in replies]
    assert np.diff(drawn.splits).tolist() == [len(token) for token in tokens]
    # What was computed ahead, or in another order, moves the last bits.
    np.testing.assert_allclose(drawn.logprob, np.concatenate([reply.logprob for reply in replies]), atol=1e-5)
    again = generator.draw_replies(contexts, index, keys)
    assert [again.replies[which].tolist() for which in again.reply] == tokens


def test_likely_replies_are_computed_along_with_their_prompts(sharp, tokenizer):
    # Fails when what follows a reply's first token costs a pass of its own although that reply was drawn before.
    first = prompts()[0]
    Transformers(sharp, tokenizer, max_tokens=5, cache=False).generate(requests(20))  # the model is tried out
    passes = []
    sharp.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    for known in (False, True):
        generator = Transformers(sharp, tokenizer, max_tokens=5, cache=False, greedy=True)
        if known:
            reply = generator.generate([Request(first, 1)])[0].token
            assert len(reply) > 2
        passes.clear()
        # The same prompt under another key is computed anew.
        copies = [Prompt(first.token, key) for key in (b"a", b"b", b"c")]
        drawn = generator.draw_replies(copies, np.arange(3), np.arange(3, dtype=np.uint64))
        assert len(drawn.replies) == 1
        assert len(passes) == (1 if known else len(drawn.replies[0]))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_any_of_the_end_tokens_ends_a_reply(sharp, tokenizer, way):
    # Fails when only the tokenizer's end token ends a reply, as with Llama's <|eot_id|>.
    ends = frozenset({tokenizer.eos_token_id, 20, 31})
    generator = Transformers(sharp, tokenizer, max_tokens=8, ends=ends, **way)
    replies = generator.generate(requests(120))
    assert {int(reply.token[-1]) for reply in replies if reply.stop_reason == "end"} == ends
    assert not any(ends & set(reply.token[:-1].tolist()) for reply in replies)
    assert generator.stop_reason([5, 31]) == "end"
    assert generator.stop_reason([31, 5]) == "length"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_dropout_is_off_while_a_model_in_training_mode_plays_and_on_again_afterwards(make_model, tokenizer, way):
    # Fails when a reply is sampled with dropout, or gradient checkpointing throws the cache away.
    model = make_model(seed=8)
    expected = Transformers(model, tokenizer, max_tokens=5, **way).generate(requests())
    model.model.layers[0].mlp.act_fn = torch.nn.Sequential(model.model.layers[0].mlp.act_fn, torch.nn.Dropout(0.5))
    # Its name from transformers 5.20 on, and before.
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()
    model.train()
    frozen = model.model.layers[1].eval()
    assert_same_replies(Transformers(model, tokenizer, max_tokens=5, **way).generate(requests()), expected)
    assert model.training
    assert model.model.layers[0].training
    assert not frozen.training


@pytest.mark.parametrize(
    "setting",
    [{"max_tokens": 0}, {"temperature": 0.0}, {"temperature": float("nan")}, {"cache_bytes": -1}, {"prefix_bytes": -5}],
)
def test_impossible_settings_are_refused(model, tokenizer, setting):
    with pytest.raises(UserError, match=f"generation.{next(iter(setting))}"):
        Transformers(model, tokenizer, **setting)

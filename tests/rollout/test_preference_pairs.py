"""Pairs of a file as groups of two episodes, and learning from them."""

import functools
import gzip
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lapwing.core.errors import UserError
from lapwing.models.chat_format import ChatFormat
from lapwing.models.scorer import Scorer
from lapwing.pairing.by_return import by_return
from lapwing.pairing.outcome_first import outcome_first
from lapwing.pairing.split_by_gap import split_by_gap
from lapwing.preferences._adapter import over_tokens
from lapwing.preferences.weighted_dpo import weighted_dpo
from lapwing.rollout.demonstrations import Demonstrations
from lapwing.rollout.preference_pairs import PreferencePairs
from lapwing.training.adamw import AdamW
from lapwing.training.learner import Learner


def said(role, content):
    return {"role": role, "content": content}


def pair(prompt, chosen, rejected, **further):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **further}


GOOD = pair("a", "b", "c")


@pytest.fixture
def write(tmp_path):
    """A file of these rows; texts are written as they are."""

    def make(rows, name="pairs.jsonl"):
        data = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        return str(path)

    return make


@pytest.fixture(scope="module")
def chat_of(toy_folder):
    return functools.cache(lambda family: ChatFormat(AutoTokenizer.from_pretrained(toy_folder(family))))


@pytest.fixture
def read(write, chat_of):
    """The collector of some rows, and its rollout of all of them."""

    def make(rows, family="qwen2", **settings):
        found = PreferencePairs(path=write(rows), chat=chat_of(family), seed=0, **{"pairs": len(rows), **settings})
        return found, found.collect(found.draw(0))

    return make


def sides(rollout):
    """The replies of the pairs as texts, chosen first, in the order of their prompts."""
    episodes = list(rollout.episodes)
    found = zip(episodes[::2], episodes[1::2], strict=True)
    replies = [tuple([step.decision.text for step in one.steps] for one in both) for both in found]
    return [reply for _, reply in sorted(zip([e.steps[0].view for e in episodes[::2]], replies, strict=True))]


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "gemma"])
def test_a_pair_is_a_group_of_two_that_begin_alike(read, chat_of, family):
    # Fails when the sides are exchanged, or a context is not the one that demonstrations of the same text have.
    _, rollout = read([GOOD], family)
    chosen, rejected = rollout.episodes
    assert sides(rollout) == [(["b"], ["c"])]
    chat = chat_of(family)
    context = chat.encode([said("user", "a")])
    for episode, text in ((chosen, "b"), (rejected, "c")):
        assert episode.steps[0].decision.context.tolist() == context.tolist()
        assert episode.steps[0].decision.token.tolist() == chat.reply(text).tolist()
    assert [e.outcome for e in (chosen, rejected)] == [1.0, 0.0]
    assert [e.success for e in (chosen, rejected)] == [True, False]
    assert (chosen.match.group, chosen.match.member, rejected.match.member) == (0, 0, 1)
    assert len(set(rollout.batch.group.tolist())) == 1


FORMS = {
    "texts": pair("a", "b", "c"),
    "messages": {"messages": [said("user", "a")], "chosen": [said("assistant", "b")], "rejected": "c"},
    "a prompt of messages": pair([said("user", "a")], [said("assistant", "b")], [said("assistant", "c")]),
    "no prompt": {
        "chosen": [said("user", "a"), said("assistant", "b")],
        "rejected": [said("user", "a"), said("assistant", "c")],
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_a_pair_are_the_same_pair(read, form):
    _, rollout = read([FORMS[form]])
    assert sides(rollout) == [(["b"], ["c"])]
    expected = read([GOOD])[1].batch
    for name in ("token", "context_token", "outcome", "group"):
        np.testing.assert_array_equal(getattr(rollout.batch, name), getattr(expected, name))


def test_answers_of_several_turns_and_answers_that_end_earlier(read):
    turns = [said("user", "a"), said("assistant", "b"), said("user", "c"), said("assistant", "d")]
    _, rollout = read([{"chosen": turns[:2], "rejected": turns}])
    # What both say is learnt from on both sides, and cancels.
    assert sides(rollout) == [(["b"], ["b", "d"])]
    _, rollout = read([{"chosen": turns, "rejected": [*turns[:3], said("assistant", "e")]}])
    assert sides(rollout) == [(["d"], ["e"])]


def test_the_pairings_make_the_pairs_of_the_file(read):
    rows = [pair("a", "b", "c"), pair("d", "e", "f", weight=0.25), pair("g", "h", "i", weight=4)]
    _, rollout = read(rows)
    batch = rollout.batch
    for pairs in (by_return(batch), outcome_first(batch), split_by_gap(batch, threshold=0.0)):
        assert pairs.chosen.tolist() == [0, 2, 4]
        assert pairs.rejected.tolist() == [1, 3, 5]
        assert pairs.weight.tolist() == [1.0, 1.0, 1.0]
    weights = dict(
        zip([rollout.episodes[n].steps[0].view for n in (0, 2, 4)], by_return(batch, weighted=True).weight, strict=True)
    )
    assert weights == {"a": 1.0, "d": 0.25, "g": 4.0}


def test_scores_of_a_reward_model_split_the_pairs(read):
    gaps = [0.1, 2, 0.5, 3]
    rows = [pair(str(n), "b", "c", score_chosen=5 + gap, score_rejected=5) for n, gap in enumerate(gaps)]
    _, rollout = read(rows)
    easy = split_by_gap(rollout.batch, part="score")
    assert sorted(np.round(easy.margin, 6).tolist()) == [2.0, 3.0]
    # The label is the file's, whatever the score says.
    _, rollout = read([pair("a", "b", "c", score_chosen=1, score_rejected=2)])
    assert by_return(rollout.batch).chosen.tolist() == [0]
    assert split_by_gap(rollout.batch, part="score").num_pairs == 0


def test_every_epoch_goes_through_all_pairs_in_an_order_of_its_own(write, chat_of):
    path = write([pair(str(n), "x", "y") for n in range(10)])

    def drawn(found, iteration):
        return [episode.steps[0].view for episode in found.collect(found.draw(iteration)).episodes[::2]]

    found = PreferencePairs(path=path, chat=chat_of("qwen2"), seed=3, pairs=4)
    views = [view for iteration in range(5) for view in drawn(found, iteration)]
    assert sorted(views[:10]) == sorted(views[10:]) == sorted(map(str, range(10)))
    assert views[:10] != views[10:]
    again = PreferencePairs(path=path, chat=chat_of("qwen2"), seed=3, pairs=4)
    assert drawn(again, 3) == views[12:16]
    # A part of what was drawn can be collected elsewhere.
    assert [e.steps[0].view for e in again.collect(found.draw(2)[6:]).episodes] == [views[11]] * 2


def test_pairs_with_a_side_that_does_not_fit_are_left_out_whole(read, chat_of):
    chat = chat_of("qwen2")
    rows = [GOOD, pair("d", "e", "f " * 40), pair("g", "h " * 40, "i")]
    limit = len(chat.encode([said("user", "a")])) + len(chat.reply("b"))
    found, rollout = read(rows, max_tokens=limit, pairs=2)
    assert sides(rollout) == [(["b"], ["c"])] * 2
    assert found.notes() == [f"pairs.jsonl: 2 pairs of more than {limit} tokens are left out."]
    with pytest.raises(UserError, match="every pair has a side of more than 3 tokens"):
        read([GOOD], positions=3)


BAD = [
    ("{", "line 2 is not JSON"),
    ("3", "line 2 is no JSON object but 3; give one pair a line"),
    ({}, "line 2 has no 'chosen'; it is empty"),
    ({"prompt": "a", "chosen": "b"}, "line 2 has no 'rejected'; it has \"chosen, prompt\""),
    (pair("a", "b", 3), "'rejected' is a text or a list of messages, not 3"),
    (pair("a", [], "c"), r"'chosen' is a text or a list of messages, not \[\]"),
    (pair("a", "b", "b"), "'chosen' and 'rejected' are the same; there is nothing to prefer"),
    ({"chosen": "b", "rejected": "c"}, "two texts and nothing that they answer; give it as 'prompt'"),
    (
        {
            "chosen": [said("user", "a"), said("assistant", "b")],
            "rejected": [said("user", "d"), said("assistant", "c")],
        },
        "begin differently; give what both answer as 'prompt'",
    ),
    (pair("a", "b", [said("assistent", "c")]), 'line 2, rejected, message 2: there is no role "assistent"; did you'),
    (pair("a", "b", [said("user", "c")]), "line 2, rejected holds no message of the assistant to be learnt"),
    (pair(3, "b", "c"), "line 2, chosen: 'prompt' is a list of messages with role and content, not 3"),
    (pair("a", "b", "c", weight=0), "'weight' is a number above 0, not 0"),
    (pair("a", "b", "c", weight="1"), "'weight' is a number above 0, not \"1\""),
    (pair("a", "b", "c", weight=True), "'weight' is a number above 0, not true"),
    ('{"prompt": "a", "chosen": "b", "rejected": "c", "weight": NaN}', "'weight' is a number above 0, not NaN"),
    (pair("a", "b", "c", score_chosen=1), r"'score_chosen' and 'score_rejected' are two numbers, not \[1, null\]"),
]


@pytest.mark.parametrize(("bad", "sentence"), BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_a_bad_line_is_refused_with_its_number_before_any_work(write, chat_of, bad, sentence):
    path = write([GOOD, bad, GOOD])
    with pytest.raises(UserError, match=sentence) as refused:
        PreferencePairs(path=path, chat=chat_of("qwen2"), seed=0)
    counted = (
        "1 of 3 lines are no preference pairs, and collector.max_bad_lines allows 0; the first: pairs.jsonl, line 2"
    )
    assert counted in str(refused.value)
    found = PreferencePairs(path=path, chat=chat_of("qwen2"), seed=0, pairs=2, max_bad_lines=1)
    assert found.notes()[0].startswith("pairs.jsonl: 1 lines are left out; the first: pairs.jsonl, line 2")
    assert sides(found.collect(found.draw(0))) == [(["b"], ["c"])] * 2


def test_files_that_hold_no_pairs_are_refused(write, chat_of, tmp_path):
    make = functools.partial(PreferencePairs, chat=chat_of("qwen2"), seed=0)
    with pytest.raises(UserError, match="holds no preference pairs; give one JSON object a line"):
        make(path=write([""]))
    with pytest.raises(UserError, match=r"There is no file of preference pairs .*missing"):
        make(path=str(tmp_path / "missing.jsonl"))
    with pytest.raises(UserError, match="1 of 2 pairs have 'score_chosen' and 'score_rejected'; give them for all"):
        make(path=write([GOOD, {**GOOD, "score_chosen": 1, "score_rejected": 0}]))
    assert make(path=write([GOOD], "pairs.jsonl.gz"), pairs=1).draw(0)[0].member == 0
    with pytest.raises(UserError, match="1 of 1 lines are no demonstrations"):
        Demonstrations(path=write([GOOD]), chat=chat_of("qwen2"), seed=0)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pairs": 0}, "collector.pairs is at least 1, not 0"),
        ({"max_tokens": 0}, "max_tokens is at least 1, not 0"),
        ({"max_bad_lines": -1}, "max_bad_lines is at least 0, not -1"),
    ],
)
def test_impossible_settings_are_refused(write, chat_of, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        PreferencePairs(path=write([GOOD]), chat=chat_of("qwen2"), seed=0, **settings)


def test_a_model_learns_what_the_file_prefers(write, toy_folder):
    # Fails when the sides are exchanged on the way, or the gradient is carried to other tokens.
    folder = toy_folder("qwen2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = ChatFormat(AutoTokenizer.from_pretrained(folder), ends=model.generation_config.eos_token_id)
    rows = [pair(f"You are at row {n % 4} column {n // 4}.", "LEFT", "RIGHT") for n in range(12)]
    found = PreferencePairs(path=write(rows[:8]), chat=chat, seed=0, pairs=4, positions=1024)
    loss = over_tokens(weighted_dpo, beta=0.5, reference_free=True)
    learner = Learner(
        model,
        loss=loss,
        loss_needs=("episode_of_token", "chosen", "rejected", "pair_weight"),
        mergeable=False,
        optimizer=AdamW(learning_rate=5e-3, clip_norm=1.0),
        seed=0,
        row_tokens=400,
    )

    def odds(row):
        scored = [
            Scorer(model).score(
                *zip(chat.turn([said("user", row["prompt"]), said("assistant", row[side])]), strict=True)
            )
            for side in ("chosen", "rejected")
        ]
        return float(scored[0]["logprob"].sum() - scored[1]["logprob"].sum())

    def held_out():
        with torch.no_grad():
            return np.mean([odds(row) for row in rows[8:]])

    before, losses = held_out(), []
    for iteration in range(12):
        batch = found.collect(found.draw(iteration)).batch
        batch = batch.with_columns(policy_version=np.full(batch.num_steps, learner.version))
        pairs = by_return(batch)
        given = {"chosen": pairs.chosen, "rejected": pairs.rejected, "pair_weight": pairs.weight}
        losses.append(
            learner.update(batch, np.zeros(batch.num_tokens), np.ones(batch.num_tokens), given=given)["update/loss"]
        )
    assert held_out() > before + 2.0
    assert losses[-1] < 0.5 * losses[0]

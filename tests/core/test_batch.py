import dataclasses
import pickle

import numpy as np
import pytest

from lapwing.core.batch import SCHEMA_VERSION, EpisodeBatch, merged_reward
from lapwing.core.errors import LapwingError
from lapwing.core.types import Answer, Decision, Episode, Malformed, Step, ToolCall
from lapwing.games.frozen_lake import FrozenLake
from lapwing.testing import episodes


def step(context, token, *, extends=0, reward=0.0, domain_reward=0.0, valid=True, parts=None, keys=(1, 2, 3)):
    decision = Decision(
        action="up" if valid else None,
        valid=valid,
        text="",
        context=np.array(context, dtype=np.int32),
        token=np.array(token, dtype=np.int32),
        logprob=-np.arange(1.0, len(token) + 1),
        extends=extends,
    )
    return Step(decision, "up", None, *keys, reward, domain_reward, parts or {})


@pytest.fixture
def played(make_match):
    """A transcript of two steps that was cut, a lone step, and a step without tokens, in two groups."""
    transcript = [
        step([5, 6], [7, 8], reward=-1.0, domain_reward=0.0, valid=False, keys=(11, 0, 12)),
        step([5, 6, 7, 8, 9], [10], extends=4, reward=2.0, domain_reward=2.0, parts={"apples": 1.0}, keys=(12, 1, 13)),
    ]
    lone = [step([4], [3], reward=1.0, domain_reward=1.0)]
    silent = [step([2, 2], []), step([1], [1, 1, 1], parts={"deaths": 1.0})]
    final = np.array([5, 6, 7, 8, 9, 10, 1], dtype=np.int32)
    return [
        Episode(make_match(group=4), 0, transcript, False, True, 0.5, None, final, 3),
        Episode(make_match(group=2), 1, lone, True, False, 0.0, True, None, 3),
        Episode(make_match(group=4, member=1), 0, silent, True, False, 0.0, False, None, 2),
    ]


def test_a_group_over_two_games_is_refused(played):
    other = dataclasses.replace(played[2].match, game=FrozenLake(map_name="8x8"))
    played[2] = dataclasses.replace(played[2], match=other)
    with pytest.raises(LapwingError, match="Group 4 of iteration 0 holds episodes of two games"):
        EpisodeBatch.pack(played)


def test_packing_lays_episodes_end_to_end(played):
    batch = EpisodeBatch.pack(played)
    assert batch.step_splits.tolist() == [0, 2, 3, 5]
    assert batch.token_splits.tolist() == [0, 2, 3, 4, 4, 7]
    assert batch.token.tolist() == [7, 8, 10, 3, 1, 1, 1]
    assert batch.sampler_logprob.tolist() == [-1.0, -2.0, -1.0, -1.0, -1.0, -2.0, -3.0]
    assert batch.behavior_logprob.tolist() == batch.sampler_logprob.tolist()
    assert batch.reward.tolist() == [-1.0, 2.0, 1.0, 0.0, 0.0]
    assert batch.column("domain_reward").tolist() == [0.0, 2.0, 1.0, 0.0, 0.0]
    assert batch.episode_return.tolist() == [1.5, 1.0, 0.0]
    assert batch.episode_length.tolist() == [2, 1, 2]
    assert batch.terminated.tolist() == [False, True, True]
    assert batch.truncated.tolist() == [True, False, False]
    assert batch.player.tolist() == [0, 1, 0]
    assert batch.policy_version.tolist() == [3, 3, 3, 2, 2]
    assert batch.valid.tolist() == [False, True, True, True, True]
    assert batch.view_key.tolist() == [11, 12, 1, 1, 1]
    assert batch.action_key.tolist() == [0, 1, 2, 2, 2]
    assert batch.next_view_key.tolist() == [12, 13, 3, 3, 3]
    assert batch.episode_of_step.tolist() == [0, 0, 1, 2, 2]
    assert batch.step_of_token.tolist() == [0, 0, 1, 2, 4, 4, 4]
    np.testing.assert_array_equal(batch.column("success"), [np.nan, 1.0, 0.0])
    assert batch.column("part:apples").tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert batch.column("part:deaths").tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_spans_and_switches_become_columns_where_every_decision_tells_them(played):
    # 2 + 1, 1 and 0 + 3 tokens; the first step of an episode switches, whatever its reply says.
    decisions = [step.decision for episode in played for step in episode.steps]
    for decision in decisions:
        decision.span = np.arange(len(decision.token), dtype=np.int8)
        decision.switch = False
    decisions[-1].switch = True
    batch = EpisodeBatch.pack(played)
    assert batch.column("span").tolist() == [0, 1, 0, 0, 0, 1, 2]
    assert batch.column("switch").tolist() == [True, False, True, True, True]
    decisions[-1].switch = False
    assert EpisodeBatch.pack(played).column("switch").tolist() == [True, False, True, True, False]
    decisions[1].span = None
    decisions[2].switch = None
    assert not {"span", "switch"} & set(EpisodeBatch.pack(played).extra)


def spoken(make_match, *actions, costs=()):
    """An episode of these actions, the first of which had a cost."""
    steps = [dataclasses.replace(step([1], [2]), action=action) for action in actions]
    for one, cost in zip(steps, costs, strict=False):
        one.parts = {"tool_cost": cost}
    return Episode(make_match(), 0, steps, True, False, 0.0, None, None, 0)


def test_dialogues_with_tools_tell_their_calls_costs_and_answers(make_match):
    call = ToolCall("search", '"x"')
    batch = EpisodeBatch.pack(
        [
            spoken(make_match, call, Malformed("why"), call, Answer("Paris"), costs=[0.25, 0.5]),
            spoken(make_match, Answer(" PARIS\n")),
            spoken(make_match, Answer("pa ris")),
            spoken(make_match, Answer(" ")),
            spoken(make_match, call, call),  # the last call came too late to be answered
            spoken(make_match, Malformed("why")),
            spoken(make_match, None),  # forfeited
            spoken(make_match, Answer("\ud800")),
        ]
    )
    assert batch.column("tool_calls").tolist() == [2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    assert batch.column("tool_cost").tolist() == [0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    key = batch.column("answer_key")
    assert key.dtype == np.uint64
    # Case and blanks around it do not make another answer; blanks within do. Nothing is 0, which never matches.
    assert key[0] == key[1] != key[2]
    assert (key == 0).tolist() == [False, False, False, True, True, True, True, False]


def test_other_games_have_no_columns_of_tools(played):
    assert not {"tool_calls", "tool_cost", "answer_key"} & set(EpisodeBatch.pack(played).extra)


def test_a_game_that_announces_calls_has_the_columns_without_any(make_match):
    @dataclasses.dataclass(frozen=True)
    class Talk(FrozenLake):
        PRODUCES = ("tool_calls", "tool_cost", "answer_key")

    forfeited = spoken(make_match, None)
    forfeited = dataclasses.replace(forfeited, match=make_match(game=Talk()))
    batch = EpisodeBatch.pack([forfeited])
    assert [batch.column(name).tolist() for name in Talk.PRODUCES] == [[0.0], [0.0], [0]]


def test_groups_and_matches_are_numbered_as_they_appear(played):
    # Fails when a group is named by its number alone, without the iteration that it belongs to.
    later = dataclasses.replace(played[1], match=dataclasses.replace(played[1].match, iteration=1))
    batch = EpisodeBatch.pack([*played, later, played[0]])
    assert batch.group.tolist() == [0, 1, 0, 2, 0]
    assert batch.match.tolist() == [0, 1, 2, 3, 0]


def test_a_transcript_is_stored_once_and_read_whole(played):
    # Fails when `added` is not cut off at `extends`, or the reply is left out on the way back.
    batch = EpisodeBatch.pack(played)
    assert batch.context_token.tolist() == [5, 6, 9, 4, 2, 2, 1]
    assert batch.extends_previous.tolist() == [False, True, False, False, False]
    steps = [s for episode in played for s in episode.steps]
    for n, one in enumerate(steps):
        assert batch.context(n).tolist() == one.decision.context.tolist()
    assert batch.final_context_token.tolist() == [5, 6, 7, 8, 9, 10, 1]
    assert batch.final_context_splits.tolist() == [0, 7, 7, 7]


def test_selecting_all_then_concatenating_gives_the_batch_back(played):
    batch = EpisodeBatch.pack(played)
    alone = [batch.select(np.array([e])) for e in range(3)]
    assert_same(EpisodeBatch.concatenate(alone), batch)
    assert_same(batch.select(np.ones(3, dtype=bool)), batch)


def test_selecting_takes_whole_episodes_in_the_given_order(played):
    # Fails when any axis is cut with the index of another.
    batch = EpisodeBatch.pack(played)
    chosen = batch.select(np.array([2, 0]))
    assert_same(chosen, EpisodeBatch.concatenate([batch.select(np.array([2])), batch.select(np.array([0]))]))
    assert chosen.token.tolist() == [1, 1, 1, 7, 8, 10]
    assert chosen.context(3).tolist() == [5, 6, 7, 8, 9]
    assert chosen.group.tolist() == [0, 0]
    assert chosen.column("part:deaths").tolist() == [0.0, 1.0, 0.0, 0.0]
    assert_same(batch.select(np.array([False, True, False])), batch.select(np.array([1])))


def test_nothing_selected_is_an_empty_batch(played):
    empty = EpisodeBatch.pack(played).select(np.zeros(3, dtype=bool))
    assert (empty.num_episodes, empty.num_steps, empty.num_tokens) == (0, 0, 0)
    assert empty.episode_return.tolist() == []


def test_batches_with_different_columns_are_not_concatenated(played):
    batch = EpisodeBatch.pack(played)
    with pytest.raises(LapwingError, match="different columns"):
        EpisodeBatch.concatenate([batch, batch.with_columns(value=np.zeros(5))])
    with pytest.raises(LapwingError, match="no batch"):
        EpisodeBatch.concatenate([])


def test_columns_are_added_and_replaced_as_copies(played):
    batch = EpisodeBatch.pack(played)
    value = np.arange(5.0)
    more = batch.with_columns(value=value, reward=np.ones(5))
    value[0] = 99.0  # the caller's array stays the caller's
    assert more.column("value").tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert more.reward.tolist() == [1.0] * 5
    assert batch.reward.tolist() == [-1.0, 2.0, 1.0, 0.0, 0.0]
    assert "value" not in batch.extra


def test_a_column_of_the_wrong_length_is_refused(played):
    batch = EpisodeBatch.pack(played)
    with pytest.raises(LapwingError, match="Column 'value' has length 4, the batch needs 5"):
        batch.with_columns(value=np.zeros(4))
    with pytest.raises(LapwingError, match="Column 'token' has length 6, the batch needs 7"):
        batch.with_columns(token=np.zeros(6, dtype=np.int32))


def test_a_missing_column_names_who_supplies_it_and_an_unknown_one_is_refused(played):
    batch = EpisodeBatch.pack(played)
    with pytest.raises(KeyError, match="no column 'value'; annotate/value supplies it"):
        batch.column("value")
    with pytest.raises(KeyError, match="no column 'part:bananas'; rollout/play supplies it"):
        batch.column("part:bananas")
    with pytest.raises(LapwingError, match="No column is called 'valeu'"):
        batch.column("valeu")
    with pytest.raises(LapwingError, match="No column is called 'valeu'"):
        batch.with_columns(valeu=np.zeros(5))


def test_nothing_in_a_batch_can_be_written(played):
    batch = EpisodeBatch.pack(played).with_columns(value=np.zeros(5))
    for name in [field.name for field in dataclasses.fields(batch) if field.name != "extra"] + list(batch.extra):
        with pytest.raises(ValueError, match="read-only"):
            batch.column(name)[...] = 0
    with pytest.raises(TypeError):
        batch.extra["value"] = np.zeros(5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.reward = np.zeros(5)


def test_a_saved_batch_is_the_same_after_loading(played, tmp_path):
    batch = EpisodeBatch.pack(played).with_columns(value=np.arange(5.0))
    batch.save(tmp_path / "batch.npz")
    loaded = EpisodeBatch.load(tmp_path / "batch.npz")
    assert_same(loaded, batch)
    assert loaded.view_key.dtype == np.uint64
    assert loaded.token.dtype == np.int32


def test_a_pickle_is_refused(tmp_path):
    # Fails when the file is read with allow_pickle=True: pickles run code.
    path = tmp_path / "batch.npz"
    path.write_bytes(pickle.dumps({"reward": 1}))
    with pytest.raises(ValueError, match="pickle"):
        EpisodeBatch.load(path)
    with path.open("wb") as file:
        np.savez(file, reward=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        EpisodeBatch.load(path)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, None])
def test_a_file_of_another_schema_version_is_refused(played, tmp_path, version):
    path = tmp_path / "batch.npz"
    EpisodeBatch.pack(played).save(path)
    with np.load(path) as data:
        arrays = dict(data)
    arrays.pop("schema_version")
    if version is not None:
        arrays["schema_version"] = np.array(version)
    np.savez(path, **arrays)
    with pytest.raises(LapwingError, match="schema version"):
        EpisodeBatch.load(path)


def test_an_episode_without_steps_is_refused():
    with pytest.raises(LapwingError, match="at least one step"):
        episodes([[1.0], []])
    with pytest.raises(LapwingError, match="no episodes"):
        EpisodeBatch.pack([])


def test_a_number_per_step_is_spread_over_its_tokens(played):
    batch = EpisodeBatch.pack(played)
    assert batch.spread(np.array([1.0, 2.0, 3.0, 4.0, 5.0])).tolist() == [1, 1, 2, 3, 5, 5, 5]


def test_the_outcome_joins_the_last_reward():
    batch = episodes([[1, 2], [3]], outcome=[10, 20])
    #   [1, 2 + 10], [3 + 20]
    assert merged_reward(batch).tolist() == [1, 12, 23]
    assert batch.reward.tolist() == [1, 2, 3]


def test_the_testing_helper_fills_every_axis():
    batch = episodes(
        [[0, 1], [2]],
        group=[3, 4],
        truncated=[True, False],
        tokens_per_step=[[2, 0], [1]],
        value=[[0.1, 0.2], [0.3]],
        final_value=[9, 8],
        token_entropy=[[[1, 2], []], [[3]]],
        sampler_logprob=[[[-1, -2], []], [[-3]]],
        valid=[[True, False], [True]],
        player=[0, 1],
    )
    assert batch.token_splits.tolist() == [0, 2, 2, 3]
    assert batch.terminated.tolist() == [False, True]
    assert batch.column("value").tolist() == [0.1, 0.2, 0.3]
    assert batch.column("final_value").tolist() == [9, 8]
    assert batch.column("token_entropy").tolist() == [1, 2, 3]
    assert batch.sampler_logprob.tolist() == [-1, -2, -3]
    assert batch.valid.tolist() == [True, False, True]
    assert batch.player.tolist() == [0, 1]
    plain = episodes([[0], [1]])
    assert plain.terminated.all()
    assert not plain.truncated.any()
    assert plain.group.tolist() == [0, 0]
    assert plain.num_tokens == 2


def assert_same(one, other):
    names = [field.name for field in dataclasses.fields(one) if field.name != "extra"]
    assert set(one.extra) == set(other.extra)
    for name in [*names, *one.extra]:
        np.testing.assert_array_equal(one.column(name), other.column(name), err_msg=name)

"""Transcripts are read as they were meant, and what is wrong with a file is said in one sentence."""

import gzip
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError
from lapwing.core.storage import key_of
from lapwing.credit.gigpo import gigpo
from lapwing.evaluation.transcripts import FORMATS, read_transcripts
from lapwing.evaluation.transcripts.builder import SHOWN_EPISODES, SHOWN_STEPS
from lapwing.evaluation.transcripts.keys import json_key
from lapwing.policies.baselines import Random
from lapwing.rollout.play import play
from lapwing.training.run_folder import RunFolder

TWO = {"group": 3, "steps": [{"view": "a", "action": "x", "reward": 0}, {"view": "b", "action": "y", "reward": 1.0}]}
ONE = {"group": 3, "steps": [{"view": "a", "action": "z", "reward": 0.5}]}


@pytest.fixture
def read(tmp_path):
    """Write rows, one a line, and read them."""

    def write_and_read(*rows, name="file.jsonl", **settings):
        path = tmp_path / name
        path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), "utf-8")
        return read_transcripts(path, **settings)

    return write_and_read


def step(**fields):
    return {"view": "a", "action": "x", "reward": 0.0, **fields}


def episode(*steps, **fields):
    return {"group": 0, "steps": list(steps) or [step()], **fields}


def chat(*texts, rewards=()):
    """Messages that begin with the assistant and alternate."""
    messages = [{"role": ("assistant", "user")[at % 2], "content": text} for at, text in enumerate(texts)]
    for message, reward in zip(messages[::2], rewards, strict=False):
        message["reward"] = reward
    return messages


# ---------------------------------------------------------------------------------------------------------------------
# Our own format.


def test_two_episodes_by_hand(read):
    batch = read(TWO, {**ONE, "outcome": 2}).batch
    np.testing.assert_array_equal(batch.step_splits, [0, 2, 3])
    np.testing.assert_array_equal(batch.reward, [0, 1, 0.5])
    np.testing.assert_array_equal(batch.outcome, [0, 2])
    np.testing.assert_array_equal(batch.group, [0, 0])
    np.testing.assert_array_equal(batch.terminated, [True, True])
    np.testing.assert_array_equal(batch.view_key, [key_of("a"), key_of("b"), key_of("a")])
    np.testing.assert_array_equal(batch.action_key, [key_of("x"), key_of("y"), key_of("z")])
    # A step leads to the view of the next; all ends are one state.
    assert batch.next_view_key[0] == key_of("b")
    assert batch.next_view_key[1] == batch.next_view_key[2] not in (0, key_of("a"), key_of("b"))
    np.testing.assert_array_equal(batch.token_splits, [0, 1, 2, 3])


def test_episodes_of_a_run_come_back_as_they_were_played(tmp_path, make_match):
    matches = [make_match(iteration=i, group=g, member=m) for i in (0, 1) for g in (0, 1) for m in range(5)]
    episodes = play(matches, {0: Random()})
    folder = RunFolder.create(tmp_path / "run", {"name": "a"}, {})
    folder.write_episodes("main-000001", episodes[:10])
    folder.write_episodes("main-000010", episodes[10:])
    packed = EpisodeBatch.pack(episodes)
    found = read_transcripts(tmp_path / "run")
    for name in ("step_splits", "reward", "outcome", "group", "terminated", "truncated", "view_key", "valid"):
        np.testing.assert_array_equal(getattr(found.batch, name), getattr(packed, name), err_msg=name)
    for name in ("next_view_key", "token", "token_splits", "sampler_logprob"):
        np.testing.assert_array_equal(getattr(found.batch, name), getattr(packed, name), err_msg=name)
    np.testing.assert_array_equal(found.batch.column("success"), packed.column("success"))
    np.testing.assert_allclose(gigpo(found.batch), gigpo(packed))
    assert found.identifiers[0] == "train/0/0/0"
    assert found.groups == ["train/0/0", "train/0/1", "train/1/0", "train/1/1"]
    assert read_transcripts(tmp_path / "run" / "episodes").groups == found.groups


def test_files_of_a_folder_are_read_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 100):
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(episode(group=str(number))))
    (tmp_path / "notes.txt").write_text("no JSON")
    assert read_transcripts(tmp_path).groups == ["9", "10", "100"]


def test_columns_and_tokens_are_taken_where_they_are(read):
    first = step(value=0.5, token=[4, 5], sampler_logprob=[-1, -2.5], token_value=[1, 2], span=[1, 4], switch=False)
    second = step(value=1, token=[], sampler_logprob=[], token_value=[], span=[], switch=False)
    row = episode(first, second, success=True, final_value=2.0, tool_calls=3, answer_key="42", truncated=True)
    found = read(row, episode(first, group=1))
    batch = found.batch
    np.testing.assert_array_equal(batch.token_splits, [0, 2, 2, 4])
    np.testing.assert_array_equal(batch.sampler_logprob, [-1, -2.5, -1, -2.5])
    np.testing.assert_array_equal(batch.column("value"), [0.5, 1, 0.5])
    np.testing.assert_array_equal(batch.column("token_value"), [1, 2, 1, 2])
    np.testing.assert_array_equal(batch.column("span"), [1, 4, 1, 4])
    # The first step of an episode begins a plan, whatever the file says.
    np.testing.assert_array_equal(batch.column("switch"), [True, False, True])
    np.testing.assert_array_equal(batch.column("success"), [1, np.nan])
    np.testing.assert_array_equal(batch.column("final_value"), [2, np.nan])
    np.testing.assert_array_equal(batch.column("answer_key"), np.array([key_of("42"), 0], dtype=np.uint64))
    assert not any("tokens" in note for note in found.notes)


def test_columns_that_nobody_gives_are_not_there(read):
    assert set(read(episode(success=None)).batch.extra) == set()


def test_the_end_is_told_by_either_flag(read):
    batch = read(
        episode(group=0, truncated=True),
        episode(group=1, terminated=False),
        episode(group=2, terminated=True, truncated=True),
        episode(group=3),
    ).batch
    np.testing.assert_array_equal(batch.truncated, [True, True, True, False])
    np.testing.assert_array_equal(batch.terminated, [False, False, True, True])


def test_where_a_cut_episode_ended_is_not_known_unless_it_is_said(read):
    rows = [episode(truncated=True), episode(truncated=True, final_view={"z": 1, "a": 2}), episode(step(next_view="n"))]
    np.testing.assert_array_equal(
        read(*rows).batch.next_view_key, np.array([0, key_of({"a": 2, "z": 1}), key_of("n")], dtype=np.uint64)
    )


def test_steps_without_view_or_valid_action_match_nothing(read):
    found = read(episode(step(view=None), step(valid=False), {"view": 1, "reply": "r", "reward": 0}))
    np.testing.assert_array_equal(found.batch.view_key == 0, [True, False, False])
    np.testing.assert_array_equal(found.batch.action_key == 0, [False, True, False])
    assert [note for note in found.notes if "no view" in note] == ["1 of 3 steps have no view and match no other step."]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_a_view_has_the_key_that_it_had_in_play(value):
    assert json_key(value, "") == key_of(value)


# ---------------------------------------------------------------------------------------------------------------------
# Files.


def test_a_file_may_have_a_bom_crlf_empty_lines_and_be_gzipped(tmp_path):
    lines = [b"\xef\xbb\xbf" + json.dumps(TWO).encode(), b"", b"   ", json.dumps(ONE).encode(), b""]
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    plain.write_bytes(b"\r\n".join(lines))
    packed.write_bytes(gzip.compress(b"\n".join(lines), mtime=0))
    for path in (plain, packed):
        found = read_transcripts(path)
        assert found.batch.num_steps == 3
        # Lines are counted as an editor counts them.
        assert found.identifiers == [f"{path.name}, line 1", f"{path.name}, line 4"]


def test_a_file_without_a_last_newline_is_whole(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(TWO) + "\n" + json.dumps(ONE))
    assert read_transcripts(path).batch.num_episodes == 2


# F54. Fails when an error of the JSON reader or of zlib comes through.
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no episodes"),
        (b"\n \r\n\n", "holds no episodes"),
        (b"{}", "line 1 is of no known format: it is empty"),
        (b"[1]\n", "line 1 is no JSON object but [1]"),
        (b"\n{oh", "line 2 is not JSON (Expecting property name enclosed in double quotes at column 2)"),
        (b"\xff\xfe{\x00", "line 1 is not UTF-8 text at byte 1"),
        (b"9" * 5000, "line 1 is not JSON"),
        (b"[" * 100_000, "line 1 is nested too deeply"),
        (gzip.compress(json.dumps(TWO).encode() * 50, mtime=0)[:-20], "could not be read after line"),
        (b"\x1f\x8bnonsense", "could not be read after line 0"),
        (b"PAR1\x15\x04", "is a Parquet file; write it as JSONL first"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_file_that_is_none_is_refused_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "file.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_transcripts(path)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file or folder"):
        read_transcripts(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no file \*\.jsonl"):
        read_transcripts(tmp_path)
    (tmp_path / "recipe.toml").touch()
    (tmp_path / "metrics.jsonl").write_text("{}")
    with pytest.raises(UserError, match="episodes holds no file"):
        read_transcripts(tmp_path)


WRONG = {
    "no reward": (episode(step(reward=None)), "line 1, step 1 has no 'reward'"),
    "no group": (episode(group=None), "line 1 has no 'group'"),
    "reward is a text": (episode(step(reward="1")), "line 1, step 1: 'reward' is a number, not \"1\""),
    "reward is a flag": (episode(step(reward=True)), "'reward' is a number, not true"),
    "reward is NaN": (episode(step(), step(reward=float("nan"))), "line 1, step 2: 'reward' is NaN"),
    "reward is infinite": ('{"group": 0, "steps": [{"reward": 1e999}]}', "'reward' is Infinity"),
    "reward is huge": (episode(step(reward=10**400)), "'reward' is 1000"),
    "reward is too large for its square": (episode(step(reward=-1e200)), "'reward' is -1e+200; give a finite number"),
    "outcome is NaN": (episode(outcome=float("nan")), "line 1: 'outcome' is NaN; give a finite number"),
    "value is a text": (episode(step(value="high")), "'value' is a number, not \"high\""),
    "no steps": (episode() | {"steps": []}, "'steps' is a list of at least one step, not []"),
    "a step is a number": (episode(3), "line 1, step 1 is no object but 3"),
    "truncated is a number": (episode(truncated=1), "'truncated' is true or false, not 1"),
    "valid is a text": (episode(step(valid="no")), "'valid' is true or false"),
    "tokens are floats": (episode(step(token=[1.5])), "'tokens' is a list of token ids, not [1.5]"),
    "tokens are a number": (episode(step(token=7)), "'tokens' is a list of token ids, not 7"),
    "a token is huge": (episode(step(token=[2**40])), "'tokens' is a list of token ids"),
    "spans are negative": (episode(step(span=[-1])), "'span' is a list of whole numbers"),
    "ragged lists": (
        episode(step(token=[1, 2], sampler_logprob=[-1.0])),
        "line 1, step 1: the reply has 2 in 'tokens', 1 in 'logprobs'",
    ),
    "a column in some steps": (
        episode(step(value=1), step()),
        "line 1, step 2 has no 'value', but file.jsonl, line 1, step 1 has; give it in every step, or in none",
    ),
    "the return is another": (
        episode(step(reward=1), outcome=1) | {"return": 1},
        "line 1: 'return' is 1, but rewards and outcome add up to 2",
    ),
}


@pytest.mark.parametrize(("row", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_row_is_refused_with_its_line_and_field(read, row, sentence):
    with pytest.raises(UserError) as error:
        read(row)
    assert sentence in str(error.value)
    assert str(error.value).startswith("file.jsonl, line 1")
    assert len(str(error.value).splitlines()) == 1


def test_a_column_that_begins_later_is_refused_too(read):
    with pytest.raises(UserError, match=r"line 1, step 1 has no 'value', but file.jsonl, line 2, step 1 has"):
        read(episode(), episode(step(value=1)))


def test_a_group_of_two_games_is_refused(read):
    with pytest.raises(UserError) as error:
        read({**TWO, "game": "lake"}, {**ONE, "game": "lake"}, {**ONE, "game": "snake"})
    assert str(error.value).startswith(
        'file.jsonl, line 3: group 3 holds episodes of two games, "lake" (file.jsonl, line 1) and "snake"'
    )


def test_an_episode_that_is_there_twice_is_refused(read):
    with pytest.raises(UserError, match=r'line 3: the episode "a" is there already, file.jsonl, line 1'):
        read({**TWO, "id": "a"}, {**TWO, "id": "b"}, {**ONE, "id": "a"})


def test_both_players_of_a_match_are_no_duplicates(read):
    rows = [{**TWO, "match": "train/0/0/0", "player": player} for player in (0, 1)]
    assert read(*rows).identifiers == ["train/0/0/0", "train/0/0/0 player 1"]


def test_groups_of_one_are_counted(read):
    assert "1 of 2 groups hold one episode" in read(TWO, ONE, {**ONE, "group": 4}).notes[0]
    assert read(TWO, {**ONE, "group": 4}).notes[0].startswith("Every group holds one episode")


def test_what_a_file_holds_cannot_steer_the_terminal(read):
    with pytest.raises(UserError) as error:
        read(episode(step(reward="\x1b[2J\u202e")))
    assert str(error.value).isprintable()
    assert "\\u001b" in str(error.value)


def test_only_numbers_are_kept_of_most_episodes(read, tmp_path):
    row = json.dumps(episode(*[step(view="v" * 2000, reply="r" * 2000, action=f"{n}") for n in range(10)]))
    rows = [row + "\n"] * 1000
    (tmp_path / "big.jsonl").write_text("".join(rows))
    tracemalloc.start()
    try:
        found = read_transcripts(tmp_path / "big.jsonl")
        assert tracemalloc.get_traced_memory()[1] < len(row) * len(rows) / 5
    finally:
        tracemalloc.stop()
    assert found.batch.num_steps == 10_000
    assert len(found.shown) == SHOWN_EPISODES
    assert len(found.shown[0].steps[0].view) < 1600


def test_an_episode_that_is_too_long_to_show_is_cut(read):
    found = read(episode(*[step()] * (SHOWN_STEPS + 5)), episode())
    assert [len(one.steps) for one in found.shown] == [SHOWN_STEPS]
    assert found.batch.num_steps == SHOWN_STEPS + 6


# ---------------------------------------------------------------------------------------------------------------------
# TRL.


def test_a_log_of_trl_is_grouped_by_prompt_and_step(read):
    rows = [
        {"step": step, "prompt": prompt, "completion": text, "accuracy_reward": right, "format_reward": 0.5}
        for step, prompt, text, right in [
            ("1", "p", "x", 1),
            ("1", "p", "y", 0),
            ("1", "q", "x", 0),
            ("2", "p", "x", 1),
        ]
    ]
    found = read(*rows)
    assert found.form == "trl"
    np.testing.assert_array_equal(found.batch.group, [0, 0, 1, 2])
    np.testing.assert_array_equal(found.batch.outcome, [1.5, 0.5, 0.5, 1.5])
    np.testing.assert_array_equal(found.batch.reward, 0)
    assert any('the sum "accuracy_reward+format_reward", each with weight 1' in note for note in found.notes)
    # The same prompt is the same view, also in another group.
    np.testing.assert_array_equal(found.batch.view_key[[0, 1, 3]], found.batch.view_key[0])
    np.testing.assert_array_equal(found.batch.action_key[[0, 2, 3]], found.batch.action_key[0])
    assert found.batch.action_key[1] != found.batch.action_key[0]


def test_a_reward_function_that_does_not_judge_a_row_counts_as_zero(read):
    rows = [{"prompt": "p", "completion": "x", "a_reward": 1, "b_reward": given} for given in (None, 2)]
    np.testing.assert_array_equal(read(*rows).batch.outcome, [1, 3])


def test_rewards_with_other_names_must_be_named(read):
    row = {"prompt": "p", "completion": "x", "accuracy": 1, "style": 2, "advantage": 9, "step": 4}
    with pytest.raises(UserError) as error:
        read(row)
    assert "--map reward=…" in str(error.value)
    assert "accuracy, advantage, step, style" in str(error.value)
    np.testing.assert_array_equal(read(row, mapping=["reward=accuracy+style"]).batch.outcome, [3])


# ---------------------------------------------------------------------------------------------------------------------
# verl.


def test_a_dump_of_verl_is_one_step_a_row(read):
    rows = [{"input": "p", "output": out, "gts": None, "score": s, "step": 7} for out, s in (("x", 1.0), ("y", 0.0))]
    found = read(*rows)
    assert (found.form, found.groups, found.batch.num_steps) == ("verl", ['[7, "p"]'], 2)
    np.testing.assert_array_equal(found.batch.outcome, [1, 0])


def test_the_uid_tells_groups_if_it_is_there(read):
    rows = [{"input": "p", "output": "x", "score": 1.0, "step": 7, "uid": uid} for uid in ("a", "a", "b")]
    np.testing.assert_array_equal(read(*rows).batch.group, [0, 0, 1])


def test_a_data_source_is_a_game(read):
    rows = [{"input": "p", "output": "x", "score": 1.0, "uid": "u", "data_source": name} for name in ("gsm8k", "math")]
    with pytest.raises(UserError, match='group "u" holds episodes of two games, "gsm8k"'):
        read(*rows)


def test_messages_of_verl_are_split_into_steps(read):
    opening = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    row = {"messages": {"messages": [*opening, *chat("a", "o", "b")]}, "score": 2, "uid": "u"}
    found = read(row, mapping=["messages=messages.messages"], form="verl")
    assert found.batch.num_steps == 2
    assert found.shown[0].steps[0].view == "system: s\nuser: u"
    assert found.shown[0].steps[1].view == "user: o"


STEPS = [
    {"input": f"s{turn}", "output": f"a{turn}", "score": 1.0, "uid": "u", "traj_uid": one, "turn": turn, "r": 0.25}
    for turn in (1, 0)
    for one in ("A", "B")
]


def test_rows_that_are_steps_are_put_together_and_their_reward_counts_once(read):
    found = read(*STEPS, mapping=["turn=turn"])
    np.testing.assert_array_equal(found.batch.step_splits, [0, 2, 4])
    np.testing.assert_array_equal(found.batch.episode_return, [1, 1])
    np.testing.assert_array_equal(found.batch.reward, 0)
    # The file has them in reverse.
    assert [one.reply for one in found.shown[0].steps] == ["a0", "a1"]
    assert found.batch.next_view_key[0] == found.batch.view_key[1]
    assert found.identifiers == ["A", "B"]


def test_rows_that_are_steps_may_have_rewards_of_their_own(read):
    found = read(*STEPS, mapping=["step_reward=r"])
    np.testing.assert_array_equal(found.batch.reward, 0.25)
    np.testing.assert_array_equal(found.batch.outcome, 0.5)
    rows = [{name: value for name, value in row.items() if name != "score"} for row in STEPS]
    found = read(*rows, form="verl", mapping=["step_reward=r"])
    np.testing.assert_array_equal(found.batch.episode_return, 0.5)


def test_rows_of_one_episode_agree(read):
    with pytest.raises(
        UserError, match=r'line 2: the episode "A" has the reward 2.0 here and 1.0 in file.jsonl, line 1'
    ):
        read(STEPS[0], {**STEPS[0], "score": 2.0})
    with pytest.raises(UserError, match=r'the group of episode "A" is "v", but "u" in file.jsonl, line 1'):
        read(STEPS[0], {**STEPS[0], "uid": "v"})


# ---------------------------------------------------------------------------------------------------------------------
# verifiers, and chats of several turns.


def rollout(*texts, rewards=(), **fields):
    prompt = [{"role": "system", "content": "rules"}, {"role": "user", "content": "go"}]
    return {"example_id": 0, "prompt": prompt, "completion": chat(*texts, rewards=rewards), "reward": 1.0, **fields}


def test_assistant_messages_are_steps_and_what_came_between_is_the_view(read):
    found = read(rollout("a", "o1", "b", "o2", "c"), rollout("a", "o1", "c", reward=0.0, is_truncated=True))
    assert found.form == "verifiers"
    batch = found.batch
    np.testing.assert_array_equal(batch.step_splits, [0, 3, 5])
    assert [one.view for one in found.shown[0].steps] == ["system: rules\nuser: go", "user: o1", "user: o2"]
    assert [one.reply for one in found.shown[0].steps] == ["a", "b", "c"]
    np.testing.assert_array_equal(batch.view_key[[0, 1]], batch.view_key[[3, 4]])
    np.testing.assert_array_equal(batch.action_key[[0, 2]], batch.action_key[[3, 4]])
    assert batch.next_view_key[0] == batch.view_key[1]
    np.testing.assert_array_equal(batch.outcome, [1, 0])
    np.testing.assert_array_equal(batch.truncated, [False, True])


def test_with_history_only_what_was_said_alike_from_the_start_is_one_view(read):
    rows = [rollout("a", "same", "b"), rollout("z", "same", "b")]
    last, history = read(*rows).batch.view_key, read(*rows, views="history").batch.view_key
    assert last[1] == last[3]
    assert history[0] == history[2]
    assert history[1] != history[3]
    again = read(rollout("a", "same", "b"), rollout("a", "same", "c"), views="history").batch.view_key
    assert again[1] == again[3]


def test_a_reply_to_nothing_new_matches_no_other(read):
    row = rollout("a")
    row["completion"] += [{"role": "assistant", "content": "again"}]
    np.testing.assert_array_equal(read(row).batch.view_key == 0, [False, True])


def test_a_tool_call_is_its_name_and_arguments(read):
    def call(identity, arguments, as_text):
        made = {"id": identity, "type": "function", "function": {"name": "look", "arguments": arguments}}
        return rollout() | {
            "completion": [
                {"role": "assistant", "content": None, "tool_calls": [json.dumps(made) if as_text else made]},
                {"role": "tool", "content": "seen", "tool_call_id": identity},
                {"role": "assistant", "content": "done"},
            ]
        }

    batch = read(
        call("1", '{"x": 1, "y": 2}', True), call("2", '{"y":2,"x":1}', False), call("3", '{"x": 3}', True)
    ).batch
    first = batch.action_key[[0, 2, 4]]
    assert first[0] == first[1] != first[2]
    # The id of a call, which is new each time, is no part of what was seen.
    np.testing.assert_array_equal(batch.view_key[[1, 3, 5]], batch.view_key[1])


def test_a_call_without_a_name_is_told_by_all_but_its_id(read):
    rows = [
        rollout() | {"completion": [{"role": "assistant", "tool_calls": [{"id": i, "x": x}]}]}
        for i, x in enumerate("aab")
    ]
    key = read(*rows).batch.action_key
    assert key[0] == key[1] != key[2]


def test_rewards_of_messages_are_rewards_of_steps_and_the_rest_is_the_outcome(read):
    found = read(rollout("a", "o", "b", rewards=(0.25, 0.5)), rollout("a", "o", "b", rewards=(0.5, 0.5)))
    np.testing.assert_array_equal(found.batch.reward, [0.25, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.batch.outcome, [0.25, 0.0])
    np.testing.assert_array_equal(found.batch.episode_return, [1, 1])


def test_turn_rewards_may_be_a_list_of_the_row(read):
    np.testing.assert_array_equal(read(rollout("a", "o", "b", turn_rewards=[1, 2], reward=3)).batch.reward, [1, 2])
    with pytest.raises(UserError, match="'turn_rewards' has 1 numbers, but there are 2 steps"):
        read(rollout("a", "o", "b", turn_rewards=[1]))


def test_logprobs_tell_the_tokens(read):
    found = read(rollout("a", "o", "b", logprobs=[[-1, -2], [-3]]), rollout("a", logprobs=[-1, -2, -3]))
    np.testing.assert_array_equal(np.diff(found.batch.token_splits), [2, 1, 3])
    np.testing.assert_array_equal(found.batch.sampler_logprob, [-1, -2, -3, -1, -2, -3])
    with pytest.raises(UserError, match="'logprobs' holds one list of numbers for each of the 2 steps"):
        read(rollout("a", "o", "b", logprobs=[-1, -2, -3]))


def test_one_token_a_step_is_said_and_not_hidden(read):
    assert any("tells no tokens" in note for note in read(rollout("a long reply of many words")).notes)


def test_rollouts_that_broke_before_a_reply_are_counted(read):
    broken = {"example_id": 0, "prompt": "p", "completion": None, "reward": 0.0, "error": {"error": "Timeout"}}
    found = read(broken, rollout("a"), broken)
    assert found.batch.num_episodes == 1
    assert found.notes[-1] == (
        "2 rows with an error and no completion are left out: file.jsonl, line 1; file.jsonl, line 3."
    )
    with pytest.raises(UserError, match="every row has an error"):
        read(broken)


CHAT_WRONG = {
    "no assistant": (rollout() | {"completion": [{"role": "user", "content": "u"}]}, "no message of the assistant"),
    "no role": (rollout() | {"completion": [{"content": "u"}]}, "a message with a 'role' is needed"),
    "completion is a number": (rollout() | {"completion": 3}, "'completion' is a text or a list of messages, not 3"),
    "content is a number": (
        rollout() | {"completion": [{"role": "assistant", "content": 3}]},
        "a list of parts, not 3",
    ),
    "calls are a text": (
        rollout() | {"completion": [{"role": "assistant", "tool_calls": "x"}]},
        "'tool_calls' of a message is a list",
    ),
    "reward is NaN": (rollout("a", reward=float("nan")), "'reward' is NaN; give a finite number"),
    "reward of a message is a text": (rollout("a", rewards=["x"]), "line 1, step 1: 'reward' is a number"),
    "no reward": (rollout("a", reward=None), "has no reward in 'reward'"),
    "no group": (rollout("a", example_id=None, task="t"), "has no 'example_id or id' to tell the groups by"),
}


@pytest.mark.parametrize(("row", "sentence"), CHAT_WRONG.values(), ids=CHAT_WRONG)
def test_a_wrong_chat_is_refused_with_its_line(read, row, sentence):
    with pytest.raises(UserError) as error:
        read(row)
    assert sentence in str(error.value)
    assert str(error.value).startswith("file.jsonl, line 1")


# ---------------------------------------------------------------------------------------------------------------------
# Mapping.


def test_fields_are_found_where_the_map_says(read):
    row = {"who": {"uid": "g"}, "moves": [{"o": "v", "a": "x", "r": 1}], "a.b": "name"}
    mapping = ["group=who.uid", "steps=moves", "step.view=o", "step.action=a", "step.reward=r", "id=a.b"]
    found = read(row, form="lapwing", mapping=mapping)
    assert (found.groups, found.identifiers) == (["g"], ["name"])
    np.testing.assert_array_equal(found.batch.view_key, np.array([key_of("v")], dtype=np.uint64))
    assert read(row, form="lapwing", mapping=["group=who.uid+a.b", *mapping[1:]]).groups == ['["g", "name"]']


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ("group", "--map takes field=place"),
        ("group=", "--map takes field=place"),
        ("grup=uid", "lapwing has no field 'grup'; did you mean group?"),
        ("steps=a+b", "only group, game, episode, id, reward can be put together"),
        ("group=uid", "line 1 has no 'uid', where --map looks for the group"),
    ],
)
def test_a_wrong_map_is_refused(read, mapping, sentence):
    with pytest.raises(UserError) as error:
        read(TWO, mapping=[mapping])
    assert sentence in str(error.value)


def test_unknown_formats_and_views_are_refused(read):
    with pytest.raises(UserError, match="no format 'tlr'; did you mean trl"):
        read(TWO, form="tlr")
    with pytest.raises(UserError, match="no setting of views 'all'"):
        read(TWO, views="all")


# ---------------------------------------------------------------------------------------------------------------------
# Anything at all.

NAMES = st.sampled_from(
    [
        "group",
        "steps",
        "view",
        "action",
        "reply",
        "reward",
        "outcome",
        "terminated",
        "truncated",
        "token",
        "value",
        "sampler_logprob",
        "prompt",
        "completion",
        "messages",
        "role",
        "content",
        "tool_calls",
        "score",
        "input",
        "id",
        "output",
        "example_id",
        "step",
        "uid",
        "traj_uid",
        "match",
        "player",
        "success",
        "span",
        "error",
        "return",
        "function",
        "name",
        "arguments",
        "text",
        "logprobs",
        "turn_rewards",
        "switch",
        "answer_key",
        "game",
        "final_view",
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 3)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["assistant", "user", "a/b/c/d", "[", "{}", 10**400])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=20
)
STEP = st.fixed_dictionaries({"reward": LEAVES}, optional={"view": VALUES, "action": VALUES, "token": VALUES})
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "user"])}, optional={"content": VALUES, "tool_calls": VALUES}
)
ROWS = (
    VALUES
    | st.dictionaries(NAMES, VALUES, max_size=6)
    | st.fixed_dictionaries({"group": LEAVES, "steps": st.lists(STEP, max_size=3)}, optional={"outcome": LEAVES})
    | st.fixed_dictionaries(
        {"prompt": VALUES, "completion": st.lists(MESSAGE, max_size=3), "reward": LEAVES, "example_id": LEAVES}
    )
    | st.fixed_dictionaries({"input": VALUES, "output": VALUES, "score": LEAVES}, optional={"traj_uid": VALUES})
)


def check_read(path, **settings):
    try:
        found = read_transcripts(path, **settings)
    except UserError as error:
        assert str(error)
        return
    assert np.isfinite(found.batch.reward).all()
    assert np.isfinite(found.batch.outcome).all()
    assert found.batch.num_episodes == len(found.identifiers) >= 1


@settings(deadline=None)  # other jobs on the machine would trip it
@given(content=st.binary(max_size=200), form=st.sampled_from(("auto", *FORMATS)))
@example(content=b'{"group": 0, "steps": [{"reward": 1, "view": "\\ud800"}]}', form="auto")
@example(content=b'{"group": ' + b"[" * 900 + b"]" * 900 + b', "steps": [{"reward": 1}]}', form="auto")
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, form):
    path = tmp_path_factory.mktemp("bytes") / "file.jsonl"
    path.write_bytes(content)
    check_read(path, form=form)


@given(
    rows=st.lists(ROWS, min_size=1, max_size=4),
    form=st.sampled_from(("auto", *FORMATS)),
    views=st.sampled_from(["last", "history"]),
)
def test_any_json_is_read_or_refused(tmp_path_factory, rows, form, views):
    path = tmp_path_factory.mktemp("rows") / "file.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check_read(path, form=form, views=views)

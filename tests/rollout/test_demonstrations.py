"""Dialogues of a file as episodes, and cloning them."""

import functools
import gzip
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lapwing.aggregation.token_mean import token_mean
from lapwing.core.errors import UserError
from lapwing.core.types import Prompt, Request
from lapwing.generation.transformers import Transformers
from lapwing.losses.negative_log_likelihood import negative_log_likelihood
from lapwing.models.chat_format import ChatFormat
from lapwing.models.scorer import Scorer
from lapwing.policies.baselines import Random
from lapwing.rollout.demonstrations import Demonstrations
from lapwing.selection.all_episodes import all_episodes
from lapwing.training.adamw import AdamW
from lapwing.training.credited import no_credit
from lapwing.training.learner import Learner
from lapwing.training.loop import iterate
from lapwing.training.stages import Stage

FAMILIES = ("qwen2", "qwen3", "llama", "gemma")
ACTIONS = ("LEFT", "DOWN", "RIGHT", "UP")


def said(role, content, **further):
    return {"role": role, "content": content, **further}


def dialogue(*texts, system=None):
    """User and assistant in turn."""
    turns = [said(("user", "assistant")[n % 2], text) for n, text in enumerate(texts)]
    return {"messages": [*([said("system", system)] if system else []), *turns]}


@pytest.fixture
def write(tmp_path):
    """A file of these rows; bytes and texts are written as they are."""

    def make(rows, name="demos.jsonl", newline="\n"):
        lines = [row if isinstance(row, (bytes, str)) else json.dumps(row) for row in rows]
        data = newline.encode().join(line if isinstance(line, bytes) else line.encode() for line in lines)
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
        return str(path)

    return make


@pytest.fixture(scope="module")
def chat_of(toy_folder):
    return functools.cache(lambda family: ChatFormat(AutoTokenizer.from_pretrained(toy_folder(family))))


@pytest.fixture
def read(write, chat_of):
    """The demonstrations of some rows, and their episodes in the order of the file."""

    def make(rows, family="qwen2", **settings):
        found = Demonstrations(path=write(rows), chat=chat_of(family), seed=0, **{"episodes": len(rows), **settings})
        episodes = found.collect(found.draw(0)).episodes
        return found, sorted(episodes, key=lambda episode: str(episode.steps[0].view))

    return make


def texts(chat, token):
    return chat.tokenizer.decode(token)


# ---------------------------------------------------------------------------------------------------------------------
# Steps.


@pytest.mark.parametrize("family", FAMILIES)
def test_every_reply_is_a_step_in_the_templates_own_context(read, chat_of, family):
    chat = chat_of(family)
    row = dialogue("a", "<action>UP</action>", "b", "<action>DOWN</action>", "c", "x y", system="Be brief.")
    _, (episode,) = read([row], family)
    assert [step.decision.text for step in episode.steps] == ["<action>UP</action>", "<action>DOWN</action>", "x y"]
    before = np.zeros(0, dtype=np.int32)
    for n, step in enumerate(episode.steps):
        decision = step.decision
        assert decision.context.tolist() == chat.encode(row["messages"][: 2 + 2 * n]).tolist()
        assert decision.token.tolist() == chat.reply(decision.text).tolist()
        assert (decision.valid, decision.logprob.tolist()) == (True, [0.0] * len(decision.token))
        assert (decision.extends, decision.context[: len(before)].tolist()) == (len(before), before.tolist())
        before = np.concatenate([decision.context, decision.token])
    assert (episode.terminated, episode.truncated, episode.episode_return) == (True, False, 0.0)


def test_the_batch_stores_a_dialogue_once(read):
    found, _ = read([dialogue("a", "b", "c", "d"), dialogue("e", "f")])
    batch = found.collect(found.draw(0)).batch
    assert sorted(batch.extends_previous.tolist()) == [False, False, True]
    assert batch.num_episodes == 2
    assert len(set(batch.group.tolist())) == 2


def test_a_thinkers_later_turns_begin_afresh_because_earlier_thoughts_are_gone(read, chat_of):
    # Fails when contexts are stuck together that the template does not write.
    row = dialogue("a", "<think>hm</think>\n\nx", "b", "y", "c", "z")
    _, (episode,) = read([row], "qwen3")
    decisions = [step.decision for step in episode.steps]
    assert decisions[0].text == "<think>hm</think>\n\nx"
    assert [d.extends > 0 for d in decisions] == [False, False, True]
    assert "<think>" not in texts(chat_of("qwen3"), decisions[1].context)


def test_prompts_are_read_and_not_learnt(read, chat_of):
    asked, answered = [said("user", "r"), said("assistant", "s"), said("user", "t")], [said("assistant", "u")]
    unweighed = [said("user", "v"), said("assistant", "w", weight=0), said("user", "x"), said("assistant", "y")]
    rows = [{"prompt": "p", "completion": "q"}, {"prompt": asked, "completion": answered}, {"messages": unweighed}]
    _, (one, other, third) = read(rows)
    assert [[step.decision.text for step in e.steps] for e in (one, other, third)] == [["q"], ["u"], ["y"]]
    assert texts(chat_of("qwen2"), third.steps[0].decision.context).count("assistant\nw<|im_end|>") == 1


def test_parts_other_names_of_roles_and_calls_go_through_the_template(write, toy_folder):
    tokenizer = AutoTokenizer.from_pretrained(toy_folder("qwen2"))
    tokenizer.chat_template = (
        "{% if tools %}T{{ tools | length }} {% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }} "
        "{{ message['content'] }}{% for call in message.tool_calls %}{{ call.function.arguments | tojson }}{% endfor %}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
    )
    chat = ChatFormat(tokenizer)
    call = {"type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    row = {
        "messages": [
            said("developer", "rules"),
            said("user", [{"type": "text", "text": "as"}, {"type": "text", "text": "ked"}]),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            said("tool", "3<|im_end|>", tool_call_id="1"),
            said("assistant", "done"),
        ],
        "tools": json.dumps([{"name": "f"}]),
    }
    found = Demonstrations(path=write([row]), chat=chat, seed=0, episodes=1)
    (episode,) = found.collect(found.draw(0)).episodes
    first, second = (step.decision for step in episode.steps)
    # The arguments are JSON and not a text that holds JSON; a result cannot end its turn.
    assert first.text == '{"x": 1}'
    asked = "T1 <|im_start|>system rules<|im_end|><|im_start|>user asked<|im_end|><|im_start|>assistant "
    assert texts(chat, first.context) == asked
    assert second.extends == len(first.context) + len(first.token)
    added = "<|im_start|>tool 3< |im_end|><|im_end|><|im_start|>assistant "
    assert texts(chat, second.context[second.extends :]) == added


# ---------------------------------------------------------------------------------------------------------------------
# Which dialogues.


def views(found, iteration):
    return [episode.steps[0].view for episode in found.collect(found.draw(iteration)).episodes]


def test_every_epoch_goes_through_all_dialogues_in_an_order_of_its_own(write, chat_of):
    path = write([dialogue(str(n), "x") for n in range(10)])
    found = Demonstrations(path=path, chat=chat_of("qwen2"), seed=3, episodes=4)
    drawn = [view for iteration in range(5) for view in views(found, iteration)]
    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == sorted(map(str, range(10)))
    assert first != second != list(map(str, range(10)))
    # The order belongs to the seed and an iteration to its number, whatever was drawn before.
    again = Demonstrations(path=path, chat=chat_of("qwen2"), seed=3, episodes=4)
    assert views(again, 3) == drawn[12:16]
    other = Demonstrations(path=path, chat=chat_of("qwen2"), seed=4, episodes=10)
    assert sorted(views(other, 0)) == sorted(first) != views(other, 0) != first


def test_fewer_dialogues_than_an_iteration_takes_are_taken_again(write, chat_of):
    found = Demonstrations(path=write([dialogue("a", "x")]), chat=chat_of("qwen2"), seed=0, episodes=3)
    assert views(found, 0) == ["a"] * 3
    assert found.collect(found.draw(0)).batch.num_episodes == 3


def test_part_of_what_was_drawn_can_be_collected_elsewhere(write, chat_of):
    found = Demonstrations(
        path=write([dialogue(str(n), "x") for n in range(5)]), chat=chat_of("qwen2"), seed=0, episodes=5
    )
    matches = found.draw(2)
    part = Demonstrations(path=found.path, chat=chat_of("qwen2"), seed=0, episodes=5).collect(matches[3:])
    assert [episode.steps[0].view for episode in part.episodes] == views(found, 2)[3:]


def test_dialogues_that_do_not_fit_are_left_out_and_counted(write, chat_of):
    chat = chat_of("qwen2")
    rows = [dialogue("a", "b"), dialogue("a", "b " * 40), dialogue("c", "d"), dialogue("a", "b", "c " * 40, "d")]
    short = len(chat.encode(rows[0]["messages"][:1])) + len(chat.reply("b"))
    path = write(rows)
    found = Demonstrations(path=path, chat=chat, seed=0, episodes=2, positions=short)
    assert sorted(views(found, 0)) == ["a", "c"]
    assert (found.too_long, found.bad) == (2, [])
    assert found.notes() == [f"demos.jsonl: 2 dialogues of more than {short} tokens are left out."]
    for limits in ({"positions": short - 1}, {"positions": 1000, "max_tokens": short - 1}):
        with pytest.raises(UserError, match=f"every dialogue has more than {short - 1} tokens"):
            Demonstrations(path=path, chat=chat, seed=0, **limits).draw(0)
    assert Demonstrations(path=path, chat=chat, seed=0).notes() == []


# ---------------------------------------------------------------------------------------------------------------------
# Files.

GOOD = dialogue("a", "b")


@pytest.mark.parametrize("form", ["plain", "windows", "gzip", "begins with a mark", "blank lines"])
def test_files_of_all_kinds_are_read(write, chat_of, form):
    rows = [GOOD, dialogue("c", "d")]
    if form == "begins with a mark":
        rows[0] = b"\xef\xbb\xbf" + json.dumps(GOOD).encode()
    if form == "blank lines":
        rows = ["", rows[0], "  ", rows[1], ""]
    path = write(rows, "demos.jsonl.gz" if form == "gzip" else "demos.jsonl", "\r\n" if form == "windows" else "\n")
    assert sorted(views(Demonstrations(path=path, chat=chat_of("qwen2"), seed=0, episodes=2), 0)) == ["a", "c"]


BAD = [
    ("{", r"line 2 is not JSON \(.* at column 1\)"),
    (b"\xff", "line 2 is not UTF-8 text at byte 1"),
    ("3", "line 2 is no JSON object but 3"),
    ("[" * 100_000, "line 2 is nested too deeply"),
    ({}, "line 2 has neither 'messages' nor 'prompt' and 'completion'; it is empty"),
    ({"prompt": "a"}, 'neither .* it has "prompt"'),
    ({"messages": []}, "'messages' is a list of messages with role and content"),
    ({"messages": "hm"}, "'messages' is a list of messages with role and content, not \"hm\""),
    ({"prompt": "a", "completion": 3}, "'completion' is a list of messages with role and content, not 3"),
    ({"messages": [said("user", "a")]}, "holds no message of the assistant to be learnt"),
    ({"messages": [said("assistant", "a")]}, "begins with a message of the assistant"),
    (
        {"messages": [said("user", "a"), said("assistent", "b")]},
        'message 2: there is no role "assistent"; did you mean',
    ),
    ({"messages": [said(None, "a")]}, "message 1: there is no role null; valid names: system"),
    ({"messages": [{"role": "user"}, said("assistant", "b")]}, "message 1 has no 'content'"),
    ({"messages": [said("user", 3), said("assistant", "b")]}, "message 1: 'content' is a text, not 3"),
    ({"messages": [said("user", [{"type": "image"}]), said("assistant", "b")]}, "'content' is a text, not"),
    ({"messages": [said("user", "a"), said("assistant", "b", weight=2)]}, "'weight' of a message is 0 or 1, not 2"),
    ({"messages": [said("user", "a"), said("assistant", "", tool_calls="x")]}, "'tool_calls' is a list of objects"),
    ({**GOOD, "tools": "{"}, "'tools' is no JSON"),
    ({**GOOD, "tools": {"a": 1}}, "'tools' is a list of definitions"),
]


# F54. Fails when a bad line ends the reading, or is left out without being counted.
@pytest.mark.parametrize(("bad", "sentence"), BAD, ids=[sentence[:40] for _, sentence in BAD])
def test_a_bad_line_is_refused_with_its_number(write, chat_of, bad, sentence):
    path = write([GOOD, bad, GOOD])
    with pytest.raises(UserError, match=sentence) as refused:
        Demonstrations(path=path, chat=chat_of("qwen2"), seed=0)
    counted = "1 of 3 lines are no demonstrations, and collector.max_bad_lines allows 0; the first: demos.jsonl, line 2"
    assert counted in str(refused.value)
    found = Demonstrations(path=path, chat=chat_of("qwen2"), seed=0, episodes=2, max_bad_lines=1)
    assert views(found, 0) == ["a", "a"]
    assert len(found.bad) == 1
    assert found.notes()[0].startswith("demos.jsonl: 1 lines are left out; the first: demos.jsonl, line 2")


def test_what_the_template_refuses_is_a_bad_line_too(write, chat_of):
    # Fails when a refusal in the middle of training ends it without a place.
    turns = {"messages": [said("user", "a"), said("assistant", "b"), said("assistant", "c")]}
    ended = {"messages": [said("user", "a"), said("assistant", "b<eos>c")]}
    path = write([GOOD, turns, ended])
    found = Demonstrations(path=path, chat=chat_of("gemma"), seed=0, max_bad_lines=1)
    with pytest.raises(UserError, match=r"2 of 3 lines .* the first: .*, line 2, message 3: The model's chat template"):
        found.draw(0)
    found = Demonstrations(path=path, chat=chat_of("gemma"), seed=0, episodes=1, max_bad_lines=2)
    assert views(found, 0) == ["a"]
    assert found.bad[1].startswith("demos.jsonl, line 3, message 2: A reply holds a token that ends replies")


def test_a_file_without_rows_or_of_endless_ones_is_refused(write, chat_of, tmp_path, monkeypatch):
    make = functools.partial(Demonstrations, chat=chat_of("qwen2"), seed=0)
    for rows in ([], ["", " "]):
        with pytest.raises(UserError, match="holds no demonstrations; give one JSON object a line"):
            make(path=write(rows))
    with pytest.raises(UserError, match="holds no demonstrations"):
        make(path=write(["{"]), max_bad_lines=5)
    with pytest.raises(UserError, match=r"There is no file of demonstrations .*missing"):
        make(path=str(tmp_path / "missing.jsonl"))
    with pytest.raises(UserError, match="There is no file of demonstrations"):
        make(path=str(tmp_path))
    whole = gzip.compress(json.dumps(GOOD).encode() * 100)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[:-9])
    with pytest.raises(UserError, match="could not be read after line"):
        make(path=str(cut))
    # A small file may unpack to a large one.
    monkeypatch.setattr("lapwing.rollout._file_collector._LARGEST_FILE", 10_000)
    bomb = write([dialogue("a" * 1000, "b")] * 100, "bomb.jsonl.gz")
    with pytest.raises(UserError, match=r"bomb\.jsonl\.gz holds more than"):
        make(path=bomb)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"episodes": 0}, "episodes is at least 1, not 0"),
        ({"max_tokens": 0}, "max_tokens is at least 1, not 0"),
        ({"max_bad_lines": -1}, "max_bad_lines is at least 0, not -1"),
    ],
)
def test_impossible_settings_are_refused(write, chat_of, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Demonstrations(path=write([GOOD]), chat=chat_of("qwen2"), seed=0, **settings)


# ---------------------------------------------------------------------------------------------------------------------
# Cloning.


def question(n):
    near = ("hole", "goal", "edge", "frozen")[n // 3 % 4]
    return f"You are at row {n % 4} column {n // 4 % 4}; {ACTIONS[n % 4]} of you: {near}."


def demonstration(n):
    """Go away from what is named first; what is said after is noise."""
    action = ACTIONS[(n % 4 + 2) % 4]
    return dialogue(question(n), f"<action>{action}</action>", "Again.", f"<action>{action}</action>")


def mean_logprob(model, chat, rows):
    """Mean log-probability of the tokens of the replies of some dialogues, nats."""
    contexts, replies = [], []
    for row in rows:
        for at in (1, 3):
            context, reply = chat.turn(row["messages"][: at + 1])
            contexts.append(context)
            replies.append(reply)
    with torch.no_grad():
        return float(np.mean(Scorer(model).score(contexts, replies)["logprob"]))


def test_a_stage_of_demonstrations_clones_them(write, toy_folder):
    # Fails when the replies that are learnt are not those of the file, or none ends.
    folder = toy_folder("qwen2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = ChatFormat(AutoTokenizer.from_pretrained(folder), ends=model.generation_config.eos_token_id)
    learnt, held_out = [demonstration(n) for n in range(40)], [demonstration(n) for n in range(40, 48)]
    policy = Random()
    found = Demonstrations(path=write(learnt), chat=chat, seed=0, policy=policy, episodes=8, positions=1024)
    stage = Stage(
        name="clone",
        iterations=80,
        seed=0,
        sampler=found,
        collector=found,
        policy=policy,
        credit=no_credit,
        credit_level="step",
        selection=all_episodes,
        aggregation=token_mean,
        make_learner=lambda: Learner(
            model,
            loss=negative_log_likelihood,
            optimizer=AdamW(learning_rate=1e-2, clip_norm=1.0),
            seed=0,
            row_tokens=400,
        ),
        forget=lambda: None,
    )
    before = mean_logprob(model, chat, held_out)
    learner = stage.make_learner()
    rows = list(iterate(stage, learner, 0, lambda rollout: None))
    after = mean_logprob(model, chat, held_out)
    assert before < -3.0
    assert after > -0.1
    assert rows[-1]["update/loss"] < 0.2 < 3.0 < rows[0]["update/loss"]
    assert rows[0]["rollout/new_episodes"] == 8
    assert rows[0]["rollout/dropped"] == 0
    assert policy.version == learner.version == 80
    generator = Transformers(model, chat.tokenizer, max_tokens=32, greedy=True)
    context = chat.encode([said("user", question(41))])
    (completion,) = generator.generate([Request(Prompt(context, context.tobytes()), 0)])
    assert chat.read(completion.token) == held_out[1]["messages"][1]["content"]
    assert completion.token[-1] == chat.turn_end

"""From what a dialogue earns to what is learnt from it: published credit on played episodes, critics, and a run."""

import numpy as np
import pytest

from lapwing import build
from lapwing.core.batch import EpisodeBatch
from lapwing.core.rng import generator
from lapwing.core.types import Answer, Match
from lapwing.credit.grpo import grpo
from lapwing.credit.gtpo import gtpo
from lapwing.credit.mt_grpo import mt_grpo
from lapwing.credit.token_gae import token_gae
from lapwing.games.search_qa import SearchQa, search
from lapwing.games.tools.dialogue import ToolState
from lapwing.generation.scripted import Scripted
from lapwing.models.tiny import tiny_tokenizer
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.baselines import plain_decision
from lapwing.policies.contexts import Transcript
from lapwing.policies.renderers import ToolDialogue
from lapwing.policies.tool_parser import ToolUse
from lapwing.rollout.collector import LocalCollector
from lapwing.training.loop import iterate

HIGH = np.sqrt(0.75)  # 0.8660254, the normalised 1 of [1, 1, 0, 0] with ddof 1


class Listed:
    """A teacher that plays a list of replies for each member of a group; all members play to the same length."""

    version = 0

    def __init__(self, replies):
        self.replies = replies

    def act_many(self, asks):
        return [(plain_decision(self.replies[i][len(ask.state.turns)]), None) for i, ask in enumerate(asks)]


@pytest.fixture(scope="module")
def batch():
    """Four episodes of one question: a good search or a bad one, and then a right answer or a wrong one.

    With a weight of 1 on the answer in the result, and of 1 on the exact match, turn rewards are [1, 1, 0, 0] and
    outcomes [1, 0, 0, 1], as in the worked example E1 of MT-GRPO.
    """
    game = SearchQa(entities=20, tool_execution_weight=0.0, answer_in_result_weight=1.0, answer_presence_weight=0.0)
    task = game.initial(generator("task")).task
    good, bad = search(task.query), search("zu zu")
    right, wrong = Answer(task.answers[0]), Answer("zu zu")
    teacher = Listed([[good, right], [good, wrong], [bad, wrong], [bad, right]])
    words = ToolUse(reasoning_tag="").words(()) | ToolDialogue().words(None) | game.words() | {"zu"}
    tokenizer = tiny_tokenizer(words)
    agent = Agent(
        renderer=ToolDialogue(),
        context=Transcript(),
        parser=ToolUse(style="words", reasoning_tag="", format_weight=0.0, tags_weight=0.0),
        tokenizer=tokenizer,
        generator=Scripted(lambda *_: "", tokenizer),
        teacher=teacher,
    )
    matches = [Match(game, 0, "train", 0, 0, member, 2, start_state=ToolState(task)) for member in range(4)]
    return EpisodeBatch.pack(LocalCollector(agent, invalid=InvalidRule()).play(matches))


def test_the_batch_is_the_worked_example(batch):
    np.testing.assert_array_equal(batch.reward, [1, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(batch.outcome, [1, 0, 0, 1])
    np.testing.assert_array_equal(batch.extends_previous, [False, True] * 4)
    np.testing.assert_array_equal(batch.column("part:answer_in_result"), [1, 0, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(batch.column("tool_calls"), [1] * 4)


def test_a_good_search_keeps_its_credit_when_the_answer_is_wrong(batch):
    # E1: the second episode searched well and answered wrongly, the fourth the other way round.
    search_credit, answer_credit = mt_grpo(batch, eps=0.0).reshape(4, 2).T
    np.testing.assert_allclose(search_credit, [2 * HIGH, 0, -2 * HIGH, 0], atol=1e-9)
    np.testing.assert_allclose(answer_credit, [HIGH, -HIGH, -HIGH, HIGH], atol=1e-9)
    assert search_credit[1] > answer_credit[1]


def test_the_coefficient_decides_between_turn_and_outcome(batch):
    # E2: the form of the paper and that of the code differ in sign.
    paper = mt_grpo(batch, eps=0.0, coefficient=0.5).reshape(4, 2)[:, 0]
    np.testing.assert_allclose(paper, [1.5 * HIGH, 0.5 * HIGH, -1.5 * HIGH, -0.5 * HIGH], atol=1e-9)
    code = mt_grpo(batch, eps=0.0, coefficient=0.5, weight_on="turn").reshape(4, 2)[:, 0]
    np.testing.assert_allclose(code, [1.5 * HIGH, -0.5 * HIGH, -1.5 * HIGH, 0.5 * HIGH], atol=1e-9)


def test_merged_rewards_give_a_good_search_with_a_wrong_answer_nothing(batch):
    # E3: the returns are [2, 1, 0, 1]; both steps of an episode have the same.
    merged = grpo(batch, eps=0.0).reshape(4, 2)
    np.testing.assert_allclose(merged, np.outer([1.2247449, 0, -1.2247449, 0], [1, 1]), atol=1e-6)


def test_only_replies_have_credit_and_mt_ppo_puts_it_on_the_turns_last_token(batch):
    # With a critic that knows nothing and γ = λ = 1, a token's credit is what is still to come.
    blind = batch.with_columns(token_value=np.zeros(batch.num_tokens), final_value=np.zeros(4))
    credit = token_gae(blind)
    expected = [[2, 1], [1, 0], [0, 0], [1, 1]]
    np.testing.assert_allclose(credit, batch.spread(np.array(expected, float).ravel()))
    # With γ = ½ it halves with every token before the reward, and observations are no tokens.
    credit = token_gae(blind, discount=0.5)
    for step, paid in enumerate(np.ravel([[1, 1], [1, 0], [0, 0], [0, 1]])):
        first, last = batch.token_splits[step], batch.token_splits[step + 1] - 1
        then = 0.0 if step % 2 else credit[last + 1]
        np.testing.assert_allclose(
            credit[first : last + 1], (paid + 0.5 * then) * 0.5 ** np.arange(last - first, -1, -1)
        )


def test_gtpo_normalises_discounted_returns_turn_by_turn_and_adds_the_outcome(batch):
    # Turn 1: r + γ · 0 + γ² o = [1.81, 1, 0, 0.81]; turn 2: γ o = 0.9 · [1, 0, 0, 1]; and 0.3 times the outcome's.
    credit = gtpo(batch, discount=0.9, eps=0.0).reshape(4, 2)
    outcome = HIGH * np.array([1, -1, -1, 1])
    for turn, raw in enumerate(([1.81, 1, 0, 0.81], [0.9, 0, 0, 0.9])):
        own = (np.array(raw) - np.mean(raw)) / np.std(raw, ddof=1)
        np.testing.assert_allclose(credit[:, turn], own + 0.3 * outcome, atol=1e-9)


SMALL = ("game.entities=20", "game.relations=1", "sampler.groups=8", "evaluation.every=0")


def rows_of(name, folder, *overrides):
    """The rows of metrics of the main stage of a recipe."""
    plans = build.plan(build.read_recipe(name, overrides=[*SMALL, *overrides]))
    shop = build.make_workshop(plans[-1], 0)
    rows = []
    for plan in plans:
        stage = build.make_stage(plan, shop)
        if plan.name == "main":
            shop.model.save_pretrained(folder)
            stage.annotators = stage.make_annotators(folder)
        stage.load(0)
        rows = list(iterate(stage, stage.make_learner(), 0, lambda _: None))
    return rows


def test_the_critic_of_mt_ppo_learns_what_a_search_is_worth(tmp_path):
    # Half of the episodes of a perfect demonstrator search, and are right; the others guess. The policy is left alone.
    rows = rows_of(
        "search_qa_mt_ppo",
        tmp_path,
        *("copying.iterations=1", "warm_start.iterations=1", "iterations=20", "annotate.0.warm_up=20"),
        *("annotate.0.learning_rate=3e-3", "annotate.0.clip=0.0", "sampler.group_size=8"),
        *("model.hidden=32", "model.layers=2", "model.heads=2", "model.intermediate=64"),
        "policy.teacher={name='demonstrator', call_share=0.5}",
    )
    explained = [row["critic/token_value_explained_variance"] for row in rows]
    assert max(explained[:3]) < 0.1
    assert min(explained[-2:]) > 0.4
    assert all(row["update/skipped"] == 1.0 for row in rows)


# Fails when the sign of the loss is turned, when play does not put the rewards into what is trained on, and when what
# the demonstrator writes is not what the parser reads.
@pytest.mark.slow
def test_a_small_world_is_searched_and_read_after_a_few_updates(tmp_path):
    rows = rows_of(
        "search_qa_mt_grpo",
        tmp_path,
        *("copying.iterations=100", "warm_start.iterations=15", "iterations=25"),
        *("model.hidden=64", "model.heads=4", "model.intermediate=128"),
    )
    means = {
        name: (rows[0][f"rollout/part:{name}"], np.mean([row[f"rollout/part:{name}"] for row in rows[-5:]]))
        for name in ("tool_execution", "exact_query", "exact_match")
    }
    assert all(first < 0.6 for first, _ in means.values())
    assert means["tool_execution"][1] > 0.9
    assert means["exact_query"][1] > 0.7
    assert means["exact_match"][1] > 0.7

"""The agent whose model is asked over the network, against a server that repeats what it is told to say."""

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from lapwing.core.types import Answer, Ask, Match, ToolCall, ToolResult
from lapwing.evaluation.evaluate import measure
from lapwing.games.frozen_lake import ACTIONS, FrozenLake
from lapwing.generation.openai_api import OpenAIAPI
from lapwing.policies.chat_agent import ChatAgent, openai_opponent
from lapwing.policies.contexts import StateOnly, Transcript
from lapwing.policies.parsers import Tags
from lapwing.policies.renderers import Grid, ToolDialogue
from lapwing.policies.tool_parser import ToolUse
from lapwing.rollout.play import play


@pytest.fixture
def server(run_app):
    """Says the texts in turn, the last one for ever; `asked` holds the dialogues."""

    class Server:
        texts, asked, finish_reason = ["<action> down </action>"], [], "stop"

    async def answer(request):
        Server.asked.append((await request.json())["messages"])
        text = Server.texts[min(len(Server.asked), len(Server.texts)) - 1]
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": Server.finish_reason}
        usage = {"prompt_tokens": 9, "completion_tokens": len(text.split()), "total_tokens": 0}
        return JSONResponse({"id": "1", "model": "m", "choices": [choice], "usage": usage})

    with run_app(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as Server.address:
        yield Server


@pytest.fixture
def agent(server):
    def make(*, renderer=None, context=None, parser=None, **settings):
        parser = parser or Tags()
        return ChatAgent(
            renderer=renderer or Grid(),
            context=context or StateOnly(),
            parser=parser,
            client=OpenAIAPI(model="m", base_url=server.address, stop=parser.stop, **settings),
        )

    return make


def matches(count, max_steps):
    game = FrozenLake(map_name="4x4")
    return [
        Match(game=game, seed=0, split="test", iteration=0, group=i, member=0, max_steps=max_steps)
        for i in range(count)
    ]


def test_a_match_is_played_by_what_the_server_says(server, agent):
    server.texts = ["hm <action> down </action> and more", "no idea"]
    (episode,) = play(matches(1, 2), {0: agent()})
    first, second = (step.decision for step in episode.steps)
    assert (first.action, first.valid, first.text, first.stop_reason) == (
        "down",
        True,
        "hm <action> down </action>",
        "stop",
    )
    assert (second.action, second.valid, second.reason, second.stop_reason) == (None, False, "no <action> tag", "end")
    assert [len(first.token), len(first.logprob), len(first.context)] == [0, 0, 0]
    assert episode.final_context is None
    assert measure([episode])["tokens_per_step"]["mean"] == (len(server.texts[0].split()) + 2) / 2


def test_a_reply_that_was_cut_says_so(server, agent):
    server.texts, server.finish_reason = ["<action> do"], "length"
    ((decision, _),) = agent().act_many([ask_of(FrozenLake(map_name="4x4"))])
    assert decision.stop_reason == "length"


def ask_of(game, view=None, memory=None):
    state = game.initial(None)
    view = game.view(state, 0) if view is None else view
    return Ask(view=view, legal=ACTIONS, memory=memory, key=0, game=game, state=state, player=0, steps_left=1)


def test_a_transcript_reaches_the_server_as_a_dialogue(server, agent):
    server.texts = ["<action> down </action>", "<action> left </action>"]
    (episode,) = play(matches(1, 3), {0: agent(renderer=Grid(instructions=True), context=Transcript())})
    assert len(episode.steps) == 3
    last = server.asked[-1]
    assert [m["role"] for m in last] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert last[2]["content"] == "<action> down </action>"
    assert last[:4] == server.asked[1]


def test_all_matches_are_asked_together_and_equal_greedy_asks_once(server, agent):
    episodes = play(matches(7, 1), {0: agent()})
    assert len(episodes) == len(server.asked) == 7
    play(matches(7, 1), {0: agent().greedily()})
    assert len(server.asked) == 8


class ToolView:
    question = "who <|im_end|> is it?"
    tools = ('{"name": "search", "parameters": {}}',)
    calls_left = 1

    def __init__(self, *turns):
        self.turns = turns


class Turn:
    result = ToolResult("ok", "a <tool> text")


def test_tools_are_shown_as_text_and_results_come_from_the_user(server, agent):
    server.texts = ['<tool> {"name": "search", "arguments": {"query": "x"}} </tool>', "<answer> me </answer>"]
    made = agent(renderer=ToolDialogue(instructions="Use tools."), context=Transcript(), parser=ToolUse())
    game = FrozenLake(map_name="4x4")
    ((first, memory),) = made.act_many([ask_of(game, ToolView())])
    assert first.action == ToolCall("search", '{"query":"x"}')
    ((second, _),) = made.act_many([ask_of(game, ToolView(Turn), memory)])
    assert second.action == Answer("me")
    system, question, call, result = server.asked[1]
    assert system["content"] == 'Use tools.\n\nTools, one definition a line:\n{"name": "search", "parameters": {}}'
    assert "<|im_end|>" not in question["content"]
    assert call == {"role": "assistant", "content": server.texts[0]}
    assert result == {"role": "user", "content": "<result> a &lt;tool> text </result>"}
    assert set(made.form_rewards([first.text])) == {"format", "tags"}
    assert agent().form_rewards(["x"]) == {}


def test_an_opponent_is_told_the_rules_and_how_to_reply(server):
    opponent = openai_opponent(model="m", base_url=server.address)
    ((decision, _),) = opponent.act_many([ask_of(FrozenLake(map_name="4x4"))])
    assert decision.action == "down"
    system, user = server.asked[0]
    assert "Cross the frozen lake" in system["content"]
    assert "<action>" in user["content"]

import numpy as np
import pytest

from lapwing.annotate._truth import Places, Situation, Truth
from lapwing.core.types import Match
from lapwing.games.frozen_lake import FrozenLake
from lapwing.generation.transformers import Transformers
from lapwing.models.tiny import tiny_model, tiny_tokenizer
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.contexts import StateOnly
from lapwing.policies.parsers import Bare
from lapwing.policies.renderers import Coordinates
from lapwing.rollout.collector import LocalCollector


class Lake:
    """A small model on the slippery 4x4 lake, its exact solution, and some episodes."""

    def __init__(self, episodes):
        game, renderer, parser = FrozenLake(map_name="4x4", slippery=True), Coordinates(), Bare()
        start = game.initial(np.random.default_rng(0))
        words = renderer.words(game.view(start, 0)) | parser.words(game.legal(start, 0))
        tokenizer = tiny_tokenizer(words)
        self.model = tiny_model(len(tokenizer), seed=1, hidden=16, layers=1, heads=2, intermediate=32).eval().double()
        agent = Agent(
            renderer=renderer,
            context=StateOnly(),
            parser=parser,
            tokenizer=tokenizer,
            generator=Transformers(self.model, tokenizer, max_tokens=1, cache=False),
        )
        rule = InvalidRule("default", 0.2)
        self.situation = Situation(agent, game, rule, 12, {}, lambda: [start])
        self.places = Places(self.situation, [start], max_states=50)
        matches = [Match(game, 0, "train", 0, 0, n, 12, share_chance=False) for n in range(episodes)]
        self.batch = LocalCollector(agent, invalid=rule).collect(matches).batch

    def truth(self):
        return Truth(self.model, self.places)


@pytest.fixture(scope="session")
def lake():
    return Lake(2000)

"""What tests of several rooms share: a small tokenizer, small models, scripted agents, matches."""

from collections.abc import Callable
from typing import Any

import pytest

from lapwing.core.types import Match
from lapwing.games.frozen_lake import ACTIONS, FrozenLake


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The words of the lake in both renderings, of tagged replies, and a few more."""
    from lapwing.models.tiny import tiny_tokenizer
    from lapwing.policies.parsers import Tags
    from lapwing.policies.renderers import Grid

    game = FrozenLake(map_name="4x4")
    view = game.view(game.initial(None), 0)  # type: ignore[arg-type]
    words = Grid(instructions=True).words(view) | Tags(think=True, plan=True).words(ACTIONS)
    return tiny_tokenizer(words | {"arms", "a", "b", "c", "hm", "stop", "!"})


@pytest.fixture(scope="session")
def make_model(tokenizer: Any) -> Callable[..., Any]:
    """Small Llamas over the shared vocabulary; every call makes another one."""
    from lapwing.models.tiny import tiny_model

    def make(seed: int = 0, **sizes: int) -> Any:
        given = {"hidden": 16, "layers": 2, "heads": 2, "intermediate": 32, **sizes}
        return tiny_model(len(tokenizer), seed=seed, **given).eval()

    return make


@pytest.fixture(scope="session")
def model(make_model: Callable[..., Any]) -> Any:
    """A small model that nobody trains."""
    return make_model(seed=5).requires_grad_(False)


@pytest.fixture
def make_agent(tokenizer: Any) -> Callable[..., Any]:
    """An agent whose replies come from a function of the context's text and the reply's key."""
    from lapwing.generation.scripted import Scripted
    from lapwing.policies.agent import Agent
    from lapwing.policies.contexts import StateOnly
    from lapwing.policies.parsers import Tags
    from lapwing.policies.renderers import Grid

    def make(reply: Callable[[str, int], str], *, context: Any = None, parser: Any = None, **others: Any) -> Agent:
        return Agent(
            renderer=Grid(),
            context=context or StateOnly(),
            parser=parser or Tags(),
            tokenizer=tokenizer,
            generator=Scripted(reply, tokenizer),
            **others,
        )

    return make


@pytest.fixture
def make_match() -> Callable[..., Match]:
    """A match on Gymnasium's 4x4 lake, unless told otherwise."""

    def make(**settings: Any) -> Match:
        given = {
            "game": FrozenLake(map_name="4x4"),
            "seed": 0,
            "split": "train",
            "iteration": 0,
            "group": 0,
            "member": 0,
            "max_steps": 8,
        }
        return Match(**{**given, **settings})

    return make

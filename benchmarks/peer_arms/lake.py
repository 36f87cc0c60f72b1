"""The one task that all arms do: the game, the dialogue, the tokenizer and the starting weights."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lapwing import build
from lapwing.core import rng
from lapwing.core.types import Action
from lapwing.games.frozen_lake import ACTIONS
from lapwing.policies.parsers import Invalid

HERE = Path(__file__).resolve().parent
STARTS = HERE.parents[1] / "runs" / "peers" / "starts"

MAPS = {"fixed": [], "random": ["game={name='frozen_lake', size=4, frozen_probability=0.8, slippery=false}"]}
CONTEXTS = ("transcript", "state_only")
GROUPS, GROUP_SIZE, MAX_STEPS, REPLY_TOKENS = 4, 16, 20, 4
EPISODES = GROUPS * GROUP_SIZE
CLIP_NORM, BETAS, LEARNING_RATE = 0.5, (0.9, 0.999), 5e-4
# Share of an update's episodes that succeed once a policy counts as learnt.
LEARNT = 0.8
# What a tool says reads as a user's message, as in the templates of Qwen. It renders calls and is prefix-preserving.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ 'user' if message.role == 'tool' else message.role }} "
    "{{ message.content or '' }} "
    "{% for call in message.tool_calls or [] %}<tool> {{ call.function.name }} "
    "{% for key, value in call.function.arguments.items() %}{{ key }} {{ value }} {% endfor %}</tool> {% endfor %}"
    "<|im_end|> {% endfor %}{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


# Of the learning rate: small enough that no weight changes, so that all arms go on playing the same policy.
FROZEN = 1e-12


def read_reply(text: str) -> str | None:
    """The move that a reply calls for; None if it is no call of one of the four tools."""
    words = text.split()
    is_call = len(words) == 3 and words[0] == "<tool>" and words[2] == "</tool>" and words[1] in ACTIONS
    return words[1] if is_call else None


class ToolReply:
    """The reply is a call of one of four tools that take no arguments: `<tool> left </tool>`."""

    stop: tuple[str, ...] = ()

    def parse(self, text: str, legal: Sequence[Action] | None) -> Action | Invalid:
        """The action, or why there is none."""
        action = read_reply(text)
        return Invalid("not a call of one of the four tools") if action is None else action

    def compose(self, action: Action) -> str:
        """The reply that stands for an action."""
        return f"<tool> {action} </tool>"

    def words(self, legal: Sequence[Action]) -> set[str]:
        """The words of all replies."""
        return {"<tool>", "</tool>", *map(str, legal)}


def plans(maps: str, context: str, settings: Sequence[str] = ()) -> list[build.StagePlan]:
    """The two stages of the task.

    Args:
      maps: "fixed" or "random".
      context: "transcript" or "state_only".
      settings: further overrides.
    """
    overrides = [*MAPS[maps], f"policy.context={{name='{context}'}}", *settings]
    return build.plan(build.read_recipe(str(HERE / "lake.toml"), overrides=overrides), allow_code=("lake",))


class Task:
    """The game, its words and its starts, for arms that have an engine of their own.

    Attributes:
      maps: "fixed" or "random".
    """

    def __init__(self, maps: str, *, seed: int = 0) -> None:
        """Make them.

        Args:
          maps: "fixed" or "random".
          seed: of the starts; with the same one all arms play the same.
        """
        from lapwing.games.game import for_split

        self.maps = maps
        stage = self.plan("transcript")
        self._game: Any = for_split(build.make_game(stage.game), "train")
        self._renderer = stage.renderer.make(**stage.renderer.settings)
        self._sampler = stage.sampler.make(self._game, seed=rng.fold(0, stage.name, seed), **stage.sampler.settings)
        self._chance = rng.generator("dry")

    def plan(self, context: str, settings: Sequence[str] = ()) -> build.StagePlan:
        """The stage of learning."""
        return plans(self.maps, context, settings)[-1]

    def starts(self, iteration: int) -> list[Any]:
        """The states that the groups of an update begin in."""
        from lapwing.rollout.play import initial_state

        return [initial_state(match) for match in self._sampler.draw(iteration) if match.member == 0]

    def board(self, state: Any) -> str:
        """The text that shows a state."""
        return self._renderer.messages(self._game.view(state, 0))[0]["content"]

    def step(self, state: Any, action: str) -> Any:
        """One move; the ice is dry, so that nothing is drawn."""
        return self._game.step(state, {0: action}, self._chance)


def start(maps: str, context: str, *, learnt: bool = False) -> Path:
    """The folder of the weights that all arms with this context begin with; made once.

    Args:
      maps: "fixed" or "random".
      context: "transcript" or "state_only".
      learnt: those of a policy that has become narrow: Lapwing learns from the others until the episodes of an update
        succeed by LEARNT; if not, those that cloned random play.
    """
    stages = plans(maps, context, [f"optimizer.learning_rate={LEARNING_RATE}"])
    made_by = [stage.to_dict() for stage in stages[: 1 + learnt]]
    text = json.dumps([made_by, CHAT_TEMPLATE, LEARNT if learnt else None], default=str)
    key = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    folder = STARTS / f"{maps}_{context}_{'learnt' if learnt else 'cloned'}_{key}"
    if not folder.exists():
        if learnt:
            shop = build.Workshop(*load(start(maps, context)), 0)
        else:
            shop = build.make_workshop(stages[0], 0)
            shop.tokenizer.chat_template = CHAT_TEMPLATE
        print(f"{folder.name}: {_train(stages[learnt], shop)}", flush=True)
        new = folder.with_name(f".{folder.name}")
        shutil.rmtree(new, ignore_errors=True)
        shop.model.save_pretrained(new)
        shop.tokenizer.save_pretrained(new)
        new.rename(folder)
    return folder


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, in float32."""
    from lapwing.models import pretrained

    return pretrained.load_folder(folder, dtype="float32", device="cpu")


def success(stage: build.StagePlan, model: Any, tokenizer: Any, episodes: int, seed: int) -> float:
    """The share of held-out matches (of the same map where it is fixed) that these weights win, sampled.

    Args:
      stage: the stage of learning, with the context that the weights were trained with.
      model, tokenizer: of the arm.
      episodes: how many matches.
      seed: of the matches.
    """
    from lapwing.core.types import Match
    from lapwing.games.game import for_split

    agent = build.make_agent(stage, build.Workshop(model, tokenizer, 0))
    game = for_split(build.make_game(stage.game), "test")
    matches = [
        Match(
            game=game,
            seed=rng.fold(0, "held out", seed),
            split="test",
            iteration=0,
            group=n,
            member=0,
            max_steps=MAX_STEPS,
            share_chance=True,
            start=(0, n),
        )
        for n in range(episodes)
    ]
    played = build.make_play(stage)(agent, matches)
    return sum(bool(episode.success) for episode in played) / len(played)


def _train(stage: build.StagePlan, shop: build.Workshop) -> str:
    """Go through a stage, or through as much of it as it takes to succeed; what came out."""
    from lapwing.training.loop import iterate

    made = build.make_stage(stage, shop)
    learner = made.make_learner()
    row: dict[str, Any] = {}
    for row in iterate(made, learner, 0, lambda _: None):
        if stage.credit is not None and row["rollout/success"] >= LEARNT:
            break
    learner.finish()
    return f"{row['iteration'] + 1} updates, loss {row['update/loss']:.3f}, success {row['rollout/success']:.2f}"

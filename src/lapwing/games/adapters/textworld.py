"""TextWorld: generated text adventures as games."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lapwing.core.errors import UserError, nearest
from lapwing.core.paths import cache_folder
from lapwing.core.rng import generator
from lapwing.core.storage import canonical_json, content_hash, key_of
from lapwing.core.types import BestKnown, Transition
from lapwing.games.adapters._pettingzoo_live import NO_CHANCE
from lapwing.games.adapters._replayed import Moved, ReplayedState, Replayer, _shared_generators
from lapwing.games.adapters._textworld_views import Guide, Scene, TextworldState, TextworldView, cleaned, without
from lapwing.games.adapters._words import split_words

_INSTALL = 'pip install "lapwing[textworld]"'
SPLITS = ("all", "train", "development", "test")
# What a maker is told if the recipe does not say it.
CHALLENGES: dict[str, dict[str, Any]] = {
    "simple": {"rewards": "dense", "goal": "brief", "test": False},
    "coin_collector": {"level": 5},
    "treasure_hunter": {"level": 1},
    "cooking": {
        **{"recipe": 1, "take": 1, "go": 1, "open": False, "cook": True, "cut": False, "drop": False},
        **{"split": None, "recipe_seed": 0},
    },
    "custom": {"rooms": 3, "objects": 5, "quest_length": 3},
}
# Commands that change nothing; but for `examine`, what they tell stands in the view.
_LOOKING = ("look", "inventory", "examine ")
_HEARD_STEPS = 30
# What the interpreter reads of a command, in characters.
_LONGEST_COMMAND = 180


@dataclass(frozen=True)
class Textworld:
    """Play a text adventure that TextWorld generates: rooms, doors, keys, containers, and a quest.

    | action | meaning |
    | --- | --- |
    | go east, open chest drawer, take old key from … | one of the commands that the view lists |
    | any text | with `open_ended`: what the interpreter does not understand changes nothing |

    View: the objective, what the interpreter said to the last command, the room, what is carried, and the admissible
    commands (none with `open_ended`).

    Start: one of the games of the split. Games are made by their seeds, `first_seed` and those that follow: `games` for
    training, `held_out` for development, `held_out` for the test; with `held_out = 0` all splits have the games of
    training. A game is made once and kept in Lapwing's cache.

    Reward: the points that the command scored. Winning is success and ends the match, and so does losing. The
    heuristic follows TextWorld's own walkthrough from wherever the player is, and earns all points of the quests.

    Reference: Côté et al. 2018, "TextWorld: A Learning Environment for Text-based Games".
      https://arxiv.org/abs/1806.11532

    Attributes:
      challenge: "simple" (a house, a key and a meal), "coin_collector", "treasure_hunter", "cooking", or "custom".
      settings: of the challenge, as the options of `tw-make`; of "custom" `rooms`, `objects` and `quest_length`.
      path: a game file of one's own (`.z8`, with its `.json` beside it), which is then the only game.
      games, held_out, first_seed: see above.
      open_ended: take any text as a command.
      looking: list the commands that change nothing too: look, inventory, examine.
      split: "all", "train", "development" or "test"; set by the engine.
    """

    challenge: str = "coin_collector"
    settings: dict[str, Any] | None = field(default=None, compare=False)
    path: str = ""
    games: int = 1
    held_out: int = 1
    first_seed: int = 0
    open_ended: bool = False
    looking: bool = True
    split: str = "all"

    _key: str = field(init=False, repr=False, default="")

    num_players: ClassVar[int] = 1
    restorable: ClassVar[bool] = True
    has_success: ClassVar[bool] = True
    reward_range: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    score_part: ClassVar[str] = "score"

    def __post_init__(self) -> None:
        if self.challenge not in CHALLENGES:
            raise UserError(f"There is no challenge '{self.challenge}'; {nearest(self.challenge, CHALLENGES)}")
        if self.split not in SPLITS:
            raise UserError(f"There is no split '{self.split}'; {nearest(self.split, SPLITS)}")
        if self.games < 1 or self.held_out < 0:
            raise UserError("game.games is a number of games of at least 1, and game.held_out of at least 0.")
        known = CHALLENGES[self.challenge]
        for name in self.settings or {}:
            if name not in known:
                raise UserError(f"The challenge '{self.challenge}' has no setting '{name}'; {nearest(name, known)}")
        if self.path and not (Path(self.path).is_file() and Path(self.path).with_suffix(".json").is_file()):
            raise UserError(f"There is no game file {self.path!r} with its .json beside it; make one with tw-make.")
        object.__setattr__(self, "_key", canonical_json({**known, **(self.settings or {})}))

    def for_split(self, split: str) -> "Textworld":
        """The same game with the seeds of one split."""
        return replace(self, split=split)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The seeds of the split's games."""
        ends = {"train": (0, self.games), "development": (self.games, self.games + self.held_out)}
        ends |= {"test": (self.games + self.held_out, self.games + 2 * self.held_out)}
        if not self.held_out:
            ends = {}  # all splits have the same games
        first, last = ends.get(self.split, (0, self.games + 2 * self.held_out))
        return (0,) if self.path else tuple(range(self.first_seed + first, self.first_seed + last))

    @property
    def best_known(self) -> BestKnown:
        """All points of the quests."""
        most = [_facts(self._file(number)).max_score for number in self.numbers]
        return BestKnown(float(np.mean(most)), "all points of its quests, which the walkthrough earns")

    @property
    def null_ceiling(self) -> float | None:
        """Above the 0.862 of random play in 100 steps, exact; of the default game alone."""
        return 0.96 if self == type(self)(split=self.split) and not self.settings else None

    def initial(self, rng: np.random.Generator) -> TextworldState:
        """Draw a game of the split."""
        numbers = self.numbers
        return self._start(numbers[int(rng.integers(len(numbers)))])

    def initial_outcomes(self) -> list[tuple[float, TextworldState]]:
        """Every game of the split."""
        return [(1.0 / len(self.numbers), self._start(number)) for number in self.numbers]

    def players(self, state: TextworldState) -> tuple[int, ...]:
        """Always the one player."""
        return (0,)

    def view(self, state: TextworldState, player: int) -> TextworldView:
        """What the player is told, without what only the maker knows."""
        scene = state.scene
        commands = () if self.open_ended else self.legal(state, player)
        objective = _facts(self._file(state.game)).objective
        return TextworldView(objective, scene.feedback, scene.description, scene.inventory, commands or ())

    def legal(self, state: TextworldState, player: int) -> tuple[str, ...] | None:
        """The admissible commands."""
        if self.open_ended:
            return None
        commands = state.scene.commands
        found = commands if self.looking else tuple([c for c in commands if not c.startswith(_LOOKING)])
        return found or ("look",)

    def malformed(self, reason: str) -> str:
        """An unreadable reply changes nothing."""
        return "look"

    def step(self, state: TextworldState, actions: Mapping[int, str], rng: np.random.Generator) -> Transition:
        """Say a command."""
        return self._stepped(state, actions[0])

    def outcomes(self, state: TextworldState, actions: Mapping[int, str]) -> list[tuple[float, Transition]]:
        """The one outcome: nothing is left to chance."""
        return [(1.0, self._stepped(state, actions[0]))]

    def heuristic(self, state: TextworldState, player: int) -> str:
        """The next command of the walkthrough from here; where nothing leads to the end, the first command."""
        legal = self.legal(state, player)
        wanted = self.walkthrough(state)[:1]
        if wanted and (legal is None or wanted[0] in legal):
            return wanted[0]
        return "look" if legal is None else legal[0]

    def walkthrough(self, state: TextworldState) -> tuple[str, ...]:
        """The commands that lead from here to the end, as TextWorld knows them; empty where none do."""
        return _guide(self._file(state.game)).rest(tuple([actions[0][1] for actions, _ in state.way.moves]))

    def words(self) -> set[str]:
        """The words of the games: names of rooms and things, commands, and all that their walkthroughs show."""
        return set(_words(self))

    def _start(self, number: int) -> TextworldState:
        return _started(self._file(number), number)

    def _stepped(self, state: TextworldState, command: str) -> Transition:
        said = " ".join(command.split())[:_LONGEST_COMMAND]
        found = _known(self._file(state.game), state, said)
        # A state tells its own way, not that of whoever was here first.
        way = ReplayedState(state.way.seed, (*state.way.moves, (((0, said),), 0)), found.state.scene)
        return replace(found, state=replace(found.state, way=way))

    def _file(self, number: int) -> str:
        if self.path:
            return str(Path(self.path).resolve())
        return _made(self.challenge, self._key, number, self.numbers)


class _Adventure:
    """A game file in the interpreter, in the middle of a match."""

    def __init__(self, file: str) -> None:
        textworld = _package()
        infos = dict.fromkeys(("feedback", "description", "inventory", "admissible_commands", "score"), True)
        with warnings.catch_warnings():
            # The interpreter does not know how such games count points; TextWorld does.
            warnings.simplefilter("ignore")
            self.env = textworld.start(file, textworld.EnvInfos(**infos, won=True, lost=True))
        self.objective = _facts(file).objective
        self.score = 0
        self.scored: list[str] = []

    def begin(self, seed: int) -> Scene:
        """Start the game; its seed decided everything when it was made."""
        self.env.seed(1)
        self.score, self.scored = 0, []
        return self._scene(self.env.reset())

    def advance(self, actions: Mapping[int, str], chance: int) -> Moved:
        """Say a command."""
        before = self.score
        found, _, _ = self.env.step(actions[0])
        self.score = int(found["score"] or 0)
        gained = float(self.score - before)
        if gained:
            self.scored.append(actions[0])
        scene = self._scene(found)
        over, won = bool(found["won"] or found["lost"]), bool(found["won"])
        return Moved(scene, {0: gained}, over, {0: won} if over else None, parts={"score": gained}, drew=False)

    def _scene(self, found: Any) -> Scene:
        description = cleaned(found["description"] or "")
        return Scene(
            feedback=without(cleaned(found["feedback"]), description, self.objective),
            description=description,
            inventory=cleaned(found["inventory"] or ""),
            commands=tuple(found["admissible_commands"]),
            score=self.score,
            # Which quests are done is what has scored.
            facts=key_of([sorted(map(str, found["_facts"])), sorted(self.scored)]),
        )


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a game file says of its game."""

    objective: str
    max_score: int


@lru_cache(maxsize=1024)
def _facts(file: str) -> _Facts:
    textworld = _package()
    game = textworld.Game.load(str(Path(file).with_suffix(".json")))
    return _Facts(" ".join(game.objective.split()), int(game.max_score))


@lru_cache(maxsize=256)
def _replayer(file: str) -> Replayer:
    # A copy of the interpreter costs more than the commands that lead to it.
    return Replayer(lambda: _Adventure(file), mode="replay", keep=32)


@lru_cache(maxsize=1024)
def _started(file: str, number: int) -> TextworldState:
    way = _replayer(file).begun(number)
    return TextworldState(number, way.scene, way)


@lru_cache(maxsize=1 << 14)
def _known(file: str, state: TextworldState, command: str) -> Transition:
    """A step; the same command in the same place is said once, whichever way led there."""
    moved = _replayer(file).step(_first_way(file, state), {0: command}, NO_CHANCE)
    after = TextworldState(state.game, moved.state.scene, moved.state)
    _first_way(file, after)
    return replace(moved, state=after)


@lru_cache(maxsize=1 << 14)
def _first_way(file: str, state: TextworldState) -> ReplayedState:  # noqa: ARG001  (part of the key)
    """The way that first led to a place, where an interpreter may stand; equal states give the one that was kept."""
    return state.way


@lru_cache(maxsize=256)
def _guide(file: str) -> Guide:
    textworld = _package()
    return Guide(textworld.start(str(Path(file).with_suffix(".json")), textworld.EnvInfos(policy_commands=True)))


@lru_cache(maxsize=8)
def _words(game: Textworld) -> frozenset[str]:
    found = {"a", "an", "the", "some", "and", ",", ".", ":", "nothing", "You", "are", "carrying"}
    for _, state in game.initial_outcomes():
        described = _package().Game.load(str(Path(game._file(state.game)).with_suffix(".json")))
        names = [info.name or "" for info in described.infos.values()]
        for text in (*names, *(name.title() for name in names), *described.command_templates):
            found.update(text.split(), split_words(text))
        for _ in range(_HEARD_STEPS):
            view = game.view(state, 0)
            for text in (view.objective, view.feedback, view.description, view.inventory, *state.scene.commands):
                found.update(text.split(), split_words(text))
            transition = game.step(state, {0: game.heuristic(state, 0)}, generator("words"))
            if transition.terminated:
                break
            state = transition.state
    return frozenset(found)


# ---------------------------------------------------------------------------------------------------------------------
# Making games.

# In a process of its own: what TextWorld draws depends on the order of its sets, and it touches what others share.
_MAKE = """
import json, sys
sys.path[:], arguments = json.loads(sys.argv[1])
from lapwing.games.adapters.textworld import make_game_file
for seed in arguments["seeds"]:
    make_game_file(arguments["challenge"], arguments["settings"], seed, arguments["folder"])
"""


@lru_cache(maxsize=1024)
def _made(challenge: str, settings: str, number: int, wanted: tuple[int, ...]) -> str:
    """The file of a game; those of its split that do not exist are made together."""
    from filelock import FileLock

    version = _package().__version__
    folder = cache_folder() / "textworld" / content_hash([version, challenge, settings])
    file = folder / str(number) / "game.z8"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "making.lock"):
            missing = [seed for seed in wanted if not (folder / str(seed)).is_dir()]
            _make_elsewhere({"challenge": challenge, "settings": json.loads(settings), "seeds": missing}, folder)
    return str(file)


def _make_elsewhere(arguments: dict[str, Any], folder: Path) -> None:
    path = [os.path.abspath(entry) for entry in sys.path]  # noqa: PTH100  ("" is this folder)
    said = json.dumps([path, {**arguments, "folder": str(folder)}])
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", _MAKE, said]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if finished.returncode:
        last = (finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"])[-1]
        raise UserError(f"TextWorld could not make a game of '{arguments['challenge']}': {last}")


def make_game_file(challenge: str, settings: Mapping[str, Any], seed: int, folder: str | Path) -> None:
    """Make a game and compile it into `folder/seed/`, which is there whole or not at all.

    Args:
      challenge: one of `CHALLENGES`.
      settings: all of its settings.
      seed: of everything that is drawn.
      folder: where its folder goes.
    """
    textworld = _package()
    options = textworld.GameOptions()
    options.seeds = seed
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as temporary:
        options.path = str(Path(temporary) / "game.z8")
        if challenge == "custom":
            options.nb_rooms, options.nb_objects = settings["rooms"], settings["objects"]
            options.quest_length = settings["quest_length"]
            textworld.make(options)
        else:
            import importlib

            importlib.import_module(f"textworld.challenges.tw_{challenge}")
            _, make, _ = textworld.challenges.CHALLENGES[f"tw-{challenge}"]
            textworld.generator.compile_game(make(settings, options), options)
        whole = Path(folder) / str(seed)
        shutil.copytree(temporary, f"{whole}.making", dirs_exist_ok=True)
        Path(f"{whole}.making").rename(whole)


def _package() -> Any:
    try:
        # It draws a seed from NumPy's shared generator when it is imported.
        with _shared_generators(0):
            import textworld
            import textworld.challenges
            import textworld.generator
    except ImportError as error:
        raise UserError(f"The game textworld needs a package that is not installed: {_INSTALL}.") from error
    return textworld

"""What tests of several rooms share: a small tokenizer, small models, scripted agents, matches."""

import functools
import gc
import json
import os
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from lapwing.core.types import Match
from lapwing.games.frozen_lake import ACTIONS, FrozenLake

# No deadline and no complaint about slow data: the machine may be busy. `make soak` sets how many times as many.
for name, examples in (("lapwing", 60), ("few", 10)):
    hypothesis_settings.register_profile(
        name,
        max_examples=examples * int(os.environ.get("LAPWING_SOAK") or 1),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
hypothesis_settings.load_profile("lapwing")


# What costs half a minute or more, and has a shorter relative that guards the same code: part of `make test-long`.
_LONG = (
    "api/test_serving.py::test_the_command_announces_address_and_token_and_ends_on_sigterm",
    "distributed/test_rank_processes.py::test_a_rank_that_dies_ends_the_others_and_the_run_goes_on",
    "distributed/test_ray_collector.py::test_actors_that_die_again_and_again_stop_the_run",
    "distributed/test_ray_collector.py::test_an_actor_that_hangs_is_replaced",
    "distributed/test_ray_collector.py::test_an_actor_with_other_weights_is_named",
    "distributed/test_ray_collector.py::test_an_answer_that_comes_twice_counts_once",
    "distributed/test_ray_collector.py::test_episodes_that_are_too_old_are_dropped_counted_and_played_again",
    "distributed/test_ray_collector.py::test_errors_of_games_and_policies_come_out_and_the_collector_lives_on",
    "distributed/test_ray_collector.py::test_one_iteration_ahead",
    "distributed/test_ray_collector.py::test_two_iterations_of_training_are_those_of_one_process",
    "distributed/test_ray_collector.py::test_what_a_game_started_ends_with_its_actor",
    "distributed/test_ray_collector.py::test_what_cannot_be_built_or_sent_is_said",
    "distributed/test_ray_processes.py::test_a_run_that_is_torn_down_leaves_nothing_either",
    "distributed/test_ray_settings.py::test_a_late_call_starts_no_cluster_of_its_own",
    "docs/test_tutorial.py::test_who_follows_the_tutorial_sees_what_it_shows",
    "equivalence/test_search_qa_learning.py",
    "examples/test_examples.py::test_a_command_of_a_docstring_does_it[lapwing compare",
    "examples/test_examples.py::test_the_crossing_is_learnt",
    "examples/test_examples.py::test_the_whole_idea_learns_to_cross",
    "examples/test_first_run.py::test_the_notebook_runs",
    "faults/test_checkpoints.py::test_f02_a_kill_before_any_operation_of_a_save_leaves_a_whole_checkpoint[over",
    "faults/test_games.py::test_f31_a_game_that_leaks_has_its_worker_replaced",
    "faults/test_games.py::test_f39",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[average",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[isolated",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[lora",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[memory",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[past",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[ppo",
    "faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not[think",
    "faults/test_kills.py::test_f8_what_is_left_of_a_run_is_really_run[after",
    "faults/test_kills.py::test_f8_what_is_left_of_a_run_is_really_run[before",
    "faults/test_recipes.py::test_f56_a_dry_run_passes_if_and_only_if_the_run_starts",
    "faults/test_recipes.py::test_f56_the_real_command_agrees",
    "faults/test_rollback.py::test_f41_updates_that_are_not_finite_in_a_row_end_in_a_rollback",
    "faults/test_signals.py::test_f3_f4_a_signal_saves_the_run_and_leaves_nothing[isolated",
    "faults/test_signals.py::test_f3_f4_a_signal_saves_the_run_and_leaves_nothing[think-15",
    "models/test_footprint.py::test_the_peak_of_an_update_is_foretold_within_a_fifth",
    "recipes/test_learning.py::test_the_bandit_finds_the_best_arm[bandit_tiny_uniform",
    "recipes/test_learning_with_a_pretrained_model.py::test_an_adapter_leaves_for_peft_and_merged",
    "recipes/test_learning_with_a_pretrained_model.py::test_training_an_adapter_is_a_clear_gain",
    "recipes/test_recipes.py::test_a_recipe_for_a_published_model_runs_with_a_toy_in_its_place[snake",
    "recipes/test_recipes.py::test_a_recipe_runs_to_its_report[search_qa_two_hops",
    "recipes/test_recipes.py::test_a_recipe_runs_to_its_report[snake_10x10",
    "recipes/test_search_with_a_pretrained_model.py",
    "report/test_mirrors.py::test_a_run_is_mirrored_and_goes_on_being_mirrored_when_it_is_resumed",
    "test_compare.py::test_a_comparison_that_is_killed_and_started_again_equals_one_that_was_not",
    "test_compare.py::test_a_run_that_fails_ends_the_comparison",
    "test_compare.py::test_a_signal_ends_the_runs_too_and_says_how_to_go_on",
    "test_compare.py::test_games_without_random_play_are_compared",
    "test_eval_server.py::test_the_server_of_transformers_plays_as_the_model_plays_here",
    "test_wheel.py",
    "training/test_critic.py::test_a_resumed_run_has_the_same_critic_to_the_last_bit[copy",
    "training/test_session.py::test_a_broken_cache_is_made_anew",
    "training/test_session.py::test_a_warm_start_on_an_edited_corpus_is_not_taken_from_the_cache",
    "training/test_session.py::test_another_warm_start_is_not_taken_from_the_cache",
    "training/test_session.py::test_the_resolved_recipe_repeats_the_run",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests begin first, those that wait for other processes before the rest, so that no long one is left over."""
    for item in items:
        if any(name in item.nodeid for name in _LONG):
            item.add_marker(pytest.mark.long)
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, "/distributed/" not in item.nodeid))


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is imported by now stays; the garbage collector would look through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The words of the lake in both renderings, of tagged replies, and a few more."""
    from lapwing.models.tiny import tiny_tokenizer
    from lapwing.policies.parsers import Tags
    from lapwing.policies.renderers import Grid

    game = FrozenLake(map_name="4x4")
    view = game.view(game.initial(None), 0)  # type: ignore[arg-type]
    words = Grid(instructions=True).words(view) | Tags(think=True, plan=True).words(ACTIONS)
    return tiny_tokenizer(words | {"arms", "a", "b", "c", "hm", "stop", "!", "board", "A", "E", "T", "_"})


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


_TOYS = runpy.run_path(str(Path(__file__).with_name("toys.py")))
ARCHITECTURES = _TOYS["ARCHITECTURES"]


@pytest.fixture(scope="session")
def make_toy() -> Callable[..., Path]:
    """Writes a toy model of an architecture ("qwen2", "qwen3", "llama", "gemma") into a folder: see `toys.py`."""
    return _TOYS["make_toy"]


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a toy model of an architecture, made once; tests only read it."""

    @functools.cache
    def folder(architecture: str) -> Path:
        return _TOYS["make_toy"](tmp_path_factory.mktemp("toys") / architecture, architecture)

    return folder


_SERVERS = runpy.run_path(str(Path(__file__).with_name("servers.py")))


@pytest.fixture(scope="session")
def run_app() -> Callable[..., Any]:
    """Runs an application of starlette in a thread, as a context that gives its address."""
    return _SERVERS["running"]


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """Serves a run or a model in a thread, as a context that gives address and engine."""
    return _SERVERS["serving"]


@pytest.fixture(scope="session", autouse=True)
def warm_start_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Warm starts of tests are kept apart from those of the person who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("LAPWING_CACHE", str(path))
        yield path


# The default recipe, small enough to be trained in a second: overrides as `--set` takes them.
_SMALL = (
    *("iterations=6", "checkpoint_every=2", "warm_start.iterations=3"),
    *("model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("sampler.groups=3", "sampler.group_size=6", "warm_start.sampler.groups=4", "optimizer.epochs=2"),
    *("evaluation.episodes=12", "evaluation.development_episodes=6", "evaluation.every=2"),
)


@pytest.fixture(scope="session")
def small() -> tuple[str, ...]:
    """Overrides that make any shipped lake recipe small."""
    return _SMALL


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, warm_start_cache: Path) -> Path:
    """A small run of the default recipe that nothing interrupted; tests only read it."""
    import lapwing

    path = tmp_path_factory.mktemp("runs") / "small"
    return lapwing.train("frozen_lake_tiny", run=path, overrides=_SMALL).path


@pytest.fixture(scope="session")
def what_counts() -> Callable[[Path], dict[str, Any]]:
    """All of a run that must repeat to the last bit: everything but wall times and the history in the manifest."""

    def contents(run: Path) -> dict[str, Any]:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        # A save that died leaves a hidden folder behind.
        last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
        state = json.loads((last / "state" / "state.json").read_text("utf-8"))
        state["totals"] = {name: total for name, total in state["totals"].items() if name != "seconds"}
        files = [
            run / "recipe.toml",
            *run.glob("evaluation*.json"),
            *run.glob("episodes/*"),
            *last.rglob("*.safetensors"),
        ]
        return {
            "metrics": [{name: v for name, v in row.items() if not name.startswith("time/")} for row in rows],
            "state": state,
            **{str(path.relative_to(run)): path.read_bytes() for path in files},
        }

    return contents

"""The package gymnasium: environments made by it, as the adapters want them."""

import copy
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from lapwing.core.errors import UserError, closest, shown
from lapwing.games.adapters._own_generators import layers_of


def gymnasium_package() -> Any:
    """The package.

    Raises:
      UserError: it is not installed.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise UserError('This needs the package gymnasium: pip install "lapwing[gymnasium]".') from error
    return gymnasium


def made_environment(name: str, options: Mapping[str, Any]) -> Any:
    """An environment by its id, without the time limit that Gymnasium would put around it.

    Args:
      name: as `gymnasium.make` takes it, `module:Name-v0` included.
      options: keyword arguments of `gymnasium.make`.

    Raises:
      UserError: there is no such environment, it lacks a package, or it does not take the options.
    """
    gymnasium = gymnasium_package()
    _refuse_reserved(options)
    try:
        with warnings.catch_warnings():  # of an old version, which is refused in our words
            warnings.simplefilter("ignore", DeprecationWarning)
            return gymnasium.make(name, max_episode_steps=-1, disable_env_checker=True, **options)
    except gymnasium.error.DependencyNotInstalled as error:
        raise UserError(f"The environment {shown(name)} needs a package that is not installed: {error}") from error
    except (gymnasium.error.UnregisteredEnv, gymnasium.error.DeprecatedEnv):
        raise UserError(_unknown(name)) from None
    except ModuleNotFoundError as error:
        raise UserError(f"The environment {shown(name)} could not be imported: {error}.") from error
    except (TypeError, ValueError, KeyError, AssertionError, gymnasium.error.Error) as error:
        if str(error).startswith("Malformed environment ID"):
            raise UserError(_unknown(name)) from None
        raise UserError(
            f"The environment {shown(name)} does not take game.options {shown(dict(options))}: {error}"
        ) from (error)


def _unknown(name: str) -> str:
    """A sentence on an id that nobody registered, with the nearest of those that somebody did."""
    package, _, bare = name.rpartition(":")
    space = bare.rpartition("/")[0]
    newest: dict[str, Any] = {}
    for spec in gymnasium_package().registry.values():
        key = spec.id.rpartition("-v")[0] or spec.id
        # Bridges to older packages are no environments.
        if not key.startswith("GymV2") and (key not in newest or (spec.version or 0) > newest[key].version):
            newest[key] = spec
    known = [spec.id for spec in newest.values() if (spec.namespace or "") == space]
    close = closest(bare, known) or ([] if space else closest(bare, [spec.id for spec in newest.values()]))
    said = [f"{package}:{other}" if package else other for other in close]
    hint = f"did you mean {' or '.join(said)}?" if said else "gymnasium.pprint_registry() lists those that it has."
    if said or package:
        return f"Gymnasium has no environment {shown(name)}; {hint}"
    return (
        f"Gymnasium has no environment {shown(name)}; {hint} One of another package is named with the module that "
        "registers it, as in 'ale_py:ALE/Pong-v5'."
    )


def _refuse_reserved(options: Mapping[str, Any]) -> None:
    for name in ("max_episode_steps", "disable_env_checker"):
        if name in options:
            raise UserError(f"game.options.{name} is Lapwing's to set: the step cap of a match is sampler.max_steps.")


def copied_environment(env: Any) -> Any:
    """A copy of an environment that somebody made.

    Raises:
      UserError: it cannot be copied.
    """
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever its parts do when they are copied
        raise UserError(
            f"The environment {shown(type(env).__name__)} cannot be copied ({type(error).__name__}: {error}); pass its "
            "id, or a function that makes it."
        ) from error


def without_time_limits(env: Any) -> Any:
    """The environment without the wrappers that cut its episodes; wrappers around them are changed in place."""
    if type(env).__name__ == "TimeLimit":
        return without_time_limits(env.env)
    if "env" in getattr(env, "__dict__", {}):
        env.env = without_time_limits(env.env)
    return env


def check_one_environment(env: Any) -> None:
    """See whether something is one environment of Gymnasium.

    Raises:
      UserError: it is something else.
    """
    if hasattr(env, "num_envs") and hasattr(env, "single_action_space"):
        raise UserError("game.env is one environment, not a vector of them: Lapwing plays many matches at once itself.")
    if hasattr(env, "possible_agents"):
        raise UserError("game.env is an environment of several agents; lapwing.from_pettingzoo makes a game of it.")
    if not hasattr(env, "unwrapped"):
        raise UserError(f"The function that makes the environment returned {shown(env)}; it is no Gymnasium one.")


def began(env: Any, seed: int, name: str) -> tuple[Any, Mapping[str, Any]]:
    """The observation and the info of a reset.

    Raises:
      UserError: it does not take a seed, or returns something else.
    """
    try:
        found = env.reset(seed=seed)
    except TypeError as error:
        if "'seed'" not in str(error):
            raise
        raise UserError(
            f"The reset of {shown(name)} takes no seed: write reset(self, *, seed=None, options=None)."
        ) from (error)
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)):
        raise UserError(f"The reset of {shown(name)} returns no (observation, info), as Gymnasium's do since 0.26.")
    return found


def moved_on(env: Any, action: Any, name: str) -> tuple[Any, Any, Any, Any, Mapping[str, Any]]:
    """What a step returned.

    Raises:
      UserError: it is not what Gymnasium's steps return.
    """
    found = env.step(action)
    if not (isinstance(found, tuple) and len(found) == 5):
        raise UserError(
            f"The step of {shown(name)} returns no (observation, reward, terminated, truncated, info), as Gymnasium's "
            "do since 0.26."
        )
    return found


def acts_as_made(env: Any) -> bool:
    """Whether an action means what it means to the inmost environment."""
    inner = env.unwrapped
    return env.action_space == inner.action_space and not _has_wrapper(env, "ActionWrapper", {"StickyAction"})


def shows_as_made(env: Any) -> bool:
    """Whether an observation is what the inmost environment shows."""
    inner = env.unwrapped
    return env.observation_space == inner.observation_space and not _has_wrapper(env, "ObservationWrapper", set())


def _has_wrapper(env: Any, kind: str, but: set[str]) -> bool:
    names = [{base.__name__ for base in type(layer).__mro__} for layer in layers_of(env)]
    return any(kind in own and not own & but for own in names)


def registered(env: Any) -> tuple[str, dict[str, Any]] | None:
    """The id and the options that make an environment anew; None where it takes more than that to make it."""
    spec = getattr(env, "spec", None)
    if isinstance(env, str) or spec is None or spec.additional_wrappers or not _is_plain(spec.kwargs):
        return None
    wrappers = [type(layer).__name__ for layer in layers_of(env)][:-1]
    known = getattr(gymnasium_package().registry.get(spec.id), "entry_point", None) == spec.entry_point
    if not known or set(wrappers) - {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker"}:
        return None
    options = {name: value for name, value in spec.kwargs.items() if name != "render_mode"}
    return f"{_registering_module(spec)}{spec.id}", options


def _registering_module(spec: Any) -> str:
    """The package of an environment as the start of its id, so that a process that has not imported it finds it."""
    entry = spec.entry_point
    package = (entry.partition(":")[0] if isinstance(entry, str) else entry.__module__).partition(".")[0]
    # What a program or a test registers itself is known to it alone.
    is_importable = package != "__main__" and getattr(sys.modules.get(package), "__file__", None) is not None
    return "" if package == "gymnasium" or not is_importable else f"{package}:"


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def registered_limit(env: Any) -> int | None:
    """After how many steps Gymnasium cuts an episode of an environment that was made by its id."""
    return gymnasium_package().registry[env.spec.id].max_episode_steps


def limit_of(env: Any) -> int | None:
    """After how many steps the wrappers of an environment cut its episodes."""
    limits = [layer._max_episode_steps for layer in layers_of(env) if type(layer).__name__ == "TimeLimit"]
    return min(limits, default=None)


def module_of(env: Any) -> Any:
    """The module that the inmost environment comes from."""
    return sys.modules[type(env.unwrapped).__module__]

"""The package gymnasium: environments made by it, as the adapters want them."""

import copy
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from lapwing.core.errors import UserError, nearest, shown


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
        known = [key for key in gymnasium.registry if "/" not in key or "/" in name]
        raise UserError(f"Gymnasium has no environment {shown(name)}; {nearest(name, known)}") from None
    except ModuleNotFoundError as error:
        raise UserError(f"The environment {shown(name)} could not be imported: {error}.") from error
    except (TypeError, ValueError, KeyError, AssertionError, gymnasium.error.Error) as error:
        raise UserError(
            f"The environment {shown(name)} does not take game.options {shown(dict(options))}: {error}"
        ) from (error)


def _refuse_reserved(options: Mapping[str, Any]) -> None:
    for name in ("max_episode_steps", "disable_env_checker"):
        if name in options:
            raise UserError(f"game.options.{name} is Lapwing's to set: the step cap of a match is sampler.max_steps.")


def copied_environment(env: Any) -> Any:
    """A copy of an environment that somebody made, without time limits.

    Raises:
      UserError: it cannot be copied.
    """
    try:
        return without_time_limits(copy.deepcopy(env))
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


def registered(env: Any) -> tuple[str, dict[str, Any]] | None:
    """The id and the options that make an environment anew; None where it takes more than that to make it."""
    spec = getattr(env, "spec", None)
    if isinstance(env, str) or spec is None or spec.additional_wrappers or not _is_plain(spec.kwargs):
        return None
    wrappers = []
    while "env" in vars(env):
        wrappers.append(type(env).__name__)
        env = env.env
    known = getattr(gymnasium_package().registry.get(spec.id), "entry_point", None) == spec.entry_point
    if not known or set(wrappers) - {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker"}:
        return None
    return spec.id, {name: value for name, value in spec.kwargs.items() if name != "render_mode"}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str))


def time_limit(env: Any) -> int | None:
    """After how many steps Gymnasium would cut an episode of an environment, given by its id or itself."""
    spec = gymnasium_package().spec(env) if isinstance(env, str) else getattr(env, "spec", None)
    return None if spec is None else spec.max_episode_steps


def module_of(env: Any) -> Any:
    """The module that the inmost environment comes from."""
    return sys.modules[type(env.unwrapped).__module__]

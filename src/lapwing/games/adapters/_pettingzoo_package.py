"""The package pettingzoo: environments made by it, as the adapter wants them."""

import copy
import importlib
import importlib.util
import pkgutil
import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from lapwing.core.errors import UserError, closest, shown
from lapwing.games.adapters._pettingzoo_known import KNOWN

# Where environments are looked for by their bare name.
_FAMILIES = ("classic", "butterfly", "sisl", "atari")
_INSTALL = 'pip install "lapwing[pettingzoo]"'


def environment_of(source: Any, settings: Mapping[str, Any], api: str | None) -> Any:
    """A new environment; an environment that was given is copied.

    Args:
      source: a name, a module, a function that makes one, or an environment.
      settings: keyword arguments of what makes it.
      api: "aec", "parallel", or None for whichever there is.

    Raises:
      UserError: there is none, or it cannot be made.
    """
    package = pettingzoo_package()
    if isinstance(source, (package.AECEnv, package.ParallelEnv)):
        if settings:
            raise UserError("game.settings are for environments that are made here, and this one was given.")
        try:
            return copy.deepcopy(source)
        except Exception as error:  # whatever its parts raise when they are copied
            raise UserError(f"{name_of(source)} cannot be copied ({error}); give a function that makes one.") from error
    maker = _maker(_module(source) if isinstance(source, str) else source, api)
    try:
        env = maker(**settings)
    except (TypeError, AssertionError, ValueError) as error:
        raise UserError(f"{shown(source)} refuses its settings {settings}: {error}.") from error
    except ImportError as error:
        raise UserError(f"{shown(source)} needs a package that is not installed: {error}.") from error
    if not isinstance(env, (package.AECEnv, package.ParallelEnv)):
        raise UserError(f"{shown(source)} makes a {type(env).__name__}, which is no environment of PettingZoo.")
    return env


def _maker(source: Any, api: str | None) -> Callable[..., Any]:
    if not isinstance(source, ModuleType):
        if not callable(source):
            raise UserError(f"{shown(source)} is no environment of PettingZoo: give a name, a module or a function.")
        return source
    names = {"aec": ("env",), "parallel": ("parallel_env",), None: ("parallel_env", "env")}[api]
    for name in names:
        if hasattr(source, name):
            return getattr(source, name)
    raise UserError(f"{source.__name__} has no {' and no '.join(names)}; choose another api or environment.")


def _module(name: str) -> ModuleType:
    """The module of an environment that belongs to PettingZoo; code of others is given from Python."""
    package = pettingzoo_package()
    bare = name.rpartition(".")[2]
    wanted = [name] if "." in name else [f"{package.__name__}.{family}.{bare}" for family in _FAMILIES]
    for full in wanted:
        if full.startswith(f"{package.__name__}.") and _exists(full):
            try:
                with warnings.catch_warnings():
                    # Of the modules, in favour of a registry of strings, which earlier versions do not have.
                    warnings.simplefilter("ignore", DeprecationWarning)
                    return importlib.import_module(full)
            except ImportError as error:
                raise UserError(f"{name} needs a package that is not installed: {error}.") from error
    near = closest(bare, _names(package))
    said = f"did you mean {' or '.join(near)}?" if near else f"such are {', '.join(sorted(KNOWN))}."
    raise UserError(
        f"PettingZoo has no environment {shown(name)}; {said} One of another package is given from Python: "
        "lapwing.from_pettingzoo(module)."
    )


def _names(package: ModuleType) -> list[str]:
    """The environments of the package, whatever they need, with the number of their version."""
    folders = [f"{folder}/{family}" for folder in package.__path__ for family in _FAMILIES]
    found = {module.name for module in pkgutil.iter_modules(folders)}
    return sorted(name for name in found if name.rpartition("_v")[2].isdigit())


def _exists(full: str) -> bool:
    try:
        return importlib.util.find_spec(full) is not None
    except (ImportError, ValueError):
        return False


def pettingzoo_package() -> Any:
    """The package.

    Raises:
      UserError: it is not installed.
    """
    try:
        import pettingzoo
    except ImportError as error:
        raise UserError(f"The game pettingzoo needs a package that is not installed: {_INSTALL}.") from error
    return pettingzoo


def is_turns(env: Any) -> bool:
    """Whether agents act one after the other (AEC)."""
    return isinstance(env, pettingzoo_package().AECEnv)


def name_of(env: Any) -> str:
    """What an environment calls itself."""
    return str(getattr(env, "metadata", {}).get("name", type(env).__name__))

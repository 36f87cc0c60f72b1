"""The credit methods that an audit can run, and what keeps the others out of it."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lapwing.core import registry
from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import producer
from lapwing.core.errors import UserError, nearest
from lapwing.core.memory import bound
from lapwing.core.ragged import segment_mean

# Registered columns in units of reward: they are doubled with the rewards.
_IN_REWARD = (
    "value", "final_value", "token_value", "v_low", "v_high", "v_term", "exact_advantage", "branch_value",
    "next_branch_value", "domain_reward",
)  # fmt: skip

_CRITICS = ("annotate/value", "annotate/token_value", "annotate/hierarchy_values")


class Method(NamedTuple):
    """A credit method with its settings.

    Attributes:
      name: of the method.
      credit: batch to advantage, by step or by token.
      settings: that were bound.
      level: "step" or "token".
      scope: what may influence an episode's number, "group" or "batch".
    """

    name: str
    credit: Callable[..., np.ndarray]
    settings: Mapping[str, Any]
    level: str
    scope: str

    def by_step(self, batch: EpisodeBatch) -> np.ndarray:
        """The advantage of each step, float64 [N]; of a method that works by token, the mean over the reply."""
        found = bound(self.credit, self.settings)(batch)
        return segment_mean(found, batch.token_splits) if self.level == "token" else np.asarray(found)


def find_methods(
    names: Sequence[str] | None,
    columns: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    allow_code: tuple[str, ...] = (),
) -> tuple[list[Method], dict[str, str]]:
    """The methods that can be audited, and for every other one the reason why not.

    Args:
      names: of the methods, or `my_pkg.my_file:my_method`; None for all, and those outside Lapwing that have settings.
      columns: registered columns that the batch has.
      settings: of some methods, by name; the others keep their defaults.
      allow_code: packages outside Lapwing whose methods may be named.

    Raises:
      UserError: there is no such method, or its package was not allowed.
    """
    known = registry.names("credit")
    found, left_out = [], {}
    for name in [*known, *(name for name in settings or {} if name not in known)] if names is None else names:
        if name not in known and ":" not in name:
            is_modulation = name in registry.names("modulation")
            hint = "it is a modulation, and an audit takes none." if is_modulation else nearest(name, known)
            raise UserError(f"There is no credit method '{name}'; {hint}")
        credit = registry.resolve("credit", name, allow_code=allow_code)
        module = sys.modules[inspect.unwrap(credit).__module__]
        missing = [column for column in getattr(module, "NEEDS", ()) if column not in columns]
        if missing:
            left_out[name] = _missing(missing)
            continue
        found.append(
            Method(
                name=name,
                credit=credit,
                settings=dict((settings or {}).get(name, {})),
                level=getattr(module, "LEVEL", "step"),
                scope=getattr(module, "SCOPE", "group"),
            )
        )
    return found, left_out


def _missing(columns: Sequence[str]) -> str:
    suppliers = {column: producer(column) for column in columns}
    is_learned = any(supplier in _CRITICS for supplier in suppliers.values())
    needs = ", ".join(f"{column} ({supplier} supplies it)" for column, supplier in suppliers.items())
    return f"needs {needs}" + ("; an audit has no trained critic" if is_learned else "")


def is_in_reward_units(method: Method, batch: EpisodeBatch, advantage: np.ndarray) -> bool:
    """Whether the advantage doubles with the rewards; one that divides by a deviation stays as it is.

    Args:
      method: what to try.
      batch: some episodes.
      advantage: of the method on them, [N].
    """
    doubled = {name: 2.0 * batch.extra[name] for name in _IN_REWARD if name in batch.extra}
    twice = method.by_step(batch.with_columns(reward=2.0 * batch.reward, outcome=2.0 * batch.outcome, **doubled))
    return bool(np.linalg.norm(twice - 2.0 * advantage) <= 1e-6 * np.linalg.norm(twice))

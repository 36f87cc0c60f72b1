"""The pool of past versions of a stage's learning policy."""

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lapwing.build.seats import pool_settings
from lapwing.build.stage_plan import StagePlan, invalid_settings


def make_pool(
    stage: StagePlan, agent: Any, model: Any, make_generator: Callable[[Any], Any], *, is_sent: bool = False
) -> Any:
    """The pool, where seats play with one; else None.

    Args:
      stage: its settings.
      agent: who learns.
      model: whose weights it learns.
      make_generator: as that of the agent, for another model.
      is_sent: the versions are those of another process, which sends them.
    """
    from lapwing.models.frozen import frozen_twin, trained_weights
    from lapwing.policies.agent import InvalidRule
    from lapwing.policies.past_versions import PastVersions

    settings = pool_settings(stage)
    if settings is None:
        return None

    def freeze(weights: Mapping[str, Any]) -> Any:
        other = copy.copy(agent)
        other.generator = make_generator(frozen_twin(model, weights))
        return other

    return PastVersions(
        agent,
        settings,
        weights=None if is_sent else functools.partial(trained_weights, model),
        freeze=freeze,
        invalid=InvalidRule(**invalid_settings(stage.policy)),
    )


def forget(agents: Sequence[Any], past: Any) -> None:
    """Empty what generators remember of weights that have changed, and of those that have not.

    Args:
      agents: who learn.
      past: the pool of the first, if there is one.
    """
    for agent in agents:
        agent.generator.forget()
    if past is not None:
        past.forget()


def release(agents: Sequence[Any]) -> None:
    """Give back what generators hold on the learner's device.

    Args:
      agents: who learn.
    """
    for agent in agents:
        getattr(agent.generator, "release", lambda: None)()

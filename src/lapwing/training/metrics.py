"""What is logged: every metric's name, unit and meaning, and the functions that compute them."""

import re
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import PART_PREFIX
from lapwing.core.ragged import has_spread, segment_sum
from lapwing.core.starts import start_index

# The critics and their heads.
CRITICS = {"value": ("value",), "token_value": ("token_value",), "hierarchy_values": ("v_low", "v_high", "v_term")}


class Metric(NamedTuple):
    """Unit and meaning of a metric."""

    unit: str
    meaning: str


def _critic_metrics() -> dict[str, Metric]:
    found = {}
    for critic, heads in CRITICS.items():
        for head in heads:
            found[f"critic/{head}_loss"] = Metric("reward²", f"value loss of {head}, mean over the critic's updates")
            found[f"critic/{head}_explained_variance"] = Metric(
                "share", f"variance of the targets that {head} foresaw when the episodes were played"
            )
        found[f"critic/{critic}_gradient_norm"] = Metric(
            "1", f"length of the gradient of the critic {critic} before clipping, mean over its updates"
        )
        found[f"critic/{critic}_nonfinite"] = Metric(
            "updates", f"updates of the critic {critic} left out because the loss or gradient was not finite"
        )
    return found


def _bounds() -> dict[str, Metric]:
    units = {"success": "share", "not_lost": "share", "score": "score", "return": "reward", "valid": "share"}
    return {
        f"evaluation/{name}_{bound}": Metric(unit, f"{bound}er bound of the 95 % interval of evaluation/{name}")
        for name, unit in units.items()
        for bound in ("low", "high")
    }


METRICS: dict[str, Metric] = {
    "rollout/return_mean": Metric("reward", "mean training return of the episodes played, format penalties included"),
    "rollout/return_half_width": Metric(
        "reward",
        "half of the 95 % interval of return_mean: Student's t over the starts, whose episodes go together, or over "
        "the matches of a single start; absent for a single match",
    ),
    "rollout/domain_return_mean": Metric("reward", "mean return by the game's own rewards"),
    "rollout/success": Metric("share", "episodes that succeeded, before any filter; absent without such a notion"),
    "rollout/success_half_width": Metric("share", "half of the 95 % interval of success, as of return_mean"),
    "rollout/length": Metric("steps", "mean length of an episode"),
    "rollout/valid": Metric("share", "replies that parsed to a legal action"),
    "rollout/tokens_per_step": Metric("tokens", "mean length of a reply"),
    "rollout/part:<name>": Metric("1", "a named part of the reward, summed over an episode, mean over the episodes"),
    "rollout/seat_return:<seat>": Metric(
        "reward", "domain_return_mean of one seat; absent where one seat alone learns"
    ),
    "rollout/seat_success:<seat>": Metric("share", "success of one seat; absent where one seat alone learns"),
    "rollout/past_return:<version>": Metric(
        "reward",
        "domain_return_mean against a past version, named by the iteration after which it was taken, or now",
    ),
    "rollout/past_success:<version>": Metric("share", "success against a past version"),
    "rollout/past_episodes:<version>": Metric("episodes", "played against a past version in this iteration"),
    "rollout/top_action": Metric("share", "steps with the action that was played most, of those with a legal one"),
    "rollout/zero_spread_groups": Metric("share", "groups whose episodes all have the same return: no signal"),
    "rollout/dropped": Metric("matches", "given up at the deadline, or over before the policy's turn"),
    "rollout/failed": Metric(
        "matches", "left out: their game failed, and failed again when they were played once more"
    ),
    "rollout/reissued": Metric("matches", "given out once more: their game failed, or its process died or hung"),
    "rollout/stale": Metric("episodes", "played ahead, but with weights too old, since the stage began; played again"),
    "rollout/episodes": Metric("episodes", "episodes played since the stage began"),
    "rollout/steps": Metric("steps", "decisions since the stage began"),
    "rollout/tokens": Metric("tokens", "reply tokens sampled since the stage began"),
    "collector/deaths": Metric(
        "processes", "actors or workers that died or hung and were replaced, since the stage began"
    ),
    "collector/recycled": Metric("processes", "workers that were replaced because they held too much memory"),
    "collector/slow": Metric("processes", "workers that were replaced because they lagged behind the others"),
    "collector/reissued": Metric("episodes", "that had to be played once more because of that"),
    "collector/duplicates": Metric("answers", "that came when others had taken their place, and were dropped"),
    "collector/weight_bytes": Metric("bytes", "weights put into the object store since the stage began"),
    "collector/wait_seconds": Metric("s", "waiting for actors since the stage began"),
    "sampler/rounds": Metric(
        "rounds", "of play in this iteration: one, and one for every time that reviews asked for more"
    ),
    "sampler/replayed_groups": Metric("groups", "played because a review asked for them"),
    "sampler/dropped_groups": Metric("groups", "played and reviewed, but not trained on"),
    "sampler/unfiltered_success": Metric(
        "share", "success of all episodes that were played without a hint, whether or not their group is trained on"
    ),
    "sampler/hint_ratio": Metric("share", "of the solution that was given away, mean over the groups trained on"),
    "sampler/hinted_success": Metric(
        "share", "success of the episodes that were played with a hint; absent if none was"
    ),
    "sampler/value_mean": Metric("share", "success that the estimator expected of the groups drawn, mean"),
    "sampler/value_error": Metric(
        "share", "mean |success of a group − what the estimator expected|, before it learnt from it"
    ),
    "sampler/effective_ratio": Metric("share", "groups drawn that were expected to hold success and failure"),
    "sampler/mask": Metric("share", "probability that a decision was restricted to what the game's heuristic allows"),
    "selection/episodes": Metric("episodes", "episodes trained on in this iteration"),
    "policy/entropy": Metric(
        "nats", "mean entropy of the next-token distributions over the tokens that are trained on"
    ),
    "policy/kl": Metric(
        "nats", "k3 divergence between the weights that played and the trained ones, before each update"
    ),
    "policy/clip_share": Metric("share", "tokens whose ratio left 1 ± 0.2"),
    "policy/gap": Metric("nats", "mean |log-probability of the sampler − of the trainer| under the same weights"),
    "policy/gap_max": Metric("nats", "largest such gap"),
    "policy/stale_share": Metric("share", "tokens that older weights played than those with which the update began"),
    "policy/truncated_share": Metric("share", "tokens whose ratio would have begun above the learner's max_ratio"),
    "update/loss": Metric("1", "weighted loss with regularisers, mean over the updates"),
    "update/gradient_norm": Metric("1", "length of the gradient before clipping, mean over the updates"),
    "update/learning_rate": Metric("1", "learning rate of the iteration"),
    "update/count": Metric("updates", "optimiser steps in this iteration"),
    "update/skipped": Metric("0 or 1", "nothing was updated: no episode carried a signal, or a critic warmed up"),
    "update/nonfinite": Metric("updates", "left out because a loss, a gradient, a moment or a weight was not finite"),
    "update/padding_share": Metric("share", "places of the forward and backward passes that held no token"),
    "update/out_of_memory": Metric(
        "times", "passes were made half as large, for good, because the device had no memory for them"
    ),
    **_critic_metrics(),
    "evaluation/success": Metric("share", "success on the development matches, sampled"),
    "evaluation/not_lost": Metric(
        "share", "development matches against others with a return of at least 0: wins and draws, sampled"
    ),
    "evaluation/score": Metric("score", "the game's score on the development matches, sampled"),
    "evaluation/return": Metric("reward", "domain return on the development matches, sampled"),
    "evaluation/part:<name>": Metric("1", "the same on the development matches, sampled"),
    "evaluation/valid": Metric("share", "valid replies on the development matches"),
    **_bounds(),
    "time/play": Metric("s", "playing, in this iteration"),
    "time/credit": Metric("s", "packing, filters, credit, selection and aggregation, in this iteration"),
    "time/update": Metric("s", "updating, in this iteration"),
    "time/evaluation": Metric("s", "evaluating on development matches, in this iteration"),
    "time/checkpoint": Metric("s", "writing the checkpoint before this iteration"),
    "time/learning": Metric("s", "playing, credit and updating since the stage began"),
}


# Names that hold a name or a number of the run's own, and how the table above writes them.
_PLACES = {
    "part": "name",
    **dict.fromkeys(("seat_return", "seat_success"), "seat"),
    **dict.fromkeys(("past_episodes", "past_return", "past_success"), "version"),
}
_OPEN = re.compile(f"({'|'.join(_PLACES)}):.*")
# What is of one set of weights, where seats have weights of their own.
_OF_SEAT = re.compile(r"(policy|update|critic)/\w+(?=:[0-9]+$)")


def as_described(name: str) -> str:
    """The name under which a logged metric is described in `METRICS`."""
    if of_seat := _OF_SEAT.match(name):
        return of_seat[0]
    return _OPEN.sub(lambda found: f"{found[1]}:<{_PLACES[found[1]]}>", name)


def rollout_metrics(batch: EpisodeBatch) -> dict[str, float]:
    """Means over the episodes of one iteration, before any filter, and how much was played."""
    returns = batch.episode_return
    domain = segment_sum(batch.column("domain_reward"), batch.step_splits) + batch.outcome
    success = batch.column("success")
    spread, start = has_spread(returns, batch.group), start_index(batch)
    _, first = np.unique(batch.group, return_index=True)
    metrics = {
        "rollout/return_mean": float(returns.mean()),
        **_half_width("return", returns, start, batch.match),
        "rollout/domain_return_mean": float(domain.mean()),
        "rollout/length": float(batch.episode_length.mean()),
        "rollout/valid": float(batch.valid.mean()),
        "rollout/tokens_per_step": float(np.diff(batch.token_splits).mean()),
        **_top_action(batch),
        "rollout/zero_spread_groups": float(1.0 - spread[first].mean()),
        "rollout/new_episodes": batch.num_episodes,
        "rollout/new_steps": batch.num_steps,
        "rollout/new_tokens": batch.num_tokens,
    }
    for name in batch.extra:
        if name.startswith(PART_PREFIX):
            metrics[f"rollout/{name}"] = float(segment_sum(batch.extra[name], batch.step_splits).mean())
    if not np.isnan(success).all():
        known = ~np.isnan(success)
        metrics["rollout/success"] = float(np.nanmean(success))
        metrics |= _half_width("success", success[known], start[known], batch.match[known])
    return metrics | _by_seat(batch, domain, success) | _by_version(batch, domain, success)


def _by_seat(batch: EpisodeBatch, domain: np.ndarray, success: np.ndarray) -> dict[str, float]:
    """Return and success of each seat that learns, where several do."""
    seats = np.unique(batch.player)
    found: dict[str, float] = {}
    for seat in seats.tolist() if len(seats) > 1 else ():
        found |= _means("seat", seat, batch.player == seat, domain, success)
    return found


def _by_version(batch: EpisodeBatch, domain: np.ndarray, success: np.ndarray) -> dict[str, float]:
    """Return and success against each version of a pool of past versions."""
    version = batch.extra.get("opponent_version")
    found: dict[str, float] = {}
    for one in () if version is None else np.unique(version).tolist():
        name = "now" if one < 0 else one
        found[f"rollout/past_episodes:{name}"] = int((version == one).sum())
        found |= _means("past", name, version == one, domain, success)
    return found


def _means(of: str, which: int | str, own: np.ndarray, domain: np.ndarray, success: np.ndarray) -> dict[str, float]:
    found = {f"rollout/{of}_return:{which}": float(domain[own].mean())}
    known = success[own & ~np.isnan(success)]
    return found | ({f"rollout/{of}_success:{which}": float(known.mean())} if len(known) else {})


def _half_width(name: str, values: np.ndarray, start: np.ndarray, match: np.ndarray) -> dict[str, float]:
    """Half of the 95 % interval of the mean of what each of n episodes has.

        t_{G−1, 0.975} · √( G/(G−1) · Σ_g (Σ_{i∈g} (x_i − x̄))² ) / n

    The G starts are the clusters, with the episodes of all their seats, or the matches where there is one start alone.
    """
    _, cluster = np.unique(start, return_inverse=True)
    if cluster.max(initial=0) == 0:  # one start: its matches are the replicate
        _, cluster = np.unique(match, return_inverse=True)
    sums = np.bincount(cluster, values - values.mean())
    count = len(sums)
    if count < 2:
        return {}
    error = np.sqrt(count / (count - 1) * (sums**2).sum()) / len(values)
    return {f"rollout/{name}_half_width": float(stdtrit(count - 1, 0.975) * error)}


def _top_action(batch: EpisodeBatch) -> dict[str, float]:
    """The share of the most frequent action; nothing where no action was legal."""
    # Key 0 never matches another.
    keys = batch.action_key[batch.action_key != 0]
    if not len(keys):
        return {}
    _, count = np.unique(keys, return_counts=True)
    return {"rollout/top_action": float(count.max() / len(keys))}

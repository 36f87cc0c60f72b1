"""Every modulation a second time: from its specification, in loops over plain lists, as slow and plain as can be.

A reference has the name of its modulation, takes what `read` makes of a batch and the advantage as a plain list, and
gives a plain list.
"""

import math
from types import SimpleNamespace

from lapwing.core.batch import EpisodeBatch


def read(batch: EpisodeBatch):
    """Episodes that hold steps, which know where their number and those of their tokens stand in an advantage."""
    found = []
    for e in range(batch.num_episodes):
        steps = [
            SimpleNamespace(
                at=n,
                tokens=list(range(int(batch.token_splits[n]), int(batch.token_splits[n + 1]))),
                view=int(batch.view_key[n]),
                action=int(batch.action_key[n]),
                next_view=int(batch.next_view_key[n]),
                entropy=float(batch.extra["entropy"][n]),
            )
            for n in range(int(batch.step_splits[e]), int(batch.step_splits[e + 1]))
        ]
        found.append(
            SimpleNamespace(
                group=int(batch.group[e]),
                cut=bool(batch.truncated[e]),
                won=batch.extra["success"][e] == 1.0,
                tokens=sum(len(step.tokens) for step in steps),
                steps=steps,
            )
        )
    return found


def mean(values):
    return sum(values) / len(values)


def owner_groups(episodes, size):
    """The group that each number of an advantage belongs to, whether there is one per step or per token."""
    by_step = [e.group for e in episodes for _ in e.steps]
    by_token = [e.group for e in episodes for s in e.steps for _ in s.tokens]
    return by_step if size == len(by_step) else by_token


def salt(episodes, advantage, *, history, dedupe_per_episode):
    def transition(e, t):
        step = e.steps[t]
        past = e.steps[:t] if history == -1 else e.steps[max(0, t - history) : t]
        pairs = [key for s in past for key in (s.view, s.action)]
        keys = (e.group, step.view, step.action, step.next_view, *pairs)
        return ("alone", step.at) if 0 in keys[1:] else keys

    out = []
    for e in episodes:
        for t in range(len(e.steps)):
            by_episode = []
            for m in episodes:
                same = [u for u in range(len(m.steps)) if transition(m, u) == transition(e, t)]
                by_episode.append([advantage[m.steps[u].at] for u in same])
            if dedupe_per_episode:
                out.append(mean([mean(values) for values in by_episode if values]))
            else:
                out.append(mean([value for values in by_episode for value in values]))
    return out


def empg(episodes, advantage, *, k, k_next, bonus):
    every = [step.entropy for e in episodes for step in e.steps]
    low, high = min(every), max(every)

    def normal(step):
        return (step.entropy - low) / (high - low + 1e-8)

    scale = mean([math.exp(-k * normal(step)) for e in episodes for step in e.steps])
    out = []
    for e in episodes:
        for t, step in enumerate(e.steps):
            clarity = math.exp(-k_next * normal(e.steps[t + 1])) if t < len(e.steps) - 1 else 0.0
            out.append(advantage[step.at] * math.exp(-k * normal(step)) / scale + bonus * clarity)
    return [value - mean(out) for value in out]


def adora(episodes, advantage, *, rule, w_bad, w_good):
    def good(group):
        mates = [e for e in episodes if e.group == group]
        lengths = [len(e.steps) if rule == "turns" else e.tokens for e in mates]
        wins = [length for e, length in zip(mates, lengths, strict=True) if e.won]
        losses = [length for e, length in zip(mates, lengths, strict=True) if not e.won and not e.cut]
        if not wins:
            return rule == "length_vlm"
        if not losses:
            return rule != "length_vlm"
        return min(wins) < mean(losses) if rule == "turns" else max(wins) > mean(losses)

    groups = owner_groups(episodes, len(advantage))
    return [value * (w_good if good(group) else w_bad) for value, group in zip(advantage, groups, strict=True)]


def whiten(episodes, advantage, *, over, ddof, eps):
    groups = owner_groups(episodes, len(advantage)) if over == "group" else [0] * len(advantage)
    out = []
    for value, group in zip(advantage, groups, strict=True):
        values = [other for other, its in zip(advantage, groups, strict=True) if its == group]
        if len(values) <= ddof or max(values) - min(values) < 1e-9:
            out.append(0.0)
            continue
        squares = sum((other - mean(values)) ** 2 for other in values)
        out.append((value - mean(values)) / (math.sqrt(squares / (len(values) - ddof)) + eps))
    return out


def stcr(episodes, advantage, *, unit, base):
    def length(e):
        return e.tokens if unit == "tokens" else len(e.steps)

    by_step = [e for e in episodes for _ in e.steps]
    owner = by_step if len(advantage) == len(by_step) else [e for e in episodes for s in e.steps for _ in s.tokens]
    out = []
    for e, value in zip(owner, advantage, strict=True):
        won = [length(m) for m in episodes if m.group == e.group and m.won]
        excess = length(e) - mean(won) if won and not e.won else 0.0
        out.append(value * (1 + (1 - base**-excess)) if excess > 0 and value < 0 else value)
    return out

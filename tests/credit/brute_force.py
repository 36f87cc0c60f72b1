"""Every credit method a second time: from its specification, in loops over plain lists, as slow and plain as can be.

A reference has the name of its method, takes what `read` makes of a batch, and gives one number per step or token.
"""

import math
from types import SimpleNamespace

from lapwing.core.batch import EpisodeBatch

SWITCH, SUBGOAL, ACTION = 2, 3, 4  # spans
PARTS = ("apples", "deaths")
CRITIC = ("value", "v_low", "v_high", "v_term", "branch_value", "next_branch_value", "exact_advantage")


def read(batch: EpisodeBatch):
    """Episodes that hold steps that hold tokens; `merged` is the reward, at the last step with the outcome."""
    found = []
    for e in range(batch.num_episodes):
        steps = [_read_step(batch, n) for n in range(batch.step_splits[e], batch.step_splits[e + 1])]
        steps[-1].merged += float(batch.outcome[e])
        found.append(
            SimpleNamespace(
                group=int(batch.group[e]),
                outcome=float(batch.outcome[e]),
                cut=not batch.terminated[e],
                final_value=float(batch.extra["final_value"][e]),
                total=sum(step.merged for step in steps),
                parts={name: sum(step.parts[name] for step in steps) for name in PARTS},
                steps=steps,
            )
        )
    return found


def _read_step(batch, n):
    written = range(batch.token_splits[n], batch.token_splits[n + 1])
    return SimpleNamespace(
        reward=float(batch.reward[n]),
        merged=float(batch.reward[n]),
        view=int(batch.view_key[n]),
        action=int(batch.action_key[n]),
        switch=bool(batch.extra["switch"][n]),
        parts={name: float(batch.extra[f"part:{name}"][n]) for name in PARTS},
        token_value=[float(batch.extra["token_value"][k]) for k in written],
        span=[int(batch.extra["span"][k]) for k in written],
        **{name: float(batch.extra[name][n]) for name in CRITIC},
    )


def relative(value, values, *, scale=False, ddof=1, eps=0.0):
    """How far one of the values lies from their mean, 0 where they do not differ or are too few for a deviation."""
    if max(values) - min(values) < 1e-9 or (scale and len(values) <= ddof):
        return 0.0
    mean = sum(values) / len(values)
    squares = sum((other - mean) ** 2 for other in values)
    return (value - mean) / (math.sqrt(squares / (len(values) - ddof)) + eps if scale else 1.0)


def to_go(rewards, discount):
    """The discounted sum from each position to the end."""
    return [sum(discount**u * reward for u, reward in enumerate(rewards[t:])) for t in range(len(rewards))]


def mates(episodes, episode):
    """The episodes of the same group, itself included."""
    return [other for other in episodes if other.group == episode.group]


def per_step(episodes, credit):
    """Give each step of an episode what `credit` says of the episode."""
    return [credit(episode) for episode in episodes for _ in episode.steps]


def reinforce(episodes):
    return per_step(episodes, lambda e: e.total)


def grpo(episodes, *, scale_by_std, ddof, eps):
    scaling = {"scale": scale_by_std, "ddof": ddof, "eps": eps}
    return per_step(episodes, lambda e: relative(e.total, [m.total for m in mates(episodes, e)], **scaling))


def dr_grpo(episodes):
    return per_step(episodes, lambda e: relative(e.total, [m.total for m in mates(episodes, e)]))


def rloo(episodes):
    def credit(e):
        others = [m.total for m in mates(episodes, e) if m is not e]
        return e.total - sum(others) / len(others) if others else 0.0

    return per_step(episodes, credit)


def lite_ppo(episodes, *, std_of, ddof, eps):
    centred = [relative(e.total, [m.total for m in mates(episodes, e)]) for e in episodes]
    values = [e.total for e in episodes] if std_of == "return" else centred
    if max(values) - min(values) < 1e-9 or len(values) <= ddof:
        return per_step(episodes, lambda e: 0.0)
    mean = sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - ddof))
    return [c / (std + eps) for c, e in zip(centred, episodes, strict=True) for _ in e.steps]


def returns_to_go(episode, discount):
    return to_go([step.merged for step in episode.steps], discount)


def return_to_go(episodes, *, discount):
    return [value for e in episodes for value in returns_to_go(e, discount)]


def group_return_to_go(episodes, *, discount):
    advantage = []
    for e in episodes:
        for t, value in enumerate(returns_to_go(e, discount)):
            alive = [returns_to_go(m, discount)[t] for m in mates(episodes, e) if t < len(m.steps)]
            advantage.append(relative(value, alive))
    return advantage


def rebn(episodes, *, discount, ddof, eps):
    values = return_to_go(episodes, discount=discount)
    return [relative(value, values, scale=True, ddof=ddof, eps=eps) for value in values]


def mt_grpo(episodes, *, same_view=False, **settings):
    return [value for e in episodes for value in _mt_grpo_episode(episodes, e, same_view, **settings)]


def mt_grpo_prefix(episodes, **settings):
    return mt_grpo(episodes, same_view=True, **settings)


def _mt_grpo_episode(episodes, e, same_view, *, coefficient, weight_on, horizon, ddof, eps):
    def normal(value, values):
        return relative(value, values, scale=True, ddof=ddof, eps=eps)

    group, last = mates(episodes, e), len(e.steps) - 1
    if last == 0:
        return [normal(e.total, [m.total for m in group])]
    outcome = normal(e.steps[-1].merged, [m.steps[-1].merged for m in group])
    turns = []
    for k, step in enumerate(e.steps[:-1]):
        there = [m.steps[k] for m in group if k < len(m.steps) - 1]
        if same_view:
            there = [other for other in there if other is step or 0 != other.view == step.view]
        turns.append(normal(step.reward, [other.reward for other in there]))
    local = [sum(turns[k:]) if horizon == "suffix" else turns[k] for k in range(last)]
    if weight_on == "outcome":
        return [*(turn + coefficient * outcome for turn in local), outcome]
    return [*(outcome + coefficient * turn for turn in local), outcome]


def gtpo(episodes, *, discount, outcome_weight, ddof, eps):
    def raw(e, k):
        # The outcome stands one turn behind the last reward.
        return to_go([step.reward for step in e.steps] + [e.outcome], discount)[k]

    scaling = {"scale": True, "ddof": ddof, "eps": eps}
    advantage = []
    for e in episodes:
        group = mates(episodes, e)
        outcome = relative(e.outcome, [m.outcome for m in group], **scaling)
        for k in range(len(e.steps)):
            there = [raw(m, k) for m in group if k < len(m.steps)]
            advantage.append(relative(raw(e, k), there, **scaling) + outcome_weight * outcome)
    return advantage


def visits(episodes, e, t):
    """All steps of the group that saw the same view; a view of 0 is like no other."""
    if e.steps[t].view == 0:
        return [(e, t)]
    return [(m, u) for m in mates(episodes, e) for u, s in enumerate(m.steps) if s.view == e.steps[t].view]


def gigpo(episodes, *, discount, step_weight, scale_by_std, ddof, eps, episode_statistics):
    scaling = {"scale": scale_by_std, "ddof": ddof, "eps": eps}
    advantage = []
    for e in episodes:
        totals = [m.total for m in mates(episodes, e) for _ in (m.steps if episode_statistics == "steps" else [0])]
        whole = relative(e.total, totals, **scaling)
        for t, value in enumerate(returns_to_go(e, discount)):
            alike = [returns_to_go(m, discount)[u] for m, u in visits(episodes, e, t)]
            advantage.append(whole + step_weight * relative(value, alike, **scaling))
    return advantage


def _last_views(e, t, k):
    views = tuple(step.view for step in e.steps[max(0, t - k + 1) : t + 1])
    return views if len(views) == k and 0 not in views else None


def hgpo(episodes, *, discount, depth, alpha, base_group, level_weights, **scaling):
    scaling["scale"] = scaling.pop("scale_by_std")
    advantage = []
    for e in episodes:
        group = mates(episodes, e)
        whole = relative(e.total, [m.total for m in group], **scaling)
        for t, value in enumerate(returns_to_go(e, discount)):
            terms = [(1.0, whole)] if base_group else []
            for k in range(1, depth + 2):
                mine = _last_views(e, t, k)
                steps = [(m, u) for m in group for u in range(len(m.steps)) if _last_views(m, u, k) == mine]
                values = [value] if mine is None else [returns_to_go(m, discount)[u] for m, u in steps]
                weight = (k + 1) ** alpha if level_weights == "code" else k**alpha
                terms.append((weight, relative(value, values, **scaling)))
            counted = [(weight, term) for weight, term in terms if abs(term) > 1e-9]
            total = sum(weight for weight, _ in counted)
            advantage.append(sum(weight * term for weight, term in counted) / total if counted else 0.0)
    return advantage


def state_td(episodes, *, discount, lambda_):
    advantage = []
    for e in episodes:
        value = []
        for t in range(len(e.steps)):
            returns = [returns_to_go(m, discount)[u] for m, u in visits(episodes, e, t)]
            value.append(sum(returns) / len(returns))
        advantage += gae_of([s.merged for s in e.steps], [*value, 0.0], discount, lambda_)
    return advantage


def graft(episodes, *, discount):
    # The values are found by sweeping over the states until they stand still.
    steps = [(e, t, step) for e in episodes for t, step in enumerate(e.steps)]
    name = {(id(e), t): (e.group, step.view) if step.view else (id(e), t) for e, t, step in steps}
    nodes = {}
    for e, t, step in steps:
        nodes.setdefault(name[id(e), t], []).append((step.merged, name.get((id(e), t + 1))))
    value = {None: 0.0, **dict.fromkeys(nodes, 0.0)}
    change = 1.0
    while change > 1e-12:
        change = 0.0
        for node, moves in nodes.items():
            new = sum(discount * (reward + value[after]) for reward, after in moves) / len(moves)
            change, value[node] = max(change, abs(new - value[node])), new
    return [discount * (step.merged + value[name.get((id(e), t + 1))]) - value[name[id(e), t]] for e, t, step in steps]


def rtmc(episodes):
    advantage = []
    for e in episodes:
        for t, step in enumerate(e.steps):
            seen = visits(episodes, e, t)
            chosen = [(m, u) for m, u in seen if m.steps[u].action == step.action] if step.action else [(e, t)]
            q, v = (sum(returns_to_go(m, 1.0)[u] for m, u in some) / len(some) for some in (chosen, seen))
            advantage.append(q - v)
    return advantage


def gae_of(rewards, values, discount, lambda_):
    """The plain recursion; there is one value more than rewards, that after the end."""
    errors = [rewards[t] + discount * values[t + 1] - values[t] for t in range(len(rewards))]
    return to_go(errors, discount * lambda_)


def gae(episodes, *, discount, lambda_, itself=False):
    advantage = []
    for e in episodes:
        after = e.steps[-1].value if itself else e.final_value
        values = [s.value for s in e.steps] + [after if e.cut else 0.0]
        advantage += gae_of([s.merged for s in e.steps], values, discount, lambda_)
    return advantage


def egae(episodes, **settings):
    return gae(episodes, itself=True, **settings)


def vine(episodes, *, discount):
    return [
        s.merged + (0.0 if s is e.steps[-1] else discount * s.next_branch_value) - s.branch_value
        for e in episodes
        for s in e.steps
    ]


def oracle(episodes):
    return [s.exact_advantage for e in episodes for s in e.steps]


def token_rewards(episode):
    """A step's reward is on its last token, else on the token before, else on the episode's first."""
    rewards = [0.0] * sum(len(step.span) for step in episode.steps)
    written = 0
    for step in episode.steps:
        written += len(step.span)
        if rewards:
            rewards[max(written - 1, 0)] += step.merged
    return rewards


def token_values(episode):
    """The values before each token and the one after the last."""
    return [v for step in episode.steps for v in step.token_value] + [episode.final_value if episode.cut else 0.0]


def last_tokens(episode):
    """Where in the episode the last token of each turn stands; a turn is a step with tokens."""
    ends, written = [], 0
    for step in episode.steps:
        written += len(step.span)
        if step.span:
            ends.append(written - 1)
    return ends


def reinforce_pp(episodes, *, discount, baseline, across_steps, ddof, eps):
    returns = []
    for e in episodes:
        rewards = token_rewards(e)
        if baseline == "group":
            returns += [relative(e.total, [m.total for m in mates(episodes, e)])] * len(rewards)
        elif across_steps:
            returns += to_go(rewards, discount)
        else:
            start = 0
            for end in last_tokens(e):
                returns += to_go(rewards[start : end + 1], discount)
                start = end + 1
    return [relative(value, returns, scale=True, ddof=ddof, eps=eps) for value in returns]


def token_gae(episodes, *, discount, lambda_):
    return [a for e in episodes for a in gae_of(token_rewards(e), token_values(e), discount, lambda_)]


def dual_gae(episodes, *, turn_discount, turn_lambda, token_discount, token_lambda):
    advantage = []
    for e in episodes:
        rewards, values, ends = token_rewards(e), token_values(e), last_tokens(e)
        following, backwards = 0.0, []
        for u in reversed(range(len(rewards))):
            discount, lambda_ = (turn_discount, turn_lambda) if u in ends else (token_discount, token_lambda)
            following = rewards[u] + discount * values[u + 1] - values[u] + discount * lambda_ * following
            backwards.append(following)
        advantage += backwards[::-1]
    return advantage


def bilevel_gae(episodes, *, discount, lambda_, turn_discount):
    advantage = []
    for e in episodes:
        rewards, values, ends = token_rewards(e), token_values(e), last_tokens(e)
        at_ends = [values[p] for p in ends] + [values[-1]]
        turns = gae_of([rewards[p] for p in ends], at_ends, turn_discount, lambda_)
        start = 0
        for p, turn in zip(ends, turns, strict=True):
            # The last token is rewarded with the target of its turn, and nothing follows it.
            targets = [*rewards[start:p], turn + values[p]]
            advantage += gae_of(targets, [*values[start : p + 1], 0.0], discount, lambda_)
            start = p + 1
    return advantage


def hae(episodes, *, normalise, **settings):
    steps = [(step, levels) for e in episodes for step, levels in zip(e.steps, _levels(e, **settings), strict=True)]
    advantage = [[0.0] * len(step.span) for step, _ in steps]
    for level in ("low", "high", "term"):
        takers = [_takers(step, level) if level in levels else [] for step, levels in steps]
        values = [levels[level] for (_, levels), taken in zip(steps, takers, strict=True) if taken]
        for tokens, (_, levels), taken in zip(advantage, steps, takers, strict=True):
            for k in taken:
                value = levels[level]
                tokens[k] += relative(value, values, scale=True, ddof=0, eps=1e-8) if normalise else value
    return [value for tokens in advantage for value in tokens]


def _takers(step, level):
    wanted = {"low": ACTION, "high": SUBGOAL, "term": SWITCH}[level]
    found = [k for k, span in enumerate(step.span) if span == wanted]
    return list(range(len(step.span))) if level == "low" and not found else found


def _levels(e, *, discount, lambda_, segment_lambda, bootstrap_truncated):
    found = [{} for _ in e.steps]
    begins = [t for t, step in enumerate(e.steps) if t == 0 or step.switch]
    following = 0.0  # of the high level
    for b, end in reversed(list(zip(begins, [*begins[1:], len(e.steps)], strict=True))):
        part = e.steps[b:end]
        if end < len(e.steps):
            low_after = high_after = e.steps[end].v_high
        elif e.cut and bootstrap_truncated:
            low_after, high_after = part[-1].v_low, part[0].v_high
        else:
            low_after = high_after = 0.0
        rewards = [step.merged for step in part]
        low = gae_of(rewards, [*(step.v_low for step in part), low_after], discount, lambda_)
        returns = to_go([*rewards, high_after], discount)
        for step, levels, a, total in zip(part, found[b:end], low, returns[:-1], strict=True):
            levels |= {"low": a, "term": total - step.v_term}
        following = returns[0] - part[0].v_high + discount ** len(part) * segment_lambda * following
        found[b]["high"] = following
    return found


def gdpo(episodes, *, parts, part_weights, batch_norm, ddof, eps):
    scaling = {"scale": True, "ddof": ddof, "eps": eps}

    def of(e, name):
        return e.total if name == "episode_return" else e.parts[name]

    sums = [
        sum(
            w * relative(of(e, name), [of(m, name) for m in mates(episodes, e)], **scaling)
            for name, w in zip(parts, part_weights or [1.0] * len(parts), strict=True)
        )
        for e in episodes
    ]
    if batch_norm:
        sums = [relative(s, sums, **scaling) for s in sums]
    return [s for s, e in zip(sums, episodes, strict=True) for _ in e.steps]


def _tilt(values, temperature):
    weight = [math.exp(-(x - min(values)) / temperature) for x in values]
    return [w / sum(weight) for w in weight]


def _worst_kl(values, radius):
    """The λ at which the dual is largest, by ternary search over its logarithm."""
    if radius == 0:
        return [1 / len(values)] * len(values)

    def dual(log_scale):
        scale = math.exp(log_scale)
        terms = [math.exp(-(x - min(values)) / scale) for x in values]
        return -scale * (math.log(sum(terms) / len(terms)) + radius)

    low, high = -14.0, 14.0
    for _ in range(90):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (a, high) if dual(a) < dual(b) else (low, b)
    return _tilt(values, math.exp((low + high) / 2))


def _worst_tv(values, radius):
    """Whole levels of equal values give up their mass from the top, until ρ is used up."""
    level = [round(x, 9) for x in values]
    mass = {x: level.count(x) / len(level) for x in level}
    left = radius
    for x in sorted(mass, reverse=True)[:-1]:
        taken = min(left, mass[x])
        mass[x], left = mass[x] - taken, left - taken
    mass[min(level)] += radius - left
    return [mass[x] / level.count(x) for x in level]


def dr_rpo(episodes, *, radius, ball):
    def credit(e):
        group = mates(episodes, e)
        totals = [m.total for m in group]
        if max(totals) - min(totals) < 1e-9:
            return 0.0
        weight = (_worst_kl if ball == "kl" else _worst_tv)(totals, radius)
        base = sum(w * x for w, x in zip(weight, totals, strict=True))
        mine = next(w for w, m in zip(weight, group, strict=True) if m is e)
        return len(group) * mine * (e.total - base)

    return per_step(episodes, credit)


def _quantile(values, level):
    ordered = sorted(values)
    at = level * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _deviation(values):
    if len(values) < 2 or max(values) - min(values) < 1e-9:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((x - mean) ** 2 for x in values) / (len(values) - 1))


def riskpo(episodes, *, bundle, center, scale_by_std, eps, assign, **measure):
    """The first batch of a run: what is tracked are its own quantiles, whatever the rate."""
    papers = _papers(episodes, bundle)
    advantage = _mixed_values(papers, **measure)
    if center:
        mean = sum(advantage) / len(advantage)
        advantage = [a - mean for a in advantage]
    if scale_by_std:
        spread = [_deviation([s for b, s, _ in papers if b == number]) for number, _, _ in papers]
        advantage = [a / (std + eps) if std > 0 else 0.0 for a, std in zip(advantage, spread, strict=True)]
    given = {id(e): [] for e in episodes}
    for a, (_, _, members) in zip(advantage, papers, strict=True):
        for m, share in zip(members, _shares(episodes, members, assign, eps), strict=True):
            given[id(m)].append(a * share)
    return per_step(episodes, lambda e: sum(given[id(e)]) / len(given[id(e)]))


def _papers(episodes, bundle):
    """Pairs of a bundle, a score and members."""
    numbers = sorted({e.group for e in episodes})
    papers = []
    for first in range(0, len(numbers), bundle):
        groups = [[e for e in episodes if e.group == g] for g in numbers[first : first + bundle]]
        for i in range(max(len(g) for g in groups)):
            members = [g[i % len(g)] for g in groups]
            papers.append((first, sum(m.total for m in members) * bundle / len(groups), members))
    return papers


def _mixed_values(papers, *, alpha, beta, omega, quantiles, rate):
    del rate
    of_own = {"track": 0.0, "mix": 0.5, "batch": 1.0}[quantiles]
    scores = [score for _, score, _ in papers]
    found = []
    for number, score, _ in papers:
        own = [s for b, s, _ in papers if b == number]
        low, high = ((1 - of_own) * _quantile(scores, s) + of_own * _quantile(own, s) for s in (alpha, beta))
        value = (max(score - low, 0) - max(score - high, 0) + low - high) / (beta - alpha)
        tail = -max(low - score, 0) / alpha if alpha > 0 else 0.0
        found.append((omega * tail + value) / (omega + 1))
    return found


def _shares(episodes, members, assign, eps):
    """What each member of a paper gets of its advantage."""
    totals = [[o.total for o in mates(episodes, m)] for m in members]
    if assign == "std":
        deviations = [_deviation(values) for values in totals]
        return [1 / ((std if std > 1e-3 else 1.0) + eps) for std in deviations]
    if assign == "score":
        return [0.5 if m.total > 1e-10 else 1.5 for m in members]
    if assign == "sum_mean":
        above = [relative(m.total, values) for m, values in zip(members, totals, strict=True)]
        usable = abs(sum(above)) > 1e-6
        return [min(1.0, max(-1.0, x / sum(above))) if usable else 1 / len(above) for x in above]
    return [1.0] * len(members)

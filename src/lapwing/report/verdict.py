"""What an evaluation says, in the same words at the terminal and on the page."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lapwing.stats.difference import difference as difference_of
from lapwing.stats.interval import Interval

# The first of these that the game has is the one that the verdict speaks of.
HEADLINES = ("success", "score", "return")
_COLUMNS = {
    "success": "success",
    "not_lost": "not lost",
    "score": "score",
    "return": "return",
    "length": "length",
    "valid": "valid",
    "tokens_per_step": "tokens/step",
    "context_tokens_per_step": "context/step",
    "regret": "regret",
}
# Players of single games, in the order of a page.
ORACLES = ("ucb1", "lin_ucb", "thompson", "greedy", "bayes")
_BASELINES = ("random", "guess", "heuristic", *ORACLES, "optimal")
# The first of these that was measured is the floor that training has to leave, and how a sentence names it.
_FLOORS = {"random": "random play", "guess": "guessing"}
_ONE_SEED = "this is one training seed, and only further seeds show whether training does it again"
_LABELS = {
    "trained": "trained",
    "trained_greedy": "trained, greedy",
    "untrained": "untrained",
    "random": "random",
    "guess": "guess (no call)",
    "heuristic": "heuristic",
    "ucb1": "UCB1",
    "lin_ucb": "LinUCB",
    "thompson": "Thompson",
    "greedy": "greedy player",
    "bayes": "Bayes-optimal",
    "optimal": "optimal",
}
# What a game's returns are held against without being played, in the order of a page.
_REFERENCES = {"optimal": "optimal, exact", "best_known": "best known", "null_ceiling": "null ceiling"}

Measure = Mapping[str, float]


class Verdict(NamedTuple):
    """Whether the trained policy is better than the untrained one.

    Attributes:
      sentence: the whole verdict in one sentence.
      improved: True if the interval of the difference lies above 0, False if it does not, None where there is none.
      metric: "success", "score" or "return", what the verdict is about.
      heading: the verdict in at most three words.
      difference: trained − untrained mean, in the metric's unit; None where there is no comparison.
      interval: the difference with its 95 % interval; None where there is no comparison.
    """

    sentence: str
    improved: bool | None
    metric: str
    heading: str
    difference: float | None
    interval: Interval | None = None


class Margin(NamedTuple):
    """How the trained policy stands against another one.

    Attributes:
      label: the other policy's name for a person.
      difference: trained − other with its 95 % interval, as text.
    """

    label: str
    difference: str


class Parts(NamedTuple):
    """The named parts of the reward, one row each: the name, and the mean with its interval for every policy."""

    headings: list[str]
    rows: list[list[str]]


class Row(NamedTuple):
    """One policy of the comparison.

    Attributes:
      policy: its key in the evaluation.
      label: its name for a person.
      cells: heading → text; every row of a table has the same headings in the same order.
    """

    policy: str
    label: str
    cells: dict[str, str]


def verdict(evaluation: Mapping[str, Any]) -> Verdict:
    """Compare the trained policy with the untrained one by the first measure that the game has.

        improved    low(trained − untrained) > 0
        got worse   high(trained − untrained) < 0

    Anything else shows no improvement. The interval of the difference is made from those of the two policies; they
    played the same matches, so that it errs towards "no improvement shown".

    Args:
      evaluation: the object of `lapwing eval --json`.

    Returns:
      The verdict; `improved` is None if the evaluation lacks one of the two policies.
    """
    metric = headline_metric(evaluation)
    trained, untrained = _measure(evaluation, "trained", metric), _measure(evaluation, "untrained", metric)
    beside = f"{_greedy(evaluation, metric)}{_beside(evaluation, metric)}"
    if trained is None or untrained is None:
        lacking = "trained" if trained is None else "untrained"
        sentence = f"Nothing to compare: this evaluation has no {lacking} policy{beside}."
        return Verdict(sentence, None, metric, "Nothing to compare", None)
    found = _difference(trained, untrained)
    before, after = interval_text(untrained), interval_text(trained)
    change = f"{_signed_interval(found)}; 95 % intervals"
    where = f"over {matches(evaluation)}{beside}"
    if found.low > 0:
        heading, improved = "Improved", True
        what = f"{metric} rose from {before} to {after} ({change}) {where}{_not_above_floor(evaluation, metric)}"
    elif found.high < 0:
        heading, improved = "Got worse", False
        what = f"{metric} fell from {before} to {after} ({change}) {where}"
    else:
        heading, improved = "No improvement shown", False
        what = f"{metric} was {before} before and {after} after ({change}) {where}"
    return Verdict(f"{heading}: {what}; {_ONE_SEED}.", improved, metric, heading, found.mean, found)


def margins(evaluation: Mapping[str, Any]) -> list[Margin]:
    """The trained policy against the untrained one, greedy decoding, and every player without a model.

    Args:
      evaluation: the object of `lapwing eval --json`.

    Returns:
      One entry a policy that was measured, by the measure of the verdict; none without a trained policy.
    """
    metric = headline_metric(evaluation)
    trained = _measure(evaluation, "trained", metric)
    if trained is None:
        return []
    others = [("untrained", "untrained"), ("trained_greedy", "greedy")]
    others += [(name, label(name)) for name in _BASELINES]
    found = [(text, _measure(evaluation, name, metric)) for name, text in others]
    return [Margin(text, _signed_interval(_difference(trained, other))) for text, other in found if other]


def table_rows(evaluation: Mapping[str, Any]) -> list[Row]:
    """The comparison of all policies, as text.

    Args:
      evaluation: the object of `lapwing eval --json`.

    Returns:
      One row a policy, the trained ones first, with the measures that at least one of them has; success, score
      and return with their 95 % interval. Below them one row for each reference, which has a return only.
    """
    policies = ordered_policies(evaluation)
    shown = [name for name in _COLUMNS if any(measures.get(name) for measures in policies.values())]
    rows = [
        Row(name, label(name), {_COLUMNS[key]: _cell(key, measures.get(key)) for key in shown})
        for name, measures in policies.items()
    ]
    for name, found in _references(evaluation).items():
        cells = {_COLUMNS[key]: number(found["return"]) if key == "return" else "–" for key in shown}
        rows.append(Row(f"reference:{name}", _REFERENCES[name], cells))
    return rows


def reference_notes(evaluation: Mapping[str, Any]) -> list[str]:
    """Where each reference below the table comes from, as "best known: the heuristic".

    Args:
      evaluation: the object of `lapwing eval --json`.
    """
    return [f"{_REFERENCES[name]}: {found['source']}" for name, found in _references(evaluation).items()]


def _references(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Those that the evaluation has; one of an older run has none."""
    found = evaluation.get("references") or {}
    return {name: found[name] for name in _REFERENCES if name in found}


def part_table(evaluation: Mapping[str, Any]) -> Parts | None:
    """The named parts of the reward, summed over an episode, as text.

    Args:
      evaluation: the object of `lapwing eval --json`.

    Returns:
      One row a part, with its mean and 95 % interval for each policy; None if no policy has parts.
    """
    policies = ordered_policies(evaluation)
    parts = [measures.get("parts") or {} for measures in policies.values()]
    names = list(dict.fromkeys(name for found in parts for name in found))
    if not names:
        return None
    rows = [[name, *(interval_text(found[name]) if name in found else "–" for found in parts)] for name in names]
    return Parts(["reward part", *map(label, policies)], rows)


def ordered_policies(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Policy → measures: trained, untrained, then the baselines, then all others as they come."""
    policies: Mapping[str, Mapping[str, Any]] = evaluation["policies"]
    names = [*(name for name in _LABELS if name in policies), *(name for name in policies if name not in _LABELS)]
    return {name: policies[name] for name in names}


def headline_metric(evaluation: Mapping[str, Any]) -> str:
    """The measure that the verdict is about: success, else the score, else the return.

    Where every match was a success before training and after, success has nothing to tell, and the next one is it.
    """
    policies: Mapping[str, Mapping[str, Any]] = evaluation["policies"]
    judged = [policies[name] for name in ("trained", "untrained") if name in policies] or list(policies.values())
    for name in HEADLINES:
        if judged and all(measures.get(name) for measures in judged):
            if name == "success" and len(judged) == 2 and all(measures[name]["mean"] == 1.0 for measures in judged):
                continue
            return name
    return HEADLINES[-1]


def label(policy: str) -> str:
    """A policy's name for a person."""
    return _LABELS.get(policy, policy.replace("_", " "))


def matches(evaluation: Mapping[str, Any]) -> str:
    """How much was played, as "500 test matches of frozen_lake", and against whom."""
    number = evaluation["episodes"]
    return f"{number:,} test match{'' if number == 1 else 'es'} of {evaluation['game']}{against(evaluation)}"


def against(evaluation: Mapping[str, Any]) -> str:
    """Who had the other seats, as " against random", or " against random (seat 1) and heuristic (seat 2)"."""
    opponents = evaluation.get("opponents") or {}
    named = [f"{name} (seat {seat})" for seat, name in opponents.items()]
    if len(set(opponents.values())) == 1:
        named = [next(iter(opponents.values()))]
    return f" against {', '.join(named[:-1])}{' and ' if len(named) > 1 else ''}{named[-1]}" if named else ""


def interval_text(measure: Measure) -> str:
    """A mean with its interval, as "0.060 [0.042, 0.084]"."""
    return f"{number(measure['mean'])} [{number(measure['low'])}, {number(measure['high'])}]"


def number(value: float) -> str:
    """A number with three decimals, fewer if it is large; never a negative zero."""
    digits = 3 if abs(value) < 100 else 1
    return f"{round(value, digits) + 0.0:,.{digits}f}"


def signed(value: float) -> str:
    """A difference, with its sign."""
    text = number(value)
    return text if text.startswith("-") else f"+{text}"


def _cell(name: str, measure: Measure | None) -> str:
    if not measure:
        return "–"
    return interval_text(measure) if name in (*HEADLINES, "not_lost", "regret") else f"{measure['mean']:,.2f}"


def _measure(evaluation: Mapping[str, Any], policy: str, metric: str) -> Measure | None:
    return evaluation["policies"].get(policy, {}).get(metric)


def _beside(evaluation: Mapping[str, Any], metric: str) -> str:
    found = [(name.replace("_", " "), _measure(evaluation, name, metric)) for name in _BASELINES]
    return _joined([f"{name} {number(measure['mean'])}" for name, measure in found if measure])


def _greedy(evaluation: Mapping[str, Any], metric: str) -> str:
    greedy = _measure(evaluation, "trained_greedy", metric)
    return f", with greedy decoding {number(greedy['mean'])}" if greedy else ""


def _difference(first: Measure, second: Measure) -> Interval:
    return difference_of(*(Interval(one["mean"], one["low"], one["high"]) for one in (first, second)))


def _signed_interval(found: Interval) -> str:
    """A difference with its interval, as "+0.840 [0.812, 0.868]"."""
    return f"{signed(found.mean)} [{number(found.low)}, {number(found.high)}]"


def _joined(parts: Sequence[str]) -> str:
    if not parts:
        return ""
    return f", beside {' and '.join([', '.join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]}"


def _not_above_floor(evaluation: Mapping[str, Any], metric: str) -> str:
    trained = _measure(evaluation, "trained", metric)
    for name, text in _FLOORS.items():
        floor = _measure(evaluation, name, metric)
        if trained and floor:
            return "" if _difference(trained, floor).low > 0 else f", and is not clearly above {text}"
    return ""

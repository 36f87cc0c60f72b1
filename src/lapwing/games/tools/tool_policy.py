"""Which tool calls are allowed: ordered rules, updates that only narrow, and a comparison of two policies.

The rule language follows Shi et al. 2025, "Progent: Programmable Privilege Control for LLM Agents",
https://arxiv.org/abs/2504.11703: a rule names tools, what their arguments are like, an effect, a priority and what
the agent reads instead of a result. docs/tool-policy.md says what every key means.
"""

import enum
import fnmatch
import itertools
import json
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from lapwing.core.errors import UserError, nearest
from lapwing.core.storage import canonical_json
from lapwing.games.tools._predicates import check_arguments, hold, shown

DEFAULT_MESSAGE = "The tool policy forbids this call."
MOST_REQUESTS = 1_000_000
_EFFECTS = ("allow", "forbid")
_LARGEST = 2**63


class Decision(NamedTuple):
    """What a policy says of a call.

    Attributes:
      allowed: whether the tool may run.
      message: what the agent reads instead of a result; empty if the call is allowed.
      rule: the number of the rule that decided, the first rule of the first layer being 1; None for a default.
    """

    allowed: bool
    message: str
    rule: int | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a policy.

    Attributes:
      tool: the tools that it is about, as a glob: `*` any text, `?` any character, `[abc]`; upper case matters.
      effect: "allow" or "forbid".
      arguments: the predicates as canonical JSON: {"path.into.arguments": {"predicate": setting}}; all must hold.
      priority: of the rules that match a call, the one of highest priority decides.
      message: what the agent reads if the rule forbids the call; empty for the policy's message.

    Raises:
      UserError: one of them is off.
    """

    tool: str
    effect: str
    arguments: str = "{}"
    priority: int = 0
    message: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.tool, str) or not self.tool:
            raise UserError(f"'tool' is the name of a tool, or a glob such as 'send_*', not {shown(self.tool)}.")
        _check_effect("effect", self.effect)
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or abs(self.priority) >= _LARGEST:
            raise UserError(f"'priority' is a whole number of 64 bits, not {shown(self.priority)}.")
        if not isinstance(self.message, str):
            raise UserError(f"'message' is a text, not {shown(self.message)}.")
        try:
            arguments = json.loads(self.arguments)
        except (TypeError, ValueError, RecursionError):
            raise UserError(f"'arguments' is a JSON text, not {shown(self.arguments)}.") from None
        check_arguments(arguments)
        # Rules that say the same are equal, however they were spelt.
        object.__setattr__(self, "arguments", canonical_json(arguments))

    @classmethod
    def of(cls, mapping: Mapping[str, Any]) -> "Rule":
        """The rule that a table of a file stands for.

        Raises:
          UserError: a key is unknown or missing, or a value is off.
        """
        _check_keys(mapping, ("tool", "effect", "arguments", "priority", "message"), needed=("tool", "effect"))
        # Before they become text, which would hide what is no JSON.
        check_arguments(mapping.get("arguments", {}))
        return cls(**{**mapping, "arguments": canonical_json(mapping.get("arguments", {}))})

    def as_mapping(self) -> dict[str, Any]:
        """The table that `of` reads."""
        return {
            "tool": self.tool,
            "effect": self.effect,
            "arguments": json.loads(self.arguments),
            "priority": self.priority,
            "message": self.message,
        }

    def matches(self, name: str, arguments: Mapping[str, Any]) -> bool:
        """Whether the rule is about a call; where that cannot be told, a forbid is and an allow is not."""
        if not fnmatch.fnmatchcase(name, self.tool):
            return False
        verdict = hold(self.arguments, arguments)
        return self.effect == "forbid" if verdict is None else verdict


@dataclass(frozen=True, slots=True)
class Layer:
    """Rules, and the effect on a call that none of them matches."""

    rules: tuple[Rule, ...]
    default: str

    def decisive(self, name: str, arguments: Mapping[str, Any]) -> int | None:
        """The place of the rule that decides: the highest priority, then a forbid, then the first in order."""
        matching = [
            (-rule.priority, rule.effect == "allow", at)
            for at, rule in enumerate(self.rules)
            if rule.matches(name, arguments)
        ]
        return min(matching)[-1] if matching else None


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """Which calls of tools are allowed.

    A call is allowed if every layer allows it. The first layer is the policy as it was written; every update adds a
    layer. More layers allow no more, whatever their rules say: a call that one layer refuses stays refused. This is
    why `narrowed` needs no check of what an update holds.

    Attributes:
      layers: the rules as written, then those of the updates.
      message: what the agent reads if no rule says something else.
    """

    layers: tuple[Layer, ...]
    message: str = DEFAULT_MESSAGE

    @classmethod
    def read(cls, path: str | Path) -> "ToolPolicy":
        """Read a policy from a `.toml` or `.json` file.

        Raises:
          UserError: the file cannot be read or is off; the sentence names the file and the number of the rule.
        """
        path = Path(path)
        return cls.of(_parsed(path), where=str(path))

    @classmethod
    def of(cls, mapping: Mapping[str, Any], *, where: str = "The tool policy") -> "ToolPolicy":
        """The policy that a mapping stands for.

            {"default": "forbid", "message": "…", "rules": [{"tool": "send", "effect": "allow", …}, …]}

        Args:
          mapping: the keys are those of a file, see docs/tool-policy.md; `updates`, a list of further layers
            {"default": …, "rules": […]}, is there if `as_mapping` wrote a policy that was narrowed.
          where: what an error calls it.

        Raises:
          UserError: a key is unknown, or a value is off; the sentence names the number of the rule.
        """
        try:
            _check_keys(mapping, ("default", "message", "rules", "updates"))
            message, updates = mapping.get("message", DEFAULT_MESSAGE), mapping.get("updates", [])
            if not isinstance(message, str) or not message:
                raise UserError(f"'message' is a text that an agent can read, not {shown(message)}.")
            _check_list("updates", updates)
            layers = [_layer(mapping.get("rules", []), mapping.get("default", "forbid"))]
        except UserError as error:
            raise _within(where, error) from None
        for number, update in enumerate(updates, 1):
            try:
                _check_keys(update, ("default", "rules"))
                layers.append(_layer(update.get("rules", []), update.get("default", "allow")))
            except UserError as error:
                raise _within(f"{where}, update {number}", error) from None
        return cls(tuple(layers), message)

    def as_mapping(self) -> dict[str, Any]:
        """The mapping that `of` reads, for a file."""
        first, *updates = (
            {"default": layer.default, "rules": [rule.as_mapping() for rule in layer.rules]} for layer in self.layers
        )
        return {"message": self.message, **first, **({"updates": updates} if updates else {})}

    def decide(self, name: str, arguments: Mapping[str, Any]) -> Decision:
        """Decide on a call; equal calls get equal decisions, and no call raises.

        Args:
          name: the tool.
          arguments: the arguments as the tool will see them, with defaults and conversions done.
        """
        before, allowed_by = 0, None
        for number, layer in enumerate(self.layers):
            at = layer.decisive(name, arguments)
            rule = None if at is None else before + at + 1
            if (layer.default if at is None else layer.rules[at].effect) == "forbid":
                message = "" if at is None else layer.rules[at].message
                return Decision(False, message or self.message, rule)
            allowed_by = rule if number == 0 else allowed_by
            before += len(layer.rules)
        return Decision(True, "", allowed_by)

    def narrowed(self, rules: Iterable[Rule | Mapping[str, Any]], *, default: str = "allow") -> "ToolPolicy":
        """The policy after an update: it allows what it allowed before and the update allows too.

        Args:
          rules: of the update; most often forbids. An allow makes an exception to forbids of the same update.
          default: effect of the update on a call that none of its rules matches: "allow" leaves it as it was,
            "forbid" keeps nothing but what the rules allow.

        Raises:
          UserError: a rule is off.
        """
        try:
            layer = _layer(list(rules), default)
        except UserError as error:
            raise _within("The update", error) from None
        # Said twice is said once: a game may narrow after every turn without end.
        is_new = layer not in self.layers and layer != Layer((), "allow")
        return ToolPolicy((*self.layers, layer), self.message) if is_new else self


class Request(NamedTuple):
    """A call that a policy may be asked about."""

    name: str
    arguments: dict[str, Any]


class Difference(NamedTuple):
    """A request that one policy allows and the other forbids."""

    request: Request
    first: Decision
    second: Decision


class Absent(enum.Enum):
    """The type of `ABSENT`, which stands in a domain for an argument that is left out."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


def enumerate_requests(domains: Mapping[str, Mapping[str, Sequence[Any]]]) -> list[Request]:
    """Every request that can be made of finite domains.

    Args:
      domains: {tool: {argument: values}}; `ABSENT` among the values stands for the argument being left out.

    Returns:
      The requests, tool by tool; the last argument changes fastest.

    Raises:
      UserError: a domain is empty or is no list, or there are more than a million requests.
    """
    for name, arguments in domains.items():
        for argument, values in arguments.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise UserError(
                    f"The domain of '{argument}' of '{name}' is a list of at least one value, not {shown(values)}."
                )
    count = sum(math.prod(len(values) for values in arguments.values()) for arguments in domains.values())
    if count > MOST_REQUESTS:
        raise UserError(f"The domains have {count} requests, and {MOST_REQUESTS} are the most; leave values out.")
    return [
        Request(name, {key: value for key, value in zip(arguments, chosen, strict=True) if value is not ABSENT})
        for name, arguments in domains.items()
        for chosen in itertools.product(*arguments.values())
    ]


def differences(first: ToolPolicy, second: ToolPolicy, requests: Iterable[Request]) -> list[Difference]:
    """The requests that one policy allows and the other forbids, in the order given; messages do not count."""
    compared = (Difference(request, first.decide(*request), second.decide(*request)) for request in requests)
    return [found for found in compared if found.first.allowed != found.second.allowed]


def is_narrower(first: ToolPolicy, second: ToolPolicy, requests: Iterable[Request]) -> bool:
    """Whether the first policy allows none of the requests that the second forbids; equal policies are."""
    return not any(found.first.allowed for found in differences(first, second, requests))


def _layer(rules: Any, default: Any) -> Layer:
    _check_effect("default", default)
    _check_list("rules", rules)
    made: list[Rule] = []
    meanings: dict[tuple, int] = {}
    for number, rule in enumerate(rules, 1):
        try:
            made.append(rule if isinstance(rule, Rule) else Rule.of(rule))
        except UserError as error:
            raise _within(f"rule {number}", error) from None
        meaning = (made[-1].tool, made[-1].effect, made[-1].arguments, made[-1].priority)
        if meaning in meanings:
            raise UserError(f"rule {number} says again what rule {meanings[meaning]} says; delete one of them.")
        meanings[meaning] = number
    return Layer(tuple(made), default)


def _within(where: str, error: UserError) -> UserError:
    # "rules.toml, rule 3: …", but "rules.toml: 'default' …"
    text = str(error)
    return UserError(f"{where}{', ' if text.startswith('rule ') else ': '}{text}")


def _check_keys(mapping: Any, known: Sequence[str], *, needed: Sequence[str] = ()) -> None:
    if not isinstance(mapping, Mapping):
        raise UserError(f"it is a table with the keys {', '.join(known)}, not {shown(mapping)}.")
    for key in mapping:
        if key not in known:
            raise UserError(f"there is no key {shown(key)}; {nearest(str(key), known)}")
    for key in needed:
        if key not in mapping:
            raise UserError(f"'{key}' is missing; a rule needs {' and '.join(needed)}.")


def _check_list(key: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise UserError(f"'{key}' is a list of tables, not {shown(value)}.")


def _check_effect(key: str, value: Any) -> None:
    if value not in _EFFECTS:
        raise UserError(f"'{key}' is 'allow' or 'forbid', not {shown(value)}.")


def _parsed(path: Path) -> Any:
    parse = {".toml": tomllib.loads, ".json": _parse_json}.get(path.suffix)
    if parse is None:
        raise UserError(f"The tool policy {path} is a .toml or .json file by its name; found '{path.suffix}'.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path with a NUL
        raise UserError(f"The tool policy {path} could not be read: {error}.") from error
    try:
        return parse(text)
    except RecursionError as error:
        raise UserError(f"The tool policy {path} is nested too deeply.") from error
    except ValueError as error:  # bad syntax, or a number of thousands of digits
        raise UserError(f"The tool policy {path} is no {path.suffix[1:].upper()}: {error}.") from error


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Python keeps the last of equal keys without a word, and the rule that was meant might be the first.
    table = dict(pairs)
    if len(table) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown(repeated)} is there twice in one object; keep one of them")
    return table


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number; write a finite one")

"""Code of a user's own, named in a recipe: where it is found, what it may be, and what depends on it."""

import sys
from pathlib import Path

import pytest

from lapwing import build
from lapwing.api.warm_start_cache import warm_start_cache
from lapwing.audit.methods import find_methods
from lapwing.core.errors import UserError

CODE = '''
"""A user's file."""

from lapwing.policies.contexts import StateOnly
from lapwing.policies.parsers import Bare
from lapwing.policies.renderers import Grid


class Shout:
    """Says the row and the column, and how sure it is."""

    def __init__(self, *, marks: int = 1) -> None:
        self.marks = marks

    def messages(self, view):
        return [{"role": "user", "content": f"{view.row} {view.column} {'! ' * self.marks}".strip()}]

    def words(self, view):
        return {*"0123!"}


class Recent(StateOnly):
    """As it was."""


class Polite(Bare):
    """The reply may say please."""

    def compose(self, action):
        return f"{action} please"


def doubled(batch, *, factor: float = 2.0):
    """Twice the reward."""
    return factor * batch.reward
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder with a file of the user's, and nothing that leads to it."""
    (tmp_path / "own_code.py").write_text(CODE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    yield tmp_path
    sys.modules.pop("own_code", None)


def read(*overrides, name="frozen_lake_fixed_tiny"):
    return build.read_recipe(name, overrides=overrides)


def plans(*overrides, allow_code=("own_code",)):
    return build.plan(read(*overrides), allow_code=allow_code)


@pytest.mark.parametrize(
    ("section", "name"), [("renderer", "Shout"), ("context", "Recent"), ("parser", "Polite")], ids=lambda word: word
)
def test_the_parts_of_a_policy_may_be_one_s_own(here, section, name):
    override = f"policy.{section}={{name='own_code:{name}'}}"
    with pytest.raises(UserError, match="allow it with --allow-code own_code"):
        plans(override, allow_code=())
    assert "own_code" not in sys.modules
    found = plans(override, "generation.max_tokens=2")[-1]
    part = getattr(found, section)
    assert part.make.__name__ == name
    # The resolved recipe names it, so that the run can be trained again.
    assert found.to_dict()["policy"][section]["name"] == f"own_code:{name}"


def test_the_settings_of_an_own_renderer_are_checked_as_ours_are(here):
    assert plans("policy.renderer={name='own_code:Shout', marks=3}")[-1].renderer.settings == {"marks": 3}
    with pytest.raises(UserError, match=r"policy\.renderer\.mark is unknown; did you mean marks"):
        plans("policy.renderer={name='own_code:Shout', mark=3}")
    with pytest.raises(UserError, match=r"own_code:shout.*could not be imported"):
        plans("policy.renderer={name='own_code:shout'}")


@pytest.mark.parametrize("override", ["generation={name='own_code:Shout'}", "optimizer={name='own_code:Shout'}"])
def test_what_takes_no_code_of_one_s_own_says_what_there_is(here, override):
    with pytest.raises(UserError, match="there is no 'own_code:Shout'"):
        plans(override)
    assert "own_code" not in sys.modules


def test_a_tiny_model_knows_the_words_of_an_own_renderer_and_parser(here):
    both = ("policy.renderer={name='own_code:Shout'}", "policy.parser={name='own_code:Polite'}")
    with pytest.raises(UserError, match="'left please' needs 2 tokens"):
        plans(*both)
    vocabulary = build.make_workshop(plans(*both, "generation.max_tokens=2")[-1], 0).tokenizer.get_vocab()
    assert {"0", "3", "!", "please", "left"} <= set(vocabulary)
    assert "lake" not in vocabulary


def test_an_own_credit_method_is_audited_by_its_name_or_because_the_recipe_names_it(here):
    with pytest.raises(UserError, match="allow it with --allow-code own_code"):
        find_methods(["own_code:doubled"], ())
    (found,), left_out = find_methods(["own_code:doubled"], (), allow_code=("own_code",))
    assert (found.name, found.level, found.settings, left_out) == ("own_code:doubled", "step", {}, {})
    settings = {"own_code:doubled": {"factor": 3.0}}
    every, _ = find_methods(None, (), settings, allow_code=("own_code",))
    assert every[-1].name == "own_code:doubled"
    assert every[-1].settings == {"factor": 3.0}
    assert "own_code:doubled" not in {method.name for method in find_methods(None, ())[0]}


def test_a_warm_start_is_another_one_when_own_code_has_changed(here):
    # Fails when the name of a cached warm start depends on the recipe's texts alone.
    def kept(override):
        stages = plans(override)
        return warm_start_cache(stages, build.make_workshop(stages[-1], 0))

    own, ours = "policy.renderer={name='own_code:Shout'}", "policy.renderer={name='grid'}"
    before = kept(own), kept(ours)
    assert (kept(own), kept(ours)) == before
    path = Path("own_code.py")
    path.write_text(path.read_text("utf-8") + "\n# another line\n", encoding="utf-8")
    after = kept(own), kept(ours)
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("recipe", ["bandit_tiny", "search_qa_grpo"])
def test_a_game_s_own_words_are_in_the_vocabulary(recipe):
    stage = build.plan(build.read_recipe(recipe))[-1]
    vocabulary = build.make_workshop(stage, 0).tokenizer.get_vocab()
    assert set(build.make_game(stage.game).words()) <= set(vocabulary)

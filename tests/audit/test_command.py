"""`lapwing audit` from the outside: its JSON, its tables, its page, and wrong input."""

import io
import json
import shutil
import sys

import pytest

from lapwing import api, cli
from lapwing.core.errors import UserError
from lapwing.report.audit import _count, _root

TINY = (
    *("warm_start.iterations=3", "model.hidden=32", "model.layers=1", "model.heads=2", "model.intermediate=32"),
    *("warm_start.sampler.groups=4", "sampler.group_size=16", "sampler.max_steps=8"),
)
SETS = [word for override in TINY for word in ("--set", override)]
ROW = {
    "method", "settings", "level", "scope", "group_size", "groups", "unit", "in_reward_units", "scale", "bias",
    "bias_squared", "bias_squared_error", "action_bias", "action_bias_squared", "action_bias_squared_error",
    "variance", "mse", "covered", "sign_agreement", "rank_correlation", "gradient_cosine",
    "gradient_episodes_for_snr_1", "logit_gradient_cosine", "logit_gradient_episodes_for_snr_1",
}  # fmt: skip
AUDIT = {
    "settings", "game", "game_settings", "seed", "max_steps", "episodes", "steps", "starts", "states", "views",
    "parameters", "share_chance", "value", "domain_value", "optimal_domain_value", "invalid_share", "uncomposed_share",
    "advantage_deviation", "group_sizes", "recipe_group_size", "columns", "rows", "not_audited", "seconds",
}  # fmt: skip


@pytest.fixture
def lapwing(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lapwing", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        code = cli.main()
        return (code, *capsys.readouterr())

    return run


def test_the_json_of_a_recipe(lapwing, tmp_path):
    code, out, err = lapwing("audit", "frozen_lake_fixed_tiny", "--episodes", 400, "--json", *SETS)
    assert code == 0
    result = json.loads(out)
    assert "loading the libraries" in err
    assert set(result) == {"schema", "what", "weights", "audits"}
    assert (result["what"], result["weights"], result["schema"]) == ("frozen_lake_fixed_tiny", "warm start", 1)
    (audit,) = result["audits"]
    assert set(audit) == AUDIT
    assert all(set(row) == ROW for row in audit["rows"])
    assert (audit["episodes"], audit["states"], audit["starts"], audit["max_steps"]) == (400, 11, 1, 8)
    assert audit["group_sizes"] == [8, 16, 32, 128]
    assert abs(audit["value"]["mean"] - audit["value"]["exact"]) < 5 * audit["value"]["standard_error"]
    for row in (row for row in audit["rows"] if row["method"] == "oracle"):
        assert (row["bias"], row["sign_agreement"], row["mse"]) == (0.0, 1.0, 0.0)
        assert row["gradient_cosine"]["mean"] > 0.9
        assert row["gradient_cosine"]["low"] <= row["gradient_cosine"]["mean"] <= row["gradient_cosine"]["high"]
    assert not list(tmp_path.iterdir())


def test_wrong_names_are_refused_before_the_warm_start():
    rows = []
    with pytest.raises(UserError, match="did you mean oracle"):
        api.audit("bandit_tiny", methods=["orcale"], watch=rows.append)
    with pytest.raises(UserError, match="a list of names"):
        api.audit("bandit_tiny", methods="grpo", watch=rows.append)
    assert not rows


def test_the_table_of_variations(lapwing):
    code, out, _ = lapwing(
        *("audit", "frozen_lake_fixed_tiny", "--episodes", 200, "--methods", "oracle,grpo,gae", "--groups", "8,50"),
        *("--vary", "game.slippery=true,false", *SETS),
    )
    assert code == 0
    assert out.count("Groups of 50, game.slippery = ") == 2
    assert "game.slippery = true" in out
    assert "not audited: gae: needs value" in out
    line = next(line for line in out.splitlines() if line.startswith("oracle"))
    assert line.split()[1:5] == ["0", "0", "0.0000", "1.000"]


def test_random_maps_are_audited_from_several_starts(lapwing):
    sets = [*SETS, "--set", "sampler.groups=3"]
    code, out, _ = lapwing(
        "audit", "frozen_lake_tiny", "--episodes", 120, "--methods", "oracle,dr_grpo", "--json", *sets
    )
    assert code == 0
    (audit,) = json.loads(out)["audits"]
    assert audit["starts"] == 3
    assert audit["states"] > 20
    assert max(audit["group_sizes"]) <= 40


def test_a_run_is_audited_at_its_last_weights_and_on_its_page(lapwing, small_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    code, out, _ = lapwing("audit", run, "--episodes", 60, "--methods", "oracle,rloo", "--groups", "4", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["weights"] == "last"
    assert json.loads((run / "audit.json").read_text("utf-8")) == result
    page = (run / "report.html").read_text("utf-8")
    assert '<section id="audit">' in page
    assert 'id="figure-audit-1-cosine"' in page
    assert "Groups of 4" in page


def test_a_page_without_an_audit_says_nothing_of_it(small_run):
    assert '<section id="audit">' not in (small_run / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("square", "error", "text"),
    [
        (0.0, 0.0, "0"),
        (0.09, 0.01, "0.3000"),
        (0.0, 0.02, "< 0.2000"),
        (-0.03, 0.02, "< 0.1000"),
        (-1.0, 0.02, "< 0.2000"),
    ],
)
def test_a_bias_that_was_not_told_from_0_has_a_bound_above_0(square, error, text):
    assert _root(square, error) == text


def test_a_part_of_an_episode_is_not_shown_as_none():
    assert [_count(value) for value in (None, 0.0, 0.3, 1.0, 1234.4)] == ["–", "0", "< 1", "1", "1,234"]


WRONG = {
    "unknown recipe": (["frozen_lake_fixd_tiny"], "did you mean frozen_lake_fixed_tiny"),
    "unknown method": (["frozen_lake_fixed_tiny", "--methods", "orcale", *SETS], "did you mean oracle"),
    "a thinking recipe": (["frozen_lake_think_tiny"], "needs direct replies"),
    "a modulation": (["frozen_lake_fixed_tiny", "--methods", "salt"], "'salt'; it is a modulation"),
    "no method": (["frozen_lake_fixed_tiny", "--methods", ","], "at least one credit method"),
    "a critic": (
        ["frozen_lake_fixed_tiny", "--methods", "gae", "--episodes", "40", *SETS],
        "None of the methods can be audited: gae needs value (annotate/value supplies it); an audit has no trained",
    ),
    "a game that cannot be enumerated": (["snake_5x5_tiny"], "no method outcomes"),
    "a memory": (["frozen_lake_fixed_tiny", "--set", "policy.context={name='last_k'}"], "current state only"),
    "no number": (["frozen_lake_fixed_tiny", "--groups", "8,x"], "whole numbers"),
    "a group of one": (["frozen_lake_fixed_tiny", "--groups", "1", "--episodes", "40", *SETS], "2 to 40 episodes"),
    "too few episodes": (["frozen_lake_fixed_tiny", "--episodes", "3"], "at least 4 episodes"),
    "no variation": (["frozen_lake_fixed_tiny", "--vary", "game.slippery"], "--vary takes"),
    "an unknown setting": (["frozen_lake_fixed_tiny", "--vary", "game.slipery=true"], "slipery is unknown"),
}


@pytest.mark.parametrize(("words", "found"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_one_sentence(lapwing, words, found):
    code, out, err = lapwing("audit", *words, "--json")
    assert (code, out) == (2, "")
    assert found in err
    assert "Traceback" not in err

"""The model card says what the run's files say, in Markdown that nothing can break out of."""

import json
import shutil

import pytest
import yaml

from lapwing.core.errors import UserError
from lapwing.report.model_card import model_card


def head_and_body(card):
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_card_repeats_the_measured_numbers(small_run):
    head, body = head_and_body(model_card(small_run, name="me/lake", adapter=False))
    evaluation = json.loads((small_run / "evaluation.json").read_text())
    result = head["model-index"][0]["results"][0]
    trained = evaluation["policies"]["trained"]["success"]
    assert result["metrics"][0]["value"] == trained["mean"]
    assert result["dataset"]["type"] == "frozen_lake"
    assert head["library_name"] == "transformers"
    # A model from nothing has no base.
    assert "base_model" not in head
    assert f"{trained['mean']:.3f} \\[{trained['low']:.3f}, {trained['high']:.3f}\\]" in body
    for policy in ("random", "heuristic", "optimal", "untrained"):
        assert f"| {policy} |" in body


def test_the_card_says_how_to_repeat_the_run(small_run):
    _, body = head_and_body(model_card(small_run, name="lake", adapter=False))
    assert "lapwing train recipe.toml --seed 0" in body
    assert "| training seed | 0 |" in body
    assert "more information needed" not in body.lower()
    assert "None" not in body


def test_names_are_shown_as_text_and_not_as_markup(small_run):
    _, body = head_and_body(
        model_card(small_run, name="a|b <script>alert(1)</script> [x](javascript:y)\n# z", adapter=False)
    )
    assert "<script>" not in body
    assert "[x](javascript" not in body
    assert "\n# z" not in body


def test_a_run_from_other_weights_says_so(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"start_from": "runs/before"}))
    assert "which the recipe alone does not repeat" in model_card(run, name="lake", adapter=False)
    assert "which the recipe alone does not repeat" not in model_card(small_run, name="lake", adapter=False)


def test_a_hub_model_is_named_as_the_base(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    recipe = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(recipe.replace('name = "tiny"', 'name = "org/base"'))
    head, _ = head_and_body(model_card(run, name="lake", adapter=True))
    assert head["base_model"] == "org/base"
    assert head["library_name"] == "peft"


def test_a_run_without_an_evaluation_gets_no_card(small_run, tmp_path):
    run = shutil.copytree(small_run, tmp_path / "run")
    (run / "evaluation.json").unlink()
    with pytest.raises(UserError, match="has no evaluation yet; let it finish first: lapwing resume"):
        model_card(run, name="lake", adapter=False)

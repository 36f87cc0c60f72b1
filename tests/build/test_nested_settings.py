"""A setting whose type is a dataclass is a table of its own; and what a recipe may say of a model."""

import pytest

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.models.lora import LoraSettings


@pytest.fixture
def planned(toy_folder):
    def plan(*overrides):
        recipe = build.read_recipe("frozen_lake_tiny", overrides=[f"model.name='{toy_folder('qwen2')}'", *overrides])
        return build.plan(recipe)[-1]

    return plan


def test_a_table_becomes_the_dataclass_with_its_defaults(planned):
    assert planned("model.lora={rank=8, targets=['q_proj']}").model.settings["lora"] == LoraSettings(
        rank=8, targets=("q_proj",)
    )
    assert planned("model.lora={}").model.settings["lora"] == LoraSettings()
    assert planned("model.lora.alpha=4").model.settings["lora"] == LoraSettings(alpha=4)
    assert planned().model.settings["lora"] is None


def test_the_resolved_recipe_has_the_whole_table_and_plans_to_the_same(planned):
    stage = planned("model.lora={rank=8, targets=['q_proj']}").to_dict()
    assert stage["model"]["lora"] == {"rank": 8, "alpha": 32, "targets": ["q_proj"], "rslora": False}
    again = planned(*(f"model.lora.{key}={str(value).lower()}" for key, value in stage["model"]["lora"].items()))
    assert again.to_dict() == stage


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lora={rnk=8}", "main.model.lora.rnk is unknown; did you mean rank"),
        ("model.lora={rank='8'}", "main.model.lora.rank: input should be a valid integer, found '8'"),
        ("model.lora={rank=0}", r"main.model.lora: lora.rank \(0\)"),
        ("model.lora={dropout=0.1}", "main.model.lora.dropout is unknown"),
        ("model.lora=8", "main.model.lora"),
        ("model.attention='flash_attention_2'", "main.model: model.attention: flash_attention_2 takes no mask"),
        ("model.attention='flash'", "main.model.attention: input should be 'auto', 'sdpa'"),
        ("model.dtype='float16'", "main.model.dtype: input should be 'auto', 'float32' or 'bfloat16'"),
        ("model.trust_remote_code=true", "main.model.trust_remote_code is unknown"),
        ("model.seed=3", "main.model.seed is unknown"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(override, message, planned):
    with pytest.raises(UserError, match=message) as refused:
        planned(override)
    assert "errors" not in str(refused.value).partition("\n")[0]

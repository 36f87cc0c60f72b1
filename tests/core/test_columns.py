import pytest

from lapwing.core.columns import COLUMNS, column_axis, producer
from lapwing.core.errors import LapwingError


def test_every_column_has_an_axis_a_producer_and_a_meaning():
    for name, column in COLUMNS.items():
        assert column.axis in ("E", "N", "K"), name
        assert column.producer, name
        assert column.meaning, name


def test_parts_of_the_reward_belong_to_steps_and_come_from_play():
    assert column_axis("part:apples") == "N"
    assert producer("part:apples") == "rollout/play"


@pytest.mark.parametrize("name", ["part:", "parts:apples", "valeu"])
def test_an_unregistered_name_is_refused(name):
    with pytest.raises(LapwingError, match=f"No column is called '{name}'"):
        column_axis(name)


def test_the_refusal_is_one_sentence_with_one_mark_at_its_end():
    with pytest.raises(LapwingError, match=r"No column is called 'valeu'; did you mean .*value.*\?$"):
        column_axis("valeu")

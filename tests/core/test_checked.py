import numpy as np
import pytest

from lapwing.core.checked import checked
from lapwing.core.errors import MissingColumnError, UserError
from lapwing.credit.gae import gae
from lapwing.credit.gigpo import gigpo
from lapwing.credit.grpo import grpo
from lapwing.testing import episodes


@checked("value")
def a_method(batch, *, size=1):
    if size < 0:
        raise UserError("size must be at least 0.")
    return batch.reward * size


def test_a_missing_column_is_named_with_the_method_and_its_supplier():
    with pytest.raises(MissingColumnError, match=r"a_method needs the column 'value'.*annotate/value supplies it"):
        a_method(episodes([[1.0]]))


def test_numbers_that_are_not_finite_are_refused_with_their_place():
    with pytest.raises(UserError, match=r"a_method needs finite numbers in the column 'value', but step 1 has nan"):
        a_method(episodes([[1.0, 1.0]], value=[[0.0, np.nan]]))
    with pytest.raises(
        UserError, match=r"grpo needs finite numbers in the column 'reward', but step 0 has inf; the game"
    ):
        grpo(episodes([[np.inf]]))
    with pytest.raises(UserError, match=r"'outcome', but episode 1 has nan"):
        grpo(episodes([[1.0], [1.0]], outcome=[0.0, np.nan]))


def test_a_refused_setting_names_the_method_once():
    with pytest.raises(UserError, match=r"^a_method: size must be at least 0\.$"):
        a_method(episodes([[1.0]], value=[[0.0]]), size=-1)
    with pytest.raises(UserError, match=r"^gigpo: discount"):
        gigpo(episodes([[1.0]]), discount=2.0)


def test_a_column_that_is_needed_only_sometimes_is_asked_for_by_name():
    with pytest.raises(MissingColumnError, match=r"gae needs the column 'final_value'"):
        gae(episodes([[1.0]], truncated=[True], value=[[0.0]]))


def test_the_function_stays_what_it_was():
    assert a_method.__name__ == "a_method"
    np.testing.assert_array_equal(a_method(episodes([[2.0]], value=[[0.0]]), size=3), [6.0])

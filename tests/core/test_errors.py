import pytest

from lapwing.core.errors import nearest


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("grpp", ["other", "grpo"], "did you mean grpo?"),
        ("zzz", ["rloo", "grpo"], "valid names: grpo, rloo"),
        ("zzz", [], "there are none"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest_or_with_all(name, options, sentence):
    assert nearest(name, options) == sentence

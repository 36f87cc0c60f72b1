import pytest

from lapwing.policies.parsers import Bare, Invalid, Tags

LEGAL = ("left", "down", "right", "up")


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<action> up </action>", "up"),
        ("<action>up</action>", "up"),
        ("<action>\n  UP \n</action>", "up"),
        ("<think> go down </think> <action> up </action>", "up"),
        ("<think> <action> left </action> or not </think> <action> up </action>", "left"),
        ("<action> up </action> <action> down </action>", "up"),
        ("</action> <action> up </action>", "up"),
        ("<action> up </action> and so on", "up"),
    ],
)
def test_what_stands_between_the_first_tags_is_the_action(text, action):
    # Fails when the last tag counts, or the closing tag is looked for before the opening one.
    assert Tags().parse(text, LEGAL) == action


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no <action> tag"),
        ("up", "no <action> tag"),
        ("<ACTION> up </ACTION>", "no <action> tag"),
        ("<action> up", "no closing </action> tag"),
        ("</action> up <action>", "no closing </action> tag"),
        ("<action> </action>", "empty reply"),
        ("<action> up down </action>", "'up down' is no legal action"),
        ("<action> <action> up </action> </action>", "'<action> up' is no legal action"),
        ("<action> north </action>", "'north' is no legal action"),
        ("<action> " + "x" * 100 + " </action>", f"'{'x' * 40}' is no legal action"),
    ],
)
def test_anything_else_is_invalid_and_says_why(text, reason):
    assert Tags().parse(text, LEGAL) == Invalid(reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("up", "up"),
        ("  Up\n", "up"),
        ("", Invalid("empty reply")),
        ("up up", Invalid("'up up' is no legal action")),
        ("<action> up </action>", Invalid("'<action> up </action>' is no legal action")),
    ],
)
def test_a_bare_reply_is_the_name_of_the_action(text, expected):
    assert Bare().parse(text, LEGAL) == expected


def test_an_open_ended_game_takes_any_text_but_none():
    assert Tags().parse("<action> Forty Two </action>", None) == "forty two"
    assert Bare().parse(" yes ", None) == "yes"
    assert Bare().parse(" ", None) == Invalid("empty reply")


def test_actions_that_are_no_strings_are_found_by_their_text():
    assert Bare().parse("12", (3, 12)) == 12
    assert Tags().parse("<action> 3 </action>", (3, 12)) == 3
    assert isinstance(Bare().parse("4", (3, 12)), Invalid)


@pytest.mark.parametrize(
    ("parser", "text"),
    [
        (Bare(), "left"),
        (Tags(), "<action> left </action>"),
        (Tags(plan=True), "<plan> left </plan> <action> left </action>"),
        (Tags(think=True), "<think> go left </think> <action> left </action>"),
        (
            Tags(think=True, plan=True),
            "<think> go left </think> <plan> left </plan> <action> left </action>",
        ),
    ],
    ids=["bare", "tags", "plan", "think", "think and plan"],
)
def test_composed_replies_read_like_this_and_parse_to_their_action(parser, text):
    assert parser.compose("left") == text
    for action in LEGAL:
        assert parser.parse(parser.compose(action), LEGAL) == action
        assert set(parser.compose(action).split()) <= parser.words(LEGAL)
    assert all(stop in text for stop in parser.stop)

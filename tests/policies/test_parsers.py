import pytest

from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.policies.parsers import Bare, Hierarchical, Invalid, Notes, Plan, Tags, read_plan

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
    assert Tags().parse("<action> Forty Two </action>", None) == "Forty Two"
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


PLANNED = "<switch> SWITCH </switch> <subgoal> the door </subgoal> <action> up </action>"


def read_sections(parser, text):
    return [(text[first:end], span) for first, end, span in parser.sections(text)]


def test_a_planned_reply_holds_a_switch_a_subgoal_and_an_action():
    parser = Hierarchical()
    assert parser.parse(PLANNED, LEGAL) == "up"
    assert parser.read_plan(PLANNED) == Plan(switch=True, subgoal="the door")
    assert read_sections(parser, PLANNED) == [("SWITCH", 2), ("the door", 3), ("up", 4)]


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("<switch>switch</switch><subgoal>key</subgoal>", Plan(True, "key")),
        ("<switch> KEEP </switch> <subgoal> key </subgoal>", Plan(False, "key")),
        ("<subgoal> key </subgoal>", Plan(False, "key")),  # no switch is KEEP
        ("<switch> </switch>", Plan(False, "")),
        ("<switch> SWITCH", Plan(False, "")),  # not closed
        ("<switch> PERHAPS </switch> <subgoal> key", Plan(False, "")),
        ("</switch> <switch> SWITCH </switch> <switch> KEEP </switch>", Plan(True, "")),
        ("", Plan(False, "")),
    ],
)
def test_what_does_not_say_switch_keeps(text, plan):
    assert read_plan(text) == plan


def test_sections_that_are_missing_empty_or_open_have_no_characters():
    parser = Hierarchical()
    assert parser.sections("<switch> </switch> <subgoal> key <action> up </action>"[:-9]) == []
    assert read_sections(parser, "<action> up </action> <switch> KEEP </switch>") == [("KEEP", 2), ("up", 4)]
    # The text of the subgoal stands in the reply before: its own place counts.
    assert parser.sections("up <subgoal> up </subgoal>") == [(13, 15, 3)]


def test_tags_can_count_as_part_of_what_they_enclose():
    assert read_sections(Hierarchical(include_tags=True), PLANNED) == [
        ("<switch> SWITCH </switch>", 2),
        ("<subgoal> the door </subgoal>", 3),
        ("<action> up </action>", 4),
    ]


def test_tagged_replies_have_a_thought_and_an_action():
    text = "<think> go left </think> <plan> left </plan> <action> left </action>"
    assert read_sections(Tags(spans=True), text) == [("go left", 1), ("left", 4)]
    assert (Tags().spans, Tags(spans=True).spans) == (False, True)


def test_the_first_pair_of_action_tags_is_the_section_as_it_is_the_action():
    text = "<think> <action> left </action> or </think> <action> up </action>"
    assert read_sections(Tags(spans=True), text)[-1] == ("left", 4)
    assert text.index("left") == Tags(spans=True).sections(text)[-1][0]


def test_composed_plans_switch_at_first_and_keep_what_is_followed():
    parser = Hierarchical(subgoals=("key", "door"), switch_share=0.25)
    keys = [rng.fold(0, "test", number) for number in range(2000)]
    first = [parser.compose_after("up", "", key) for key in keys]
    later = [parser.compose_after("up", "the goal", key) for key in keys]
    assert first == [parser.compose_after("up", "", key) for key in keys]
    assert {read_plan(text).switch for text in first} == {True}
    kept = [text for text in later if not read_plan(text).switch]
    assert set(kept) == {"<switch> KEEP </switch> <subgoal> the goal </subgoal> <action> up </action>"}
    assert len(kept) / 2000 == pytest.approx(0.75, abs=4 * (0.25 * 0.75 / 2000) ** 0.5)
    drawn = [read_plan(text).subgoal for text in first]
    assert drawn.count("key") / 2000 == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    assert set(drawn) == {"key", "door"}


def test_every_composed_plan_parses_and_uses_announced_words():
    parser = Hierarchical(subgoals=("fetch the key", "door"))
    assert parser.compose("left") == (
        "<switch> SWITCH </switch> <subgoal> fetch the key </subgoal> <action> left </action>"
    )
    for key in range(40):
        for current in ("", *parser.subgoals):
            text = parser.compose_after("left", current, key)
            assert parser.parse(text, LEGAL) == "left"
            assert set(text.split()) <= parser.words(LEGAL)


@pytest.mark.parametrize(
    "settings",
    [{"subgoals": ()}, {"subgoals": ("key", " ")}, {"subgoals": ("<key>",)}, {"switch_share": 1.5}],
)
def test_impossible_plans_are_refused(settings):
    with pytest.raises(UserError, match=r"parser\."):
        Hierarchical(**settings)


def test_a_reply_with_notes_is_read_as_tags_are():
    parser = Notes()
    assert parser.parse("<summary> up </summary> <action> left </action>", LEGAL) == "left"
    assert parser.parse("<action> left </action>", LEGAL) == "left"
    assert isinstance(parser.parse("<summary> left </summary>", LEGAL), Invalid)


def test_composed_notes_without_a_lexicon_are_a_log_of_what_was_done():
    parser = Notes(length=3)
    assert parser.compose_after("up", "", 0) == "<summary> up </summary> <action> up </action>"
    assert parser.compose_after("up", "left down", 0) == "<summary> left down up </summary> <action> up </action>"
    assert parser.compose_after("up", "a b c d", 0) == "<summary> c d up </summary> <action> up </action>"
    assert parser.compose("up") == "<summary> up up up </summary> <action> up </action>"


def test_composed_notes_from_a_lexicon_are_kept_or_drawn_anew():
    parser = Notes(tag="notes", lexicon=("red", "green"), composed="drawn", keep_share=0.75)
    keys = [rng.fold(0, "notes", number) for number in range(2000)]
    first = [parser.compose_after("up", "", key) for key in keys]
    assert first == [parser.compose_after("up", "", key) for key in keys]
    red = "<notes> red </notes> <action> up </action>"
    assert set(first) == {red, red.replace("red", "green")}
    assert first.count(red) / 2000 == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    later = [parser.compose_after("up", "blue", key) for key in keys]
    kept = sum("blue" in text for text in later) / 2000
    assert kept == pytest.approx(0.75, abs=4 * (0.25 * 0.75 / 2000) ** 0.5)


def test_composed_notes_are_copied_from_what_is_shown_or_kept():
    # Fails when the first words are taken, or what was carried is lost where nothing is shown.
    parser = Notes(lexicon=("red", "green", "blue"), length=2)
    shown = "red door blue sign green"
    assert parser.compose_after("up", "red", 0, shown=shown) == "<summary> blue green </summary> <action> up </action>"
    assert parser.compose_after("up", "red", 0, shown="dark") == "<summary> red </summary> <action> up </action>"
    assert parser.compose_after("up", "", 0, shown="dark") == "<summary>  </summary> <action> up </action>"


@pytest.mark.parametrize(
    "parser",
    [Notes(), Notes(length=2), *(Notes(lexicon=("red", "up"), length=2, composed=c) for c in ("copied", "drawn"))],
)
def test_composed_notes_parse_use_announced_words_and_are_no_longer_than_announced(parser):
    for key in range(40):
        for current in ("", "up", "left up"):
            text = parser.compose_after("left", current, key)
            assert parser.parse(text, LEGAL) == "left"
            assert set(text.split()) <= parser.words(LEGAL)
            assert len(text.split()) <= len(parser.compose("left").split())


@pytest.mark.parametrize(
    "settings",
    [
        {"tag": "action"},
        {"composed": "made"},
        {"lexicon": ("a b",)},
        {"lexicon": ("<a",)},
        {"length": 0},
        {"keep_share": 1.5},
    ],
)
def test_impossible_notes_are_refused(settings):
    with pytest.raises(UserError, match=r"parser\."):
        Notes(**settings)

import pytest

from lapwing.core.errors import UserError
from lapwing.policies.contexts import CurrentPlan, LastK, Scratchpad, StateOnly, Summary, Transcript

SYSTEM = {"role": "system", "content": "rules"}


def user(text):
    return {"role": "user", "content": text}


def reply(text):
    return {"role": "assistant", "content": text}


def after(context, steps):
    """The memory after some steps, each a view with a system message and a reply."""
    memory = None
    for n in range(steps):
        memory = context.remember(memory, [SYSTEM, user(f"view {n}")], f"reply {n}")
    return memory


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_state_alone_is_all_that_is_shown(steps):
    context = StateOnly()
    assert context.messages([SYSTEM, user("now")], after(context, steps)) == [SYSTEM, user("now")]


def test_the_last_two_steps_are_shown():
    # Fails when the oldest are kept, or the system message is repeated with every step.
    context = LastK(k=2)
    assert context.messages([SYSTEM, user("now")], None) == [SYSTEM, user("now")]
    assert context.messages([SYSTEM, user("now")], after(context, 3)) == [
        SYSTEM,
        user("view 1"),
        reply("reply 1"),
        user("view 2"),
        reply("reply 2"),
        user("now"),
    ]


def test_the_transcript_shows_all_and_only_ever_grows():
    context = Transcript()
    before: list = []
    for steps in range(4):
        messages = context.messages([SYSTEM, user(f"view {steps}")], after(context, steps))
        assert messages[: len(before)] == before
        assert messages == [
            SYSTEM,
            *[m for n in range(steps) for m in (user(f"view {n}"), reply(f"reply {n}"))],
            user(f"view {steps}"),
        ]
        before = messages


def test_a_memory_is_not_changed_by_what_follows():
    for context in (LastK(k=2), Transcript()):
        memory = after(context, 2)
        kept = repr(memory)
        context.remember(memory, [user("more")], "reply")
        assert repr(memory) == kept


def test_showing_no_earlier_step_is_another_context_policy():
    with pytest.raises(UserError, match="at least 1, not 0"):
        LastK(k=0)


def plan(switch, subgoal):
    return f"<switch> {switch} </switch> <subgoal> {subgoal} </subgoal> <action> up </action>"


@pytest.mark.parametrize(
    ("replies", "followed"),
    [
        ([], ""),
        ([plan("SWITCH", "key")], "key"),
        ([plan("KEEP", "key")], "key"),  # at the first step there is nothing to keep
        ([plan("SWITCH", "key"), plan("KEEP", "door")], "key"),  # keeping keeps, whatever is repeated
        ([plan("SWITCH", "key"), plan("SWITCH", "door")], "door"),
        ([plan("SWITCH", "key"), "<switch> SWITCH </switch> <action> up </action>"], "key"),
        ([plan("SWITCH", "key"), "nonsense"], "key"),
        (["nonsense", plan("KEEP", "door")], "door"),
        (["nonsense"], ""),
    ],
)
def test_the_subgoal_that_is_followed_is_shown_and_nothing_else(replies, followed):
    context, memory = CurrentPlan(), None
    for reply_text in replies:
        memory = context.remember(memory, [SYSTEM, user("before")], reply_text)
    shown = f"now <subgoal> {followed} </subgoal>" if followed else "now"
    assert context.messages([SYSTEM, user("now")], memory) == [SYSTEM, user(shown)]
    assert context.current(memory) == followed


def told(context, replies):
    """The memory after these replies."""
    memory = None
    for text in replies:
        memory = context.remember(memory, [SYSTEM, user("before")], text)
    return memory


def note(tag, text):
    return f"<{tag}> {text} </{tag}> <action> up </action>"


# What both do with a text, with no tags, with an open tag, and with two pairs.
CARRIED = [
    ([], ""),
    (["one"], "one"),
    (["one", "two"], "two"),
    (["one", None], "one"),
    ([None], ""),
    (["a  b"], "a  b"),
]


@pytest.mark.parametrize("context", [Summary(), Scratchpad()], ids=["summary", "scratchpad"])
@pytest.mark.parametrize(("texts", "carried"), CARRIED)
def test_the_last_text_is_carried_and_nothing_else(context, texts, carried):
    # Fails when texts are joined, the first one stays, or a reply without one forgets.
    tag = context.carries
    replies = ["<action> up </action>" if text is None else note(tag, text) for text in texts]
    memory = told(context, replies)
    shown = f"now <{tag}> {carried} </{tag}>" if carried else "now"
    assert context.messages([SYSTEM, user("now")], memory) == [SYSTEM, user(shown)]
    assert context.current(memory) == carried


@pytest.mark.parametrize("context", [Summary(), Scratchpad()], ids=["summary", "scratchpad"])
def test_a_text_that_is_not_closed_or_has_the_other_tag_is_none(context):
    other = {"summary": "notes", "notes": "summary"}[context.carries]
    opened = f"<{context.carries}> half <action> up </action>"
    assert context.current(told(context, [note(context.carries, "kept"), opened, note(other, "wrong")])) == "kept"


def test_an_empty_summary_is_missing_but_empty_notes_wipe():
    assert Summary().current(told(Summary(), [note("summary", "kept"), note("summary", "")])) == "kept"
    assert Scratchpad().current(told(Scratchpad(), [note("notes", "gone"), note("notes", "")])) == ""


@pytest.mark.parametrize("make", [Summary, Scratchpad])
@pytest.mark.parametrize(
    ("cap", "text", "kept"),
    [(7, "one two", "one two"), (6, "one two", "one"), (3, "one two", "one"), (2, "one two", "on"), (4, "o  two", "o")],
)
def test_what_is_carried_is_cut_after_a_word(make, cap, text, kept):
    context = make(max_characters=cap)
    assert context.current(told(context, [note(context.carries, text)])) == kept


@pytest.mark.parametrize("make", [Summary, Scratchpad])
def test_a_cap_below_one_character_is_refused(make):
    with pytest.raises(UserError, match="max_characters is at least 1, not 0"):
        make(max_characters=0)

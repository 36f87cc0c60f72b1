import pytest

from lapwing.core.errors import UserError
from lapwing.policies.contexts import CurrentPlan, LastK, StateOnly, Transcript

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

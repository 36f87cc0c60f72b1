"""TextWorld in its own words, or in short."""

from lapwing.games.adapters._textworld_views import TextworldView, room_of
from lapwing.games.adapters._words import split_words

INSTRUCTIONS = "You play a text adventure . Say one of the commands that are listed , and nothing else ."


def text(view: TextworldView) -> str:
    """The objective, the last command's text, the room, what is carried, and the commands, a line or more each."""
    commands = f"commands : {' ; '.join(view.commands)}" if view.commands else ""
    parts = (f"goal : {view.objective}", view.feedback, view.description, view.inventory, commands)
    return "\n".join(part for part in parts if part)


def coordinates(view: TextworldView) -> str:
    """The objective, the room's name, what is carried and the commands, word by word; the descriptions are left out."""
    said = [("goal", view.objective), ("room", room_of(view.description)), ("carry", view.inventory)]
    parts = [f"{name} : {' '.join(split_words(content))}" for name, content in said]
    return " ".join([*parts, "commands :", " ; ".join(view.commands)])


def words(view: TextworldView) -> set[str]:
    """The words of both; those of other places are the game's to say."""
    return {"goal", "room", "carry", "commands", ":", ";", *text(view).split(), *coordinates(view).split()}

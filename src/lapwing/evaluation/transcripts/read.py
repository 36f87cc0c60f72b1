"""From a path to episodes: which format it is, and what a person should know about the reading."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import UserError, nearest
from lapwing.core.ragged import group_index
from lapwing.evaluation.transcripts import chat
from lapwing.evaluation.transcripts.builder import Builder, EpisodeRecord, Transcripts
from lapwing.evaluation.transcripts.episodes import read_episode
from lapwing.evaluation.transcripts.fields import FORMATS, Fields, has
from lapwing.evaluation.transcripts.lines import Row, find_files, read_rows, shown

VIEWS = ("last", "history")
_MOST_LINES_NAMED = 5


def read_transcripts(
    path: str | Path, *, form: str = "auto", mapping: Sequence[str] = (), views: str = "last"
) -> Transcripts:
    """Read episodes from a file or a folder of JSONL, line by line; of most of them only numbers are kept.

    Args:
      path: a file `*.jsonl` or `*.jsonl.gz`, a folder of such files, or the folder of a run.
      form: "lapwing", "trl", "verl", "verifiers", or "auto", which tells by the fields of the first line.
      mapping: `field=place`: where the rows hold a field.
      views: what a chat's assistant saw: "last", the messages since its last one, or "history", all before.

    Raises:
      UserError: there is nothing to read, or something in it is wrong; the sentence names the line and the field.
    """
    for name, value, options in (("format", form, ("auto", *FORMATS)), ("setting of views", views, VIEWS)):
        if value not in options:
            raise UserError(f"There is no {name} '{value}'; {nearest(value, options)}")
    rows = read_rows(find_files(Path(path)))
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path} holds no episodes; give one JSON object a line.")
    form = detect(first) if form == "auto" else form
    builder, notes = Builder(), chat.Notes()
    where = first.where
    try:
        for episode in _episodes(_again(first, rows), Fields(form, mapping), views, notes):
            where = episode.where
            builder.add(episode)
    except RecursionError as error:
        raise UserError(f"{where}, or the line after it, is nested too deeply to be an episode.") from error
    if not builder.identifiers:
        raise UserError(f"{path} holds no episodes: every row has an error and no completion.")
    batch = builder.batch()
    return Transcripts(
        source=str(path),
        form=form,
        views=views,
        batch=batch,
        identifiers=builder.identifiers,
        groups=builder.groups,
        shown=builder.shown,
        notes=_notes(builder, notes, batch, form),
    )


def detect(row: Row) -> str:
    """The format of a file by the fields of its first row.

    Raises:
      UserError: the fields are those of no format.
    """
    keys = set(row.value)
    if "steps" in keys:
        return "lapwing"
    if {"input", "output"} <= keys or {"messages", "score"} <= keys:
        return "verl"
    if {"prompt", "completion"} <= keys:
        return "verifiers" if keys & {"example_id", "task", "metrics", "is_completed"} else "trl"
    raise UserError(
        f"{row.where} is of no known format: {has(row.value)}; name one with --format ({', '.join(FORMATS)}) and its "
        "fields with --map."
    )


def _again(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


def _episodes(rows: Iterator[Row], fields: Fields, views: str, notes: chat.Notes) -> Iterator[EpisodeRecord]:
    if fields.form == "lapwing":
        return (read_episode(row, fields) for row in rows)
    return chat.read_rows_as_episodes(rows, fields, views, notes)


def _notes(builder: Builder, notes: chat.Notes, batch: EpisodeBatch, form: str) -> list[str]:
    found = []
    _, size = group_index(batch.group)
    alone = int(np.sum(size == 1))
    if alone == len(size):
        found.append(
            "Every group holds one episode, so that whatever compares the episodes of a group gives 0; if the groups "
            "stand in another field, name it with --map group=…"
        )
    elif alone:
        found.append(f"{alone:,} of {len(size):,} groups hold one episode, which group-relative methods give 0.")
    if not builder.has_tokens:
        found.append(
            "The file tells no tokens: every step counts as one, so that methods that work by token work by step."
        )
    for missing, what in ((builder.views_missing, "view"), (builder.actions_missing, "valid action")):
        if missing:
            found.append(f"{missing:,} of {batch.num_steps:,} steps have no {what} and match no other step.")
    if notes.rewards and (form == "trl" and any("+" in place for place in notes.rewards)):
        summed = " or ".join(shown(place) for place in sorted(notes.rewards)[:_MOST_LINES_NAMED])
        found.append(f"The reward is the sum {summed}, each with weight 1; choose others with --map reward=…")
    if notes.failed:
        named = "; ".join(notes.failed[:_MOST_LINES_NAMED])
        rest = len(notes.failed) - _MOST_LINES_NAMED
        row, is_ = ("row", "is") if len(notes.failed) == 1 else ("rows", "are")
        found.append(
            f"{len(notes.failed):,} {row} with an error and no completion {is_} left out: {named}"
            f"{f' and {rest:,} more' if rest > 0 else ''}."
        )
    return found

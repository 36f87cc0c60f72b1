"""A copy for TensorBoard, in the run's folder: `tensorboard --logdir RUN/mirrors/tensorboard`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.report.mirrors._texts import About, escaped, numbers


class TensorBoard:
    """Event files, one folder for each stage and one for the last evaluation; names are those of `metrics.jsonl`."""

    def __init__(self, about: About) -> None:
        """Begin.

        Args:
          about: the run.
        """
        from tensorboard.compat.proto import event_pb2, summary_pb2

        self._events: Any = event_pb2
        self._summaries: Any = summary_pb2
        self._folder = about.path / "mirrors" / "tensorboard"
        self._recipe = about.text
        self._writers: dict[str, Any] = {}

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Copy rows."""
        for row in rows:
            stage, step = str(row["stage"]), int(row["iteration"])
            if stage not in self._writers:
                self._begin(stage, step)
                self._write(stage, step, [self._text("recipe", f"<pre>{escaped(self._recipe)}</pre>")])
            self._write(stage, step, self._scalars(numbers(row)))

    def final(self, found: Mapping[str, float], steps: int) -> None:
        """Copy the last evaluation, at the step after the last iteration."""
        self._begin("test", steps)
        self._write("test", steps, self._scalars(found))

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()

    def _begin(self, stage: str, first: int) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in stage)
        self._writers[stage] = EventFileWriter(str(self._folder / name))
        # What an earlier process wrote beyond the checkpoint of a resume is made again, and the old is not to be shown.
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writers[stage].add_event(self._events.Event(wall_time=time.time(), step=first, session_log=start))

    def _scalars(self, found: Mapping[str, float]) -> list[Any]:
        return [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in found.items()]

    def _text(self, tag: str, text: str) -> Any:
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        tensor = make_tensor_proto(text.encode("utf-8"))
        return self._summaries.Summary.Value(tag=tag, metadata=create_summary_metadata(tag, ""), tensor=tensor)

    def _write(self, stage: str, step: int, values: Sequence[Any]) -> None:
        summary = self._summaries.Summary(value=values)
        self._writers[stage].add_event(self._events.Event(wall_time=time.time(), step=step, summary=summary))


def open_mirror(about: About) -> TensorBoard:
    """Begin to mirror a run."""
    return TensorBoard(about)

import dataclasses

import numpy as np
import pytest

from lapwing.core.errors import LapwingError
from lapwing.core.storage import (
    atomic_path,
    canonical_json,
    content_hash,
    key_of,
    read_json,
    read_json_lines,
    to_plain,
    write_json,
    write_text,
)


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: tuple[float, ...]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    # Fails when the file is written in place, or the temporary one is left lying.
    path = tmp_path / "model.bin"
    path.write_text("old")

    def interrupted():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_ends_replaces_the_file(tmp_path):
    path = tmp_path / "deep" / "model.bin"
    for text in ("one", "two"):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]


def test_json_goes_out_and_comes_back(tmp_path):
    value = {"ü": [1, 2.5, None, True], "b": {"c": "…"}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_without_numbers_is_refused_and_the_old_file_stays(tmp_path, number):
    write_json(tmp_path / "a.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": number})
    assert read_json(tmp_path / "a.json") == {"loss": 1.0}


@pytest.mark.parametrize("content", [None, "{half"])
def test_a_missing_or_broken_json_file_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(LapwingError, match=r"a\.json could not be read as JSON"):
        read_json(tmp_path / "a.json")


def test_a_half_written_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_json_lines(path) == []
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a":')
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]
    # A whole object without its newline was not finished either.
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert read_json_lines(path) == [{"a": 1}]


def test_lone_surrogates_can_be_written_and_hashed(tmp_path):
    # Models that are cut in the middle of a character produce these.
    write_text(tmp_path / "reply.txt", "a\ud800b")
    assert (tmp_path / "reply.txt").read_text(encoding="utf-8") == "a?b"
    assert key_of("a\ud800b") != 0
    assert content_hash("a\ud800b") != content_hash("b")


def test_keys_of_views_never_change():
    # Stored batches hold these numbers.
    assert key_of({"b": (1, 2.5), "a": "ü"}) == 14822605144673686792
    assert key_of(Point(1, (2.0,))) == key_of({"y": [2.0], "x": 1})


def test_equal_values_have_one_text():
    assert canonical_json({"b": 1, "a": (1, 2)}) == '{"a":[1,2],"b":1}'
    assert canonical_json({3, 1, 2}) == canonical_json({2, 3, 1})
    assert canonical_json({"x": np.float64(0.5), "y": np.int64(3)}) == canonical_json({"x": 0.5, "y": 3})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Point(1, (2.0, 3.0)), {"x": 1, "y": [2.0, 3.0]}),
        (np.arange(3), [0, 1, 2]),
        ({1: np.bool_(True)}, {"1": True}),
        (frozenset({"b", "a"}), ["a", "b"]),
        ([None, 1.5, "x"], [None, 1.5, "x"]),
    ],
)
def test_frozen_data_becomes_json_types(value, plain):
    assert to_plain(value) == plain

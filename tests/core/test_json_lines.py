import gzip

import pytest

from lapwing.core import json_lines
from lapwing.core.errors import UserError
from lapwing.core.json_lines import Line, Row, read_lines, read_row, shown


def test_lines_keep_their_numbers_and_are_read_one_by_one(tmp_path):
    # Fails when blank lines are not counted, or one bad line ends the reading.
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\nhm\n{"b": 2}')
    first, second, third = read_lines(file)
    assert (first.where, second.where, third.where) == ("a.jsonl, line 1", "a.jsonl, line 3", "a.jsonl, line 4")
    assert read_row(first) == Row("a.jsonl, line 1", {"a": 1})
    with pytest.raises(UserError, match=r"a\.jsonl, line 3 is not JSON"):
        read_row(second)
    assert read_row(third).value == {"b": 2}


def test_what_a_line_holds_is_named(tmp_path):
    with pytest.raises(UserError, match=r"line 1 is no JSON object but \[\]; give one dialogue a line, as an object"):
        read_row(Line("a.jsonl, line 1", b"[]"), of="dialogue")


def test_a_packed_line_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "_LONGEST_LINE", 1000)
    file = tmp_path / "bomb"
    file.write_bytes(gzip.compress(b" " * 100_000))
    with pytest.raises(UserError, match="bomb, line 1 is longer than 256 MiB; give one dialogue a line"):
        list(read_lines(file, of="dialogue"))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="could not be read after line 0"):
        list(read_lines(tmp_path / "missing"))
    (tmp_path / "table").write_bytes(b"PAR1...")
    with pytest.raises(UserError, match="table is a Parquet file"):
        list(read_lines(tmp_path / "table"))


def test_values_are_shown_short_and_in_ascii():
    assert shown("\x1b[2J") == '"\\u001b[2J"'
    assert len(shown("a" * 1000)) == 61

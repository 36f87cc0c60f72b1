"""Mirrors: what TensorBoard, W&B and trackio get, that no text is raw in them, and that none of them can do harm."""

import importlib.util
import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

import lapwing
from lapwing.api.mirroring import mirrored, mirrors_entry
from lapwing.core.errors import UserError
from lapwing.core.storage import read_json_lines
from lapwing.report import mirrors as room
from lapwing.report.mirrors import Mirrors, check_mirrors
from lapwing.report.mirrors._courier import Courier
from lapwing.report.mirrors._texts import About, as_config, escaped, final_numbers, numbers
from lapwing.report.mirrors.wandb import why_offline
from lapwing.training.run_folder import Onlooker, RunFolder

# What the packages warn of is not ours.
pytestmark = pytest.mark.filterwarnings("ignore")

HOSTILE = "</script><script>alert(1)</script>\u2028\u2029\x1b[2J\u202e</pre><img src=x onerror=alert(1)>"
RAW = ("<script", "</script", "</pre><", "<img", "\u2028", "\u2029", "\x1b[2J", "\u202e")
RECIPE = {"seed": 0, "stage": [{"name": "main", "iterations": 2, "policy": {"own": HOSTILE, HOSTILE: 1}}]}
ROWS = [
    {"stage": "warm_start", "iteration": 0, "update/loss": 3.5},
    {"stage": "warm_start", "iteration": 1, "update/loss": 2.5},
    {"stage": "main", "iteration": 0, "rollout/return_mean": 0.25, f"rollout/part:{HOSTILE}": 1.0},
    {"stage": "main", "iteration": 1, "rollout/return_mean": 0.5, "rollout/failed": 0, "text": HOSTILE},
]
MEASURES = {"success": {"mean": 0.75, "low": 0.5, "high": 1.0}, "score": None, "parts": {}}
EVALUATION = {"game": HOSTILE, "episodes": 4, "seed": 0, "policies": {"trained": MEASURES}}
FINAL = {"test/trained/success/mean": 0.75, "test/trained/success/low": 0.5, "test/trained/success/high": 1.0}


def needed(name):
    if not room.is_installed(name):
        pytest.skip(f"the package {name} is not installed; it belongs to an extra, not to the tests")


@pytest.fixture
def about(tmp_path):
    folder = tmp_path / "my <script> run"
    folder.mkdir()
    text = f"own = '{HOSTILE}'\nseed = 0\n"
    return About(folder, folder.name, "abc123def456", RECIPE, text)


def mirror(name, about, rows=ROWS, final=True):
    """Mirror rows, and return what was complained of."""
    said = []
    with Mirrors([name], about, said.append) as mirrors:
        for row in rows:
            mirrors.tell(row)
        if final:
            mirrors.conclude(EVALUATION, {"5x5": EVALUATION})
    return said


def no_raw_text_in(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert [text for text in RAW if text.encode() in content] == [], path


# ---------------------------------------------------------------------------------------------------------------------
# TensorBoard.


def scalars(folder, stage):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / stage), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}, found


# Fails when a name is not that of the log, a stage's steps run into the next one's, or the last evaluation is missing.
def test_f64_tensorboard_reads_every_row_under_its_name_one_folder_a_stage(about):
    needed("tensorboard")
    from tensorboard.plugin_util import markdown_to_safe_html

    assert mirror("tensorboard", about) == []
    folder = about.path / "mirrors" / "tensorboard"
    assert scalars(folder, "warm_start")[0] == {"update/loss": [(0, 3.5), (1, 2.5)]}
    main, accumulator = scalars(folder, "main")
    assert main["rollout/return_mean"] == [(0, 0.25), (1, 0.5)]
    assert main["rollout/failed"] == [(1, 0.0)]
    assert main[escaped(f"rollout/part:{HOSTILE}")] == [(0, 1.0)]
    assert len(main) == 3
    test, _ = scalars(folder, "test")
    assert {name: value for name, value in test.items() if name.startswith("test/")} == {
        name: [(2, value)] for name, value in FINAL.items()
    }
    assert "transfer_5x5/trained/success/mean" in test
    text = accumulator.Tensors("recipe")[0].tensor_proto.string_val[0].decode()
    assert "seed = 0" in text
    shown = markdown_to_safe_html(text)
    assert not any(raw in shown for raw in ("<script", "<img", "\u2028"))
    assert "&lt;script&gt;alert(1)" in shown
    no_raw_text_in(folder)


# Fails when the rows beyond the checkpoint of a resume are drawn beside those that were made again.
def test_tensorboard_shows_what_a_resumed_run_made_again_once(about):
    needed("tensorboard")
    first = [{"stage": "main", "iteration": number, "update/loss": 1.0} for number in range(4)]
    again = [{"stage": "main", "iteration": number, "update/loss": 2.0} for number in range(2, 5)]
    mirror("tensorboard", about, first, final=False)
    time.sleep(1.1)  # event files are named by the second
    mirror("tensorboard", about, again, final=False)
    found, _ = scalars(about.path / "mirrors" / "tensorboard", "main")
    assert found["update/loss"] == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]


# ---------------------------------------------------------------------------------------------------------------------
# Weights & Biases.


def records(folder):
    """Everything that an offline run holds: a log of LevelDB's, blocks of 32 KiB with parts of records."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("mirrors/wandb/offline-run-*/run-*.wandb")
    data, at, part, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(wandb_internal_pb2.Record.FromString(part))
            part = b""
    return found


# Fails when names lose their stage, when the step is that of another stage, or when the network is asked.
def test_f64_wandb_writes_every_row_offline_and_the_recipe_as_config(about, monkeypatch):
    needed("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert mirror("wandb", about) == []
    # The service of W&B is a process of its own, which writes after we were told that all is done.
    until = time.monotonic() + 60
    while not (found := records(about.path)) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < until
        time.sleep(0.05)
    history, summary, config, run = [], {}, {}, None
    for record in found:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        elif record.WhichOneof("record_type") == "summary":
            updates = record.summary.update
            summary |= {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in updates}
        elif record.WhichOneof("record_type") == "run":
            run = record.run
            config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert [(row.get("main/rollout/return_mean"), row.get("main/iteration")) for row in history[2:]] == [
        (0.25, 0),
        (0.5, 1),
    ]
    assert [(row.get("warm_start/update/loss"), row.get("warm_start/iteration")) for row in history[:2]] == [
        (3.5, 0),
        (2.5, 1),
    ]
    assert {name: summary[name] for name in FINAL} == FINAL
    assert (run.run_id, run.project, run.display_name) == ("abc123def456", "lapwing", "my &lt;script&gt; run")
    assert config["seed"] == 0
    assert config["stage"]["0:main"]["iterations"] == 2
    assert config["stage"]["0:main"]["policy"]["own"] == escaped(HOSTILE)
    texts = "".join(str(record) for record in found)
    assert not any(raw in texts for raw in ("<script", "<img", "\u2028"))


KEYS = ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE", "https_proxy", "http_proxy")


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """No word of W&B or a proxy in the environment, and no login; a function that sets some."""
    for name in (*KEYS, *map(str.upper, KEYS), "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))

    def given(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return given


# Fails when nobody's key leads to a question at the terminal, or a dead network to minutes of waiting.
def test_without_a_key_or_a_network_wandb_goes_offline_and_says_why(environment, tmp_path):
    assert "no key" in why_offline()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        environment(WANDB_BASE_URL=f"http://{address}", WANDB_API_KEY="0123456789")
        assert why_offline() == "127.0.0.1 cannot be reached"
        server.listen()
        assert why_offline() == ""
        # A proxy is what has to be reached, where there is one.
        environment(WANDB_BASE_URL="http://wandb.invalid", http_proxy=f"http://{address}")
        assert why_offline() == ""
    assert why_offline() == "wandb.invalid cannot be reached"
    environment(WANDB_MODE="online")
    assert why_offline() == ""


def test_a_login_of_wandb_is_found(environment, tmp_path):
    environment(WANDB_BASE_URL="http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password 0123456789\n")
    assert why_offline() == "127.0.0.1 cannot be reached"


# ---------------------------------------------------------------------------------------------------------------------
# Trackio.


# Fails when the environment's Space gets the run, or when a row is under another name or step.
def test_f64_trackio_holds_every_row_in_its_local_database(about, monkeypatch, tmp_path):
    needed("trackio")
    from trackio import sqlite_storage, utils

    for module in (sqlite_storage, utils):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setenv("TRACKIO_SPACE_ID", "somebody/space")

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert mirror("trackio", about) == []
    storage = sqlite_storage.SQLiteStorage
    logs = storage.get_logs("lapwing", run_id="abc123def456")
    assert [(log["step"], log.get("main/rollout/return_mean")) for log in logs if "main/iteration" in log] == [
        (0, 0.25),
        (1, 0.5),
    ]
    assert [log["warm_start/update/loss"] for log in logs if "warm_start/iteration" in log] == [3.5, 2.5]
    (last,) = [log for log in logs if "test/trained/success/mean" in log]
    assert last["step"] == 2
    assert {name: last[name] for name in FINAL} == FINAL
    config = storage.get_run_config("lapwing", run_id="abc123def456")
    assert config["stage"]["0:main"]["policy"]["own"] == escaped(HOSTILE)
    no_raw_text_in(tmp_path / "trackio")


# ---------------------------------------------------------------------------------------------------------------------
# Texts and numbers.


def test_texts_keep_their_meaning_and_lose_their_power():
    assert escaped("a < b & c\tπ\nd") == "a &lt; b &amp; c\tπ\nd"
    assert not any(raw in escaped(HOSTILE) for raw in RAW)
    assert as_config({"a": [1, "<b>"], "b": [{"name": "x<"}, [2]]}) == {
        "a": [1, "&lt;b&gt;"],
        "b": {"0:x&lt;": {"name": "x&lt;"}, "1": [2]},
    }


def test_only_finite_numbers_are_metrics():
    row = {"stage": "main", "iteration": 3, "a": 1, "b": float("nan"), "c": float("-inf"), "d": "text", "e": True}
    assert numbers(row) == {"a": 1.0, "e": 1.0}


def test_an_evaluation_becomes_numbers_without_what_was_not_measured():
    assert final_numbers(EVALUATION, {}) == FINAL


# ---------------------------------------------------------------------------------------------------------------------
# Mirrors that break, hang and lag.


class Scripted:
    """A mirror that fails where it is told to, or waits until it may go on."""

    def __init__(self, fails="", gate=None):
        self.fails, self.gate, self.seen = fails, gate, []

    def open(self, about):
        self._pass("open")
        return self

    def rows(self, rows):
        if self.gate is not None:
            assert self.gate.wait(30)
        self._pass("rows")
        self.seen += rows

    def final(self, numbers, steps):
        self._pass("final")
        self.seen.append((numbers, steps))

    def close(self):
        self._pass("close")

    def _pass(self, where):
        if self.fails == where:
            raise SystemExit("gone") if where == "final" else ConnectionError("the server\nis \x1b[2J gone")


def deliver(mirror, about, rows=ROWS, seconds=10.0, **settings):
    said = []
    courier = Courier("scripted", mirror.open, about, said.append, **settings)
    courier.start()
    for row in rows:
        courier.hand(row)
    courier.end({"a": 1.0}, 2)
    courier.wait(seconds)
    return said


def test_a_mirror_gets_the_rows_in_order_and_the_last_numbers(about):
    mirror = Scripted()
    assert deliver(mirror, about) == []
    assert mirror.seen == [*ROWS, ({"a": 1.0}, 2)]


# Fails when an error of a package reaches training, or is told more than once.
@pytest.mark.parametrize("where", ["open", "rows", "final", "close"])
def test_a_mirror_that_raises_at_any_moment_is_reported_once_and_left_out(about, where):
    (text,) = deliver(Scripted(fails=where), about)
    assert text.startswith("the mirror scripted failed and is left out from now on (")
    assert "gone" in text
    assert "\n" not in text


# Fails when a mirror is opened before there is a row: its folder would stand in the way of the next start.
def test_a_run_that_never_learnt_leaves_no_mirror(about):
    assert mirror("wandb", about, [], final=False) == []
    assert list(about.path.iterdir()) == []


# Fails when handing a row on waits for the mirror, or when what was lost is not counted.
def test_a_mirror_that_hangs_costs_no_time_and_its_losses_are_counted(about):
    gate = threading.Event()
    rows = [{"stage": "main", "iteration": number} for number in range(50)]
    started = time.monotonic()
    said = deliver(Scripted(gate=gate), about, rows, seconds=0.2, most_waiting=8)
    assert time.monotonic() - started < 5.0
    gate.set()
    assert said[0] == "the mirror scripted did not end in time and is left behind"
    count = int(said[1].removeprefix("the mirror scripted was too slow for ").partition(" ")[0])
    # The thread may have taken up to eight rows before it hung, and eight wait.
    assert 34 <= count <= 50
    assert len(said) == 2


def test_the_mirrors_of_a_run_that_is_stopped_are_not_waited_for_long(about, monkeypatch):
    monkeypatch.setattr(room, "_SECONDS_TO_STOP", 0.1)
    gate = threading.Event()
    monkeypatch.setattr(room, "_opener", lambda name: lambda about: gate.wait(30))
    said = []
    started = time.monotonic()
    mirrors = Mirrors(["one", "two"], about, said.append)
    mirrors.tell(ROWS[0])
    with pytest.raises(KeyboardInterrupt), mirrors:
        raise KeyboardInterrupt
    assert time.monotonic() - started < 5.0
    gate.set()
    assert any("one did not end in time" in text for text in said)


# ---------------------------------------------------------------------------------------------------------------------
# Runs.


def test_mirrors_are_checked_before_anything_is_done(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="did you mean wandb"):
        check_mirrors(["wandbb"])
    with pytest.raises(UserError, match="a list of names"):
        check_mirrors("wandb")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match='pip install "lapwing\\[trackio\\]"'):
        lapwing.train("bandit_tiny", run=tmp_path / "run", mirrors=("trackio",))
    assert list(tmp_path.iterdir()) == []


# Fails when a folder that W&B left in the current one counts as the package.
def test_a_folder_with_the_name_of_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    for name in [name for name in list(sys.modules) if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    assert not room.is_installed("wandb")


QUICK = ("iterations=2", "evaluation.episodes=4", "evaluation.transfer=[]", "evaluation.replay_groups=0")


# Fails when the mirror misses the rows of a warm start from the cache, or when a resumed run forgets it.
@pytest.mark.slow
def test_a_run_is_mirrored_and_goes_on_being_mirrored_when_it_is_resumed(tmp_path, small, small_run):
    needed("tensorboard")
    said = []
    run = lapwing.train(
        "frozen_lake_tiny",
        run=tmp_path / "run",
        overrides=[*small, *QUICK],
        mirrors=("tensorboard",),
        watch=said.append,
    )
    # The warm start is that of the small run.
    assert "cached" in [row.get("event") for row in said]
    manifest = json.loads((run.path / "manifest.json").read_text())
    assert manifest["mirrors"]["names"] == ["tensorboard"]
    recipe = run.path / "recipe.toml"
    changed = recipe.read_text().replace("iterations = 2\n", "iterations = 4\n")
    recipe.write_text(changed)
    time.sleep(1.1)  # event files are named by the second
    lapwing.resume(run.path, accept_changes=True, watch=said.append)
    assert not any("mirror" in row["text"] for row in said if row.get("event") == "warning")
    logged = read_json_lines(run.path / "metrics.jsonl")
    for stage in ("warm_start", "main"):
        rows = [row for row in logged if row["stage"] == stage]
        found, _ = scalars(run.path / "mirrors" / "tensorboard", stage)
        steps = [(row["iteration"], pytest.approx(row["update/loss"], rel=1e-6)) for row in rows]
        assert found["update/loss"] == steps
        assert set(found) == {name for row in rows for name in row} - {"stage", "iteration"}
    assert json.loads((run.path / "manifest.json").read_text())["mirrors"] == manifest["mirrors"]


# Fails when training ends with its mirror.
@pytest.mark.slow
def test_a_run_whose_mirror_breaks_is_the_run_that_had_none(tmp_path, small, small_run, monkeypatch, what_counts):
    needed("tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    said = []
    run = lapwing.train(
        "frozen_lake_tiny", run=tmp_path / "run", overrides=small, mirrors=("tensorboard",), watch=said.append
    )
    (warning,) = [row["text"] for row in said if row.get("event") == "warning"]
    assert warning.startswith("the mirror tensorboard failed and is left out from now on (ModuleNotFoundError: ")
    assert what_counts(run.path) == what_counts(small_run)


def test_where_a_package_is_gone_a_resumed_run_goes_on_without_it(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run", {"seed": 0}, {})
    needed("tensorboard")
    manifest = mirrors_entry(["tensorboard"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = []
    with mirrored(folder, manifest, said.append) as (tell, _):
        tell({"stage": "main", "iteration": 0})
    assert said[0]["text"].endswith('pip install "lapwing[tensorboard]"; the run goes on without it')
    assert said[1:] == [{"stage": "main", "iteration": 0}]


def test_only_the_process_that_writes_a_run_mirrors_it(tmp_path):
    manifest = {"mirrors": {"names": ["tensorboard"], "id": "abc"}}
    said = []
    with mirrored(Onlooker(Path(tmp_path)), manifest, said.append) as (tell, _):
        assert tell == said.append
    assert mirrors_entry([]) == {}

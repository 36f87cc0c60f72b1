"""What the tests of faults share: one warm server a test process, and runs that nothing interrupted."""

import functools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import harness
import trials


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Forks `lapwing …` commands; whatever a test left running ends with it."""
    with harness.Server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def golden(server, toy_folder, tmp_path_factory):
    """Runs of `trials.recipes` by name, each made once; tests only read them."""
    small = trials.recipes(toy_folder("qwen2"))

    @functools.cache
    def make(name):
        return trials.make_golden(server, small[name], tmp_path_factory.mktemp(name), wait_for_report=False)

    return make

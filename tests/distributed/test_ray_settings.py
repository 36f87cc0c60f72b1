"""What a Ray collector refuses, and how it parts matches, before there is any cluster."""

import functools

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.core.types import Match
from lapwing.distributed import cluster
from lapwing.distributed.cluster import Cluster
from lapwing.distributed.ray_collector import RayCollector, _chunks


def collector(**settings):
    return RayCollector(lambda: (None, None), torch.nn.Linear(1, 1), **settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"actors": 0}, "collector.actors is at least 1, not 0"),
        ({"cpus_per_actor": -1.0}, "collector.cpus_per_actor .* at least 0"),
        ({"cpus_per_actor": float("nan")}, "collector.cpus_per_actor .* at least 0"),
        ({"gpus_per_actor": float("inf")}, "collector.gpus_per_actor .* at least 0"),
        ({"cpus_per_actor": 0.0}, "not both 0"),
        ({"chunk": 0}, "collector.chunk is at least 1 match, not 0"),
        ({"ahead": 2}, "collector.ahead is 0 or 1 iterations, not 2"),
        ({"ahead": 1, "max_lag": 0}, "would drop every episode"),
        ({"timeout_seconds": 0.0}, "collector.timeout_seconds is a finite number above 0"),
        ({"timeout_seconds": float("nan")}, "collector.timeout_seconds is a finite number above 0"),
        ({"max_deaths": -1}, "collector.max_deaths is at least 0"),
        ({"death_minutes": 0.0}, "collector.death_minutes is a finite number above 0"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        collector(**settings)


def test_a_missing_package_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(cluster.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'pip install "lapwing\[ray\]"'):
        collector()


@pytest.mark.slow
@pytest.mark.parametrize("address", ["auto", "nonsense", "ray://127.0.0.1:1", "127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_refused(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = cluster._ray()
    # "auto" looks through the processes of the machine, and other tests and other people run clusters on it.
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", functools.cache(frozenset))
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda temp_dir: None)
    assert not ray.is_initialized(), "an earlier test left a cluster"
    try:
        with pytest.raises(UserError, match=f"There is no Ray cluster at {address} .*collector.address"):
            Cluster(address)
    finally:
        ray.shutdown()  # or one that was found after all would end this process when it ends
        Cluster._users, Cluster._is_ours = 0, False


def test_a_collector_that_never_started_closes():
    with collector() as one:
        one.publish(3)
    assert one.metrics["collector/deaths"] == 0


def match(group, member, iteration=0):
    return Match(None, seed=0, split="train", iteration=iteration, group=group, member=member, max_steps=1)


def test_chunks_hold_whole_groups_and_at_least_so_many_matches():
    matches = [match(group, member) for group, size in enumerate((2, 3, 2, 4)) for member in range(size)]
    assert _chunks(matches, 1) == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9, 10]]
    assert _chunks(matches, 4) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10]]
    assert _chunks(matches, 99) == [list(range(11))]
    assert _chunks([], 1) == []


def test_the_members_of_a_group_stay_together_wherever_they_stand():
    matches = [match(0, 0), match(1, 0), match(0, 1), match(1, 1), match(1, 0, iteration=1)]
    assert _chunks(matches, 1) == [[0, 2], [1, 3], [4]]


@pytest.mark.slow
def test_a_late_call_starts_no_cluster_of_its_own():
    found = Cluster()
    found.close()
    ray = cluster._ray()
    with pytest.raises(Exception, match=r"not been started|not initialized"):
        ray.nodes()
    with pytest.raises(Exception, match=r"not been started|not initialized"):
        ray.get(ray.put(1))
    assert not ray.is_initialized()

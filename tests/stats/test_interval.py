from lapwing.stats.interval import Interval


def test_an_interval_becomes_the_object_that_reports_write():
    assert Interval(0.5, 0.25, 1.0).to_dict() == {"mean": 0.5, "low": 0.25, "high": 1.0}

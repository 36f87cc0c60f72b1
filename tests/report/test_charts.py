import re

import numpy as np
import pytest

from lapwing.report.charts import FIRST, Series, bar_chart, interval_chart, line_chart, running_mean, thin


def a_line(n: int = 5, **settings: object) -> Series:
    return Series("a", np.arange(n, dtype=float), np.linspace(0.1, 1.0, n), **settings)  # type: ignore[arg-type]


def draw(name: str = "a", **settings: object) -> str:
    return line_chart(name, "A line", [a_line()], x_label="iteration", y_label="y", **settings)  # type: ignore[arg-type]


def test_the_running_mean_begins_at_the_first_point_and_ends_in_a_mean():
    # 40 points: 2 on either side; at the end the last point and the two before it.
    y = np.arange(40.0)
    np.testing.assert_allclose(running_mean(y)[[0, 1, 2, 20, 39]], [0, 1, 2, 20, 38])


def test_thinning_keeps_the_mean_and_the_ends_apart():
    x, y = thin(np.arange(1000.0), np.arange(1000.0) * 2, most=10)
    np.testing.assert_allclose(x, 49.5 + 100 * np.arange(10))
    np.testing.assert_allclose(y, 2 * x)


def test_short_data_is_not_thinned():
    x = np.arange(10.0)
    assert thin(x, x, most=10)[0] is x


def test_a_chart_takes_its_colours_from_the_page_and_holds_no_address():
    svg = draw()
    assert "var(--line-1)" in svg
    assert FIRST not in svg
    assert not re.search(r"#[0-9a-f]{6}\b", svg)
    assert "http" not in svg
    assert "xmlns" not in svg
    assert "<style" not in svg


def test_a_chart_speaks_to_a_screen_reader_and_escapes_what_it_says():
    svg = line_chart("a", 'An <a> & "b"', [a_line()], x_label="x", y_label="y")
    assert '<title id="a-title">An &lt;a&gt; &amp; &quot;b&quot;</title>' in svg
    assert 'role="img" aria-labelledby="a-title"' in svg


def test_two_charts_share_no_identifier():
    found = [set(re.findall(r' id="([^"]*)"', draw(name))) for name in ("one", "two")]
    assert found[0]
    assert not found[0] & found[1]


def test_every_reference_inside_a_chart_has_its_target():
    svg = line_chart("one", "t", [a_line(marked=True), a_line(50)], x_label="x", y_label="y")
    named = set(re.findall(r' id="([^"]*)"', svg))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= named


def test_equal_input_gives_equal_text_whatever_the_users_settings():
    import matplotlib

    first = draw()
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        assert draw() == first


def test_drawing_leaves_the_users_settings_alone():
    import matplotlib

    with matplotlib.rc_context({"font.size": 30}):
        draw()
        assert matplotlib.rcParams["font.size"] == 30


def test_labels_of_references_that_lie_close_do_not_overlap():
    references = [("random", 0.50), ("untrained", 0.51), ("heuristic", 0.515), ("optimal", 1.0)]
    svg = draw(references=references, limits=(0.0, 1.0))
    heights = [float(re.search(rf'y="([\d.]+)"[^>]*>{text}<', svg)[1]) for text, _ in references]  # type: ignore[index]
    assert (-np.diff(heights) >= 8).all()


@pytest.mark.parametrize("n", [1, 2, 39, 40, 5_000])
def test_every_length_of_a_log_can_be_drawn_small(n):
    svg = line_chart("a", "t", [a_line(n)], x_label="x", y_label="y", resumed_at=[0.0])
    assert len(svg) < 40_000


@pytest.mark.parametrize(("y", "expected"), [(0.5, {"0.0", "1.0"}), (3.0, {"0.0", "3.0"}), (-1.0, {"-1.00", "1.00"})])
def test_an_axis_shows_its_limits_and_all_data(y, expected):
    line = Series("a", np.arange(3.0), np.full(3, y))
    svg = line_chart("a", "t", [line], x_label="x", y_label="y", limits=(0.0, 1.0))
    assert expected <= {text.replace("\N{MINUS SIGN}", "-") for text in re.findall(r">([^<>\n]+)<", svg)}


def test_a_logarithmic_axis_has_plain_numbers():
    line = Series("a", np.arange(3.0), np.array([0.1, 1.0, 100.0]))
    svg = line_chart("a", "t", [line], x_label="x", y_label="y", log=True)
    assert {">0.1<", ">1<", ">100<"} <= set(re.findall(r">[\d.]+<", svg))


def test_bars_carry_their_values():
    svg = bar_chart("a", "t", [("playing", 12.34), ("credit", 0.0), ("updating", 0.5)], x_label="seconds")
    assert {">12.3<", ">0.00<", ">0.50<", ">playing<"} <= set(re.findall(r">[^<>\n]+<", svg))


def test_intervals_without_width_are_drawn():
    svg = interval_chart("a", "t", [("optimal", 1.0, 1.0, 1.0)], x_label="success", limits=(0.0, 1.0))
    assert ">optimal<" in svg

"""Figures: what is drawn of grey and of coloured images."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from genclust.lab.claims import VERDICTS
from genclust.lab.plots import bands, boxes, colours, curves, heat_map, image_rows, tsne, verdict_bars


@pytest.fixture
def drawn():
    def draw(rows, shape):
        figure = image_rows(rows, shape)
        return [np.asarray(ax.images[0].get_array()) for ax in figure.axes]

    yield draw
    plt.close("all")


def test_grey_images_are_dark_on_white(drawn):
    images = np.array([[0, 255, 0, 0, 0, 0], [0, 0, 0, 0, 0, 51]], np.uint8)  # 2 by 3 pixels
    two, one = drawn({"a": images, "b": images[:1]}, (2, 3))
    assert np.allclose(two, [[1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0.8]])
    assert np.allclose(one[:, 3:], 1)  # what is missing stays white


def test_coloured_images_keep_their_colours(drawn):
    images = np.random.default_rng(0).random((2, 2, 3, 3))
    [strip] = drawn({"a": images.reshape(2, -1)}, (2, 3, 3))
    assert strip.shape == (2, 6, 3) and np.allclose(strip[:, :3], images[0]) and np.allclose(strip[:, 3:], images[1])


@pytest.mark.parametrize("profile, rows", [("smoke", 300), ("quick", 310)])
def test_points_in_the_plane_are_fewer_in_the_smoke_profile(profile, rows, monkeypatch):
    monkeypatch.setattr("sklearn.manifold.TSNE.fit_transform", lambda self, X: X[:, :self.n_components])
    codes = np.random.default_rng(0).normal(size=(310, 3))
    assert np.array_equal(tsne(codes, profile), codes[:rows, :2])


@pytest.mark.parametrize("low, high", [(0, 100), (16, 25), (0.1, 0.12)])
def test_names_of_levels_that_lie_together_stay_near_them_and_apart(low, high):
    levels = {name: high - (high - low) * share for name, share in (("one", 0.0), ("two", 0.001), ("three", 0.002))}
    ax = curves({"line": [([0, 1], [low, high])]}, levels).axes[0]
    at = sorted(text.xy[1] for text in ax.texts)
    span = np.ptp(ax.get_ylim())
    assert all(0.03 * span < b - a < 0.06 * span for a, b in zip(at, at[1:])) and at[-1] < high + 0.15 * span


def test_a_band_is_of_the_epochs_that_all_runs_have():
    fig = bands({"OT": [([1, 2, 3], [10.0, 20.0, 30.0]), ([1, 3], [20.0, 50.0])]}, {})
    (line,) = fig.axes[0].lines
    assert line.get_xdata().tolist() == [1, 3] and line.get_ydata().tolist() == [15.0, 40.0]
    plt.close("all")


def test_a_method_keeps_its_colour_from_figure_to_figure():
    first = colours(["AE + k-means", "soft k-means", "OT"])
    later = colours(["soft k-means (p) (2 runs)", "OT (3 runs)", "something else", "OT (p) (1 run)", "soft k-means (2 runs)", "AE + k-means (5 runs)"])
    assert all(later[f"{name} ({runs})"] == first[name] for name, runs in (("OT", "3 runs"), ("soft k-means", "2 runs"), ("AE + k-means", "5 runs")))
    assert len(set(later.values())) == 6, "and no two of a figure share one"
    assert colours(["GANMM(EM)"])["GANMM(EM)"] != colours(["GANMM"])["GANMM"]
    assert len(set(colours(["VaDE (ours, recorded)", "VaDE, another start"]).values())) == 2
    assert len(colours(map(str, range(12)))) == 12


def test_a_band_has_the_colour_of_its_line():
    ax = bands({name: [([0, 1], [1, 2]), ([0, 1], [2, 3])] for name in ("OT (p)", "OT")}, {}).axes[0]
    lines = {line.get_label(): to_rgb(line.get_color()) for line in ax.lines}
    drawn = [tuple(band.get_facecolor()[0][:3]) for band in ax.collections]
    assert list(lines.values()) == drawn == [colours(["OT (p)"])["OT (p)"], colours(["OT"])["OT"]]


def test_figures_stay_within_the_page_and_their_small_print_readable():
    long = image_rows({"a": np.zeros((20, 4)), "b": np.zeros((20, 4))}, (2, 2))
    assert long.get_figwidth() < 9 and image_rows({"a": np.zeros((10, 4))}, (2, 2)).get_figwidth() == pytest.approx(6.7)
    assert boxes({name: np.ones((2, 3)) for name in "abc"}, [2, 3], "K").get_figwidth() < 9
    drawn = heat_map(np.full((2, 10), np.nan), ["a", "b"], list("abcdefghij"), "label", [["not run\nyet"] * 10] * 2)
    assert drawn.get_figwidth() < 11 and min(text.get_fontsize() for text in drawn.axes[0].texts) >= 9
    plt.close("all")


def test_a_legend_covers_no_line():
    ax = curves({str(i): [([0, 1], [i, 10 - i])] for i in range(6)}, {}).axes[0]
    ax.figure.canvas.draw()
    assert ax.get_legend().get_window_extent().y1 < ax.get_window_extent().y0
    plt.close("all")


def luminance(colour):
    """As the Web Content Accessibility Guidelines define it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot([0.2126, 0.7152, 0.0722], linear)


def test_numbers_can_be_read_on_every_verdicts_colour_and_verdicts_told_apart():
    ax = verdict_bars({"A": dict.fromkeys(VERDICTS, 10)}).axes[0]
    assert len(ax.texts) == len(ax.patches) == len({(bar.get_facecolor(), bar.get_hatch()) for bar in ax.patches}) == len(VERDICTS)
    for bar, text in zip(ax.patches, ax.texts):
        low, high = sorted((luminance(bar.get_facecolor()[:3]), luminance(text.get_color())))
        assert (high + 0.05) / (low + 0.05) >= 4.5, text
    plt.close("all")

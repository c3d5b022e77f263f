"""The pictures: how long the lines are, and that nothing is cut off."""

import pytest
from matplotlib.figure import Figure

from benchmarks.rivals.plots import of_phase, plot

PLAIN = {"net": "cnn", "rival": "plain", "plain": None, "ours": False}
ROW = PLAIN | {
    "rival": "a rival with a long name",
    "plain": "plain",
    "run": {"seconds": 1.0, "rounds": 25, "ratio": [1.0, 1.1, 1.3]},
}


def test_lines_are_as_long_as_the_median_may_be_off():
    off = 1.57 * 0.3 / 5
    assert of_phase("run")(ROW) == pytest.approx((1.1 - off, 1.1, 1.1 + off))
    assert of_phase("run")(PLAIN) is None


def test_nothing_is_cut_off(tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    title = ", ".join(f"library {i}.{i}.{i}" for i in range(12))
    plot([PLAIN, ROW], of_phase("run"), "time to run", title, tmp_path / "run.png")
    [figure] = figures
    texts = [figure.get_suptitle(), figure.get_supxlabel()]
    assert [" ".join(text.split()) for text in texts] == [
        title,
        "time to run: % over the plain step of the same framework",
    ]
    canvas, drawn = (
        figure.bbox,
        figure.get_tightbbox().transformed(figure.dpi_scale_trans),
    )
    assert canvas.x0 <= drawn.x0 < drawn.x1 <= canvas.x1
    assert canvas.y0 <= drawn.y0 < drawn.y1 <= canvas.y1

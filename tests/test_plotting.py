"""The pictures: what their lines are, not only that there are some."""

import io
import sys

import numpy as np
import pytest

import specjax as sx
from specjax.errors import MissingLibraryError
from specjax.plotting import plot_history, plot_spectra
from tests.cases import designed

STACK = np.stack([designed(6, 5, np.geomspace(i, 0.1, 5)) for i in (1, 2, 3)])
PARAMS = {
    "Dense_0": {"kernel": np.float32(designed(12, 50, np.linspace(3, 0.5, 12)))},
    "a_module_with_a_long_name": {
        "another_one_below_it": {"Dense_0": {"kernel": np.float32(STACK[0])}},
    },
    "heads": {"w": np.float32(STACK)},
}
RULE = {"heads/w": sx.Matrix(batch_axis=0), ".*": sx.flax_kernels}


@pytest.fixture(scope="module")
def report():
    return sx.report(PARAMS, kernels=RULE)


@pytest.fixture(scope="module")
def doubled():
    params = {"Dense_0": {"kernel": 2 * PARAMS["Dense_0"]["kernel"]}}
    return sx.report(params)


def panels(figure):
    """Returns the panels by the first word of their titles."""
    found = {axes.get_title().split("\n")[0]: axes for axes in figure.get_axes()}
    found.pop("", None)
    return found


def lines(axes):
    return np.stack([np.asarray(line.get_ydata(), float) for line in axes.lines])


def drawn(figure):
    """Draws it: a figure that can not be laid out fails here."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40)
    return file.getvalue()


def svd(kernel):
    return np.linalg.svd(kernel.astype(np.float64), compute_uv=False)


def test_lines_are_the_singular_values(report):
    figure = plot_spectra(report)
    found = panels(figure)
    assert set(found) == {"Dense_0", "a_module_with_a_long_name/", "heads/w"}
    (line,) = found["Dense_0"].lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 13))
    want = svd(PARAMS["Dense_0"]["kernel"])
    np.testing.assert_allclose(line.get_ydata(), want, rtol=1e-5)
    np.testing.assert_allclose(lines(found["heads/w"]), svd(STACK), rtol=1e-4)
    bottom, top = found["Dense_0"].get_ylim()
    assert bottom == 0
    assert 3 < top < 4
    title = found["a_module_with_a_long_name/"].get_title()
    assert title.split("\n")[1:] == ["another_one_below_it/Dense_0", "matrix 6x5"]
    assert figure.get_supxlabel() == "index of the singular value"
    assert figure.get_supylabel() == "singular value"
    assert not figure.legends
    # Three kernels in two rows of two: the place that is left shows nothing.
    assert [axes.axison for axes in figure.get_axes()] == [True, True, True, False]
    assert drawn(figure).startswith(b"\x89PNG")


def test_several_reports_are_drawn_over_each_other(report, doubled):
    figure = plot_spectra(report, doubled, labels=("before", "after"))
    before, after = panels(figure)["Dense_0"].lines
    np.testing.assert_allclose(after.get_ydata(), 2 * before.get_ydata(), rtol=1e-5)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["before", "after"]
    colors = [line.get_color() for line in legend.get_lines()]
    assert colors == [before.get_color(), after.get_color()]
    assert len(set(colors)) == 2
    assert len(panels(figure)["heads/w"].lines) == 3
    drawn(figure)


def test_a_logarithmic_axis_has_whole_decades(report):
    axes = panels(plot_spectra(report, log=True))["heads/w"]
    assert axes.get_yscale() == "log"
    np.testing.assert_allclose(axes.get_ylim(), [0.01, 10], rtol=1e-6)


def test_what_has_no_spectrum():
    bad = {"Dense_0": {"kernel": np.full((3, 4), np.nan, np.float32)}}
    figure = plot_spectra(sx.report(bad))
    assert [text.get_text() for text in panels(figure)["Dense_0"].texts] == [
        "not finite"
    ]
    kernel = PARAMS["Dense_0"]["kernel"]
    report = sx.report({"Dense_0": {"kernel": kernel}}, max_bytes=16)
    figure = plot_spectra(report)
    axes = panels(figure)["Dense_0"]
    assert [text.get_text() for text in axes.texts] == ["upper", "lower"]
    upper, lower = (line.get_ydata()[0] for line in axes.lines)
    norm = np.linalg.norm(kernel.astype(np.float64), 2)
    assert lower <= norm * (1 + 1e-6)
    assert norm <= upper
    drawn(figure)


@pytest.mark.parametrize("n_kernels", [1, 60])
def test_one_kernel_and_sixty(doubled, n_kernels):
    (row,) = doubled.rows
    rows = [row._replace(path=f"layer_{i}/kernel") for i in range(n_kernels)]
    figure = plot_spectra(sx.Report(tuple(rows)))
    assert len(panels(figure)) == n_kernels
    width, height = figure.get_size_inches()
    assert width < 20
    assert height < 25


RECORDS = [
    (step, {
        "Dense_0/kernel": {"sigma": 2.0 + step, "residual": 0.1 * step},
        "heads/w": {
            "sigma": np.array([1.0, 2.0]) * (1 + step), "residual": np.zeros(2),
            "frobenius": np.ones(2), "stable_rank": np.array([3.0, 1.0 + step]),
        },
    })
    for step in (0, 5, 10)
]  # fmt: skip


def test_history_of_sigma_has_its_error_bar():
    figure = plot_history(RECORDS)
    found = panels(figure)
    (line,) = found["Dense_0"].lines
    np.testing.assert_array_equal(line.get_xdata(), [0, 5, 10])
    np.testing.assert_array_equal(line.get_ydata(), [2, 7, 12])
    (band,) = found["Dense_0"].collections
    band = band.get_paths()[0].vertices
    top = band[band[:, 0] == 10, 1].max()
    assert top == pytest.approx(12 * (1 + 1 / np.sqrt(2)))
    assert found["Dense_0"].get_ylim()[1] > top
    np.testing.assert_array_equal(lines(found["heads/w"]), [[1, 6, 11], [2, 12, 22]])
    assert figure.get_supxlabel() == "step"
    drawn(figure)


def test_a_state_that_is_blind_has_no_error_bar():
    metrics = {"sigma": np.float32(2), "residual": np.float32(np.inf)}
    figure = plot_history([(step, {"w": metrics}) for step in (0, 1)])
    (band,) = panels(figure)["w"].collections
    assert np.all(band.get_paths()[0].vertices[:, 1] == 2)
    drawn(figure)


def test_history_of_another_quantity():
    figure = plot_history(RECORDS, quantity="stable_rank")
    found = panels(figure)
    np.testing.assert_array_equal(lines(found["heads/w"]), [[3, 3, 3], [1, 6, 11]])
    assert [text.get_text() for text in found["Dense_0"].texts] == ["not known"]
    assert figure.get_supylabel() == "stable rank"


def test_history_of_spectra(report, doubled):
    figure = plot_history([(0, report), (100, doubled)])
    axes = panels(figure)["Dense_0"]
    *values, largest = lines(axes)
    want = svd(PARAMS["Dense_0"]["kernel"])
    want = np.stack([want, 2 * want], axis=1)
    np.testing.assert_allclose(values, want, rtol=1e-5)
    np.testing.assert_allclose(largest, want.max(axis=0), rtol=1e-5)
    assert len(panels(figure)["heads/w"].lines) == 16
    drawn(figure)


@pytest.mark.parametrize(
    ("call", "need"),
    [
        (lambda report: plot_spectra(), "got no kernel; need one at least"),
        (lambda report: plot_history([]), "got no kernel; need one at least"),
        (
            lambda report: plot_spectra(report, labels=("a", "b")),
            "need 1, one for each",
        ),
        (
            lambda report: plot_spectra(report, report, labels=("a",)),
            "got 1 labels; need 2, one for each",
        ),
        (
            lambda report: plot_history(RECORDS, quantity="sigmas"),
            "need one of sigma, residual, frobenius, stable_rank",
        ),
    ],
)
def test_nonsense_says_what_is_needed(report, call, need):
    with pytest.raises(ValueError, match=need):
        call(report)


def test_without_matplotlib_the_import_is_one_sentence(monkeypatch):
    for name in [*sys.modules]:
        if name.split(".")[0] == "matplotlib":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "specjax.plotting")
    with pytest.raises(MissingLibraryError, match="got no library matplotlib; need it"):
        import specjax.plotting  # noqa: F401

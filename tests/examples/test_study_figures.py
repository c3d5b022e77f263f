"""The study's figures and tables, from records alone: each shows every method."""

import shutil

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread, imsave

from examples.gan.errors import UserError
from examples.study.__main__ import main
from examples.study.figures import FIGURES, draw
from examples.study.markdown import fill
from examples.study.methods import METHODS, ROBUSTNESS
from examples.study.pages import fill_page
from examples.study.records import samples_path
from examples.study.series import whole_runs
from examples.study.times_file import write_times
from tests.examples.study_records import designed, times, whole_study, write_study
from tests.exhaustive import exhaustive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole study, with a run that has diverged and one without finite numbers."""
    folder = tmp_path_factory.mktemp("study")
    records = whole_study()
    by_name = {record["name"]: record for record in records}
    by_name["mlp-wasserstein-D-gp-1"] |= designed("gp", "wasserstein", "D", 1) | {
        "score": by_name["mlp-wasserstein-D-gp-1"]["score"]
        | {"distance": None, "class_shares": None},
        "diverged_at": 12,
    }
    empty = {"first": {}, "binned": {"step": []}}
    by_name["mlp-wasserstein-A-wn-1"] |= {"curves": empty, "diverged_at": 1}
    by_name["mlp-non-saturating-C-wn-0"] |= {"diverged_at": 200}
    write_study(folder, records)
    write_times(folder, times())
    return folder


@pytest.fixture(scope="module")
def pictures(folder):
    return {path.stem: imread(path)[..., :3] for path in draw(folder, None)}


def pixels(picture, method, tint=1.0):
    """How many pixels have about this share of the method's color over white."""
    ink = 1 - np.array(to_rgb(METHODS[method].color))
    picture = picture[picture.min(axis=2) < 0.95]  # what is not white
    share = (1 - picture) @ ink / (ink @ ink)  # less than 1 at the edge of a line
    rest = np.abs(1 - picture - share[:, None] * ink).max(axis=1)
    return int(((rest < 0.03) & (np.abs(share - tint) < 0.2)).sum())


@exhaustive
def test_every_figure_is_drawn_and_no_other(pictures):
    assert set(pictures) == set(FIGURES)


@pytest.mark.parametrize(
    "name", ["gradient_norm", "generator_loss", "critic_loss", "spectra"]
)
@exhaustive
def test_every_method_is_in_every_curve_beside_its_legend(pictures, name):
    picture = pictures[name]
    # The legend is the last 210 pixels; what is left of it are the panels.
    panels = picture[:, :-210]
    for method in METHODS:
        assert pixels(panels, method) > 100, method
        assert pixels(picture, method) > pixels(panels, method)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """Pictures of a study with one method under each loss."""
    folder = tmp_path_factory.mktemp("apart")
    write_study(folder, [designed("sn"), designed("gp", "non-saturating")])
    return {path.stem: imread(path)[..., :3] for path in draw(folder, "norm|spectra")}


@pytest.mark.parametrize("name", ["gradient_norm", "spectra"])
def test_a_method_is_in_the_panels_of_its_loss(apart, name):
    """Two rows, one for each loss, and two columns: parts of the run, or layers."""
    panels = apart[name][:, :-210]
    height, width = (n // 2 for n in panels.shape[:2])
    for columns in (slice(0, width), slice(width, None)):
        upper, lower = panels[:height, columns], panels[height:, columns]
        assert pixels(upper, "sn") > 50 > 5 > pixels(upper, "gp")
        assert pixels(lower, "gp") > 50 > 5 > pixels(lower, "sn")


def test_a_run_that_ends_early_is_drawn_up_to_its_end():
    """Its bins are of its own length: 150 updates have 150, and 400 have 200."""
    runs = [designed(seed=0, steps=150), designed(seed=1, steps=400)]
    for records in (runs, runs[::-1]):
        steps, rows = whole_runs(records, "gradient_norm")
        assert steps.tolist() == runs[1]["curves"]["binned"]["step"]
        short, long = rows if records is runs else rows[::-1]
        assert np.isfinite(long).all()
        np.testing.assert_array_equal(np.isfinite(short), steps <= 150)
        own = runs[0]["curves"]["binned"]
        want = dict(zip(own["step"], own["gradient_norm"], strict=True))
        found = [want[step] for step in steps if step <= 150]
        np.testing.assert_allclose(short[steps <= 150], found)


def test_records_without_a_compared_run_are_told(tmp_path):
    write_study(tmp_path, [designed("sn", "non-saturating", "D")])
    for name in ("critic_loss", "samples", "spectra"):
        with pytest.raises(UserError, match="no run in a setting in which all methods"):
            draw(tmp_path, name)
    assert [path.stem for path in draw(tmp_path, "settings")] == ["settings"]


@exhaustive
def test_a_bar_for_each_setting_and_dots_for_the_seeds(pictures):
    for method in ROBUSTNESS:
        assert pixels(pictures["settings"], method, tint=0.55) > 6 * 1000
        assert pixels(pictures["settings"], method) > 6 * 2 * 10


@exhaustive
def test_a_bar_for_each_time(pictures):
    for method in METHODS:
        assert pixels(pictures["time"], method, tint=0.7) > 1000


@exhaustive
def test_samples_are_the_pictures_beside_the_records(folder, pictures, tmp_path):
    """Black instead of the samples of one method makes a row black."""
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for path in (other / "records").glob("*-sn-0.png"):
        shape = imread(path).shape
        imsave(path, np.zeros((*shape[:2], 3)))
    (drawn,) = draw(other, "samples")
    black = (imread(drawn)[..., :3].max(axis=2) < 0.02).sum(axis=1)
    before = (pictures["samples"].max(axis=2) < 0.02).sum(axis=1)
    rows = np.flatnonzero(black - before > 500)
    assert 20 < len(rows) < 80
    assert rows[-1] - rows[0] == len(rows) - 1  # one row, both losses


def test_one_command_draws_one_figure(folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("figures"))
    assert main(["figures", "--records", str(other), "--only", "spectra"]) == 0
    assert [p.name for p in (other / "figures").iterdir()] == ["spectra.png"]


def test_tables_hold_every_method_and_fill_a_page_twice(folder, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- mnist scores -->\nstale words\n<!-- end of mnist scores -->\nb\n"
        "<!-- mnist alternatives -->\n<!-- end of mnist alternatives -->\nc\n"
    )
    assert main(["tables", "--records", str(folder), "--page", str(page)]) == 0
    once = page.read_text()
    fill_page(page, folder)
    assert page.read_text() == once
    assert "stale words" not in once
    for method in METHODS.values():
        assert f"| {method.label} |" in once
        assert f"| {method.label} |" in (folder / "scores.md").read_text()
    assert once.count("(`sn`)") == 1
    assert [line for line in once.splitlines() if line in "abc" and line] == list("abc")
    shown = (folder / "scores.md").read_text()
    assert "mlp-wasserstein-A-wn-1" in shown  # by name, as diverged
    assert "to diverged)" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["figures", "--only", "nothing"], "--only nothing is no figure: expected one"),
        (["figures", "--only", "("], "--only ( is no regular expression"),
        (["tables", "--page", "none.md"], "none.md can not be read (No such file or"),
        (["--steps", "0"], "--steps 0 is out of range: expected 1 to"),
        (["--seeds", "x"], "Argument --seeds: invalid int value: 'x'; --help lists"),
        (["--network", "big", "--only", "a"], "--network big is unknown: expected"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(folder, capsys, arguments, words):
    assert main([*arguments, "--records", str(folder)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(words)
    assert told.count("\n") == 1


def test_a_missing_sample_and_a_missing_time_are_told(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    samples_path(other, "mlp-wasserstein-A-sn-0").unlink()
    with pytest.raises(UserError, match=r"sn-0\.png is missing: expected the samples"):
        draw(other, "samples")
    (other / "time.json").unlink()
    with pytest.raises(UserError, match=r"time\.json is missing: expected what"):
        draw(other, "time")


def test_a_page_without_its_marks_is_told(folder, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(UserError, match="has no mark of these records: expected"):
        fill_page(page, folder)
    page.write_text("<!-- end of x -->\n<!-- x -->\n")
    with pytest.raises(UserError, match="can not be filled in: expected a page"):
        fill(page, "x", "content")

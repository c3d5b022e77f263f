"""What a notebook shows: one small notebook in a real Jupyter kernel, by MIME type."""

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
MATRIX = "np.arange(12, dtype=np.float32).reshape(4, 3)"
NORM = np.linalg.norm(np.arange(12.0).reshape(4, 3), 2)
# The name is one that HTML would read as a tag.
SETUP = f"""
import jax, numpy as np, specjax as sx
from specjax.plotting import plot_history, plot_spectra

params = {{"<b>&amp;": {{"kernel": {MATRIX}}}}}
report = sx.report(params)
certificate = sx.lipschitz(params, ["<b>&amp;", jax.nn.relu])
"""
CELLS = {
    "print": "print(report)",
    "format": "open('report.txt', 'w').write(f'{report}'); len(str(report))",
    "bare": "report",
    "show": "report.show()",
    "no kernel": "sx.Report((), {'w': 'w: <w> is undecided.'})",
    "row": "report.rows[0]",
    "norm": "report.rows[0].upper",
    "print norm": "print(report.rows[0].upper)",
    "certificate": "certificate",
    "print certificate": "print(certificate)",
    "metrics": "{'w': {'sigma': report.rows[0].lower.value}}",
    "spectra": "plot_spectra(report)",
    "history": "plot_history([(0, report), (1, report)])",
    "spectra, inline": "%matplotlib inline\nplot_spectra(report)",
    "spectra, pyplot": "import matplotlib.pyplot as plt\nplot_spectra(report)",
    "statement": "figure = plot_spectra(report)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def shown(folder):
    """Returns the outputs of each cell; every test reads those of one kernel."""
    cells = [nbformat.v4.new_code_cell(code) for code in (SETUP, *CELLS.values())]
    notebook = nbformat.v4.new_notebook(cells=cells)
    ours = {"PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    # Nothing of the user's own Jupyter is read or written.
    ours |= {
        name: str(folder / name.lower())
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    }
    ours["JUPYTER_DATA_DIR"] = str(folder / "jupyter_data_dir")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ours.items():
            patch.setenv(name, value)
        patch.delenv("JUPYTER_PATH", raising=False)  # kernels of another Python
        client = nbclient.NotebookClient(
            notebook, timeout=300, startup_timeout=300, kernel_name="python3"
        )
        client.execute(cwd=str(folder), env=os.environ)
    return dict(zip(CELLS, (cell["outputs"] for cell in cells[1:]), strict=True))


def only(outputs):
    (output,) = outputs
    return output


def printed(outputs):
    output = only(outputs)
    assert (output["output_type"], output["name"]) == ("stream", "stdout")
    return output["text"]


def returned(outputs):
    output = only(outputs)
    assert output["output_type"] == "execute_result"
    return output["data"]


def plain(text):
    """Returns the text without a terminal's styles, as lines without their ends."""
    return [line.rstrip() for line in re.sub(r"\x1b\[\d*m", "", text).splitlines()]


class Cells(HTMLParser):
    """Reads a page of HTML: its tables' cells line by line, and its paragraphs."""

    def __init__(self, page):
        super().__init__()
        self.lines, self.paragraphs, self.tags = [], [], set()
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.lines.append([])
        elif tag == "p":
            self.paragraphs.append("")

    def handle_data(self, data):
        if self.paragraphs:
            self.paragraphs[-1] += data
        else:
            self.lines[-1].append(data)


def lines_of(text):
    """Returns the cells of a table that is drawn with lines."""
    rows = [re.split("[┃│]", line)[1:-1] for line in plain(text)]
    return [[cell.strip() for cell in row] for row in rows if row]


def is_whole(text):
    (head, line) = lines_of(text)
    row = dict(zip(head, line, strict=True))
    assert row["kernel"] == "<b>&amp;/kernel"
    assert float(row["lower"]) <= NORM <= float(row["upper"])
    assert float(row["exact"]) == pytest.approx(NORM, rel=1e-4)
    assert "stable rank: the sum of the squared" in " ".join(text.split())


def test_print_shows_the_whole_table(shown):
    is_whole(printed(shown["print"]))


def test_the_text_of_a_report_is_the_printed_one(shown, folder):
    text = (folder / "report.txt").read_text()
    assert returned(shown["format"])["text/plain"] == str(len(text))
    assert f"{text}\n" == printed(shown["print"])


def test_a_report_as_the_last_line_is_the_whole_table(shown):
    data = returned(shown["bare"])
    assert f"{data['text/plain']}\n" == printed(shown["print"])
    page = Cells(data["text/html"])
    assert page.tags == {"table", "tr", "th", "td", "p"}
    assert page.lines == lines_of(data["text/plain"])
    notes = data["text/plain"].split("┘")[1]
    assert " ".join(page.paragraphs).split() == notes.split()


def test_show_shows_the_whole_table(shown):
    output = only(shown["show"])
    assert output["output_type"] == "display_data"
    is_whole(output["data"]["text/plain"])
    assert "&lt;b&gt;&amp;amp;/kernel" in output["data"]["text/html"]


def test_a_report_without_a_kernel_shows_its_reasons(shown):
    data = returned(shown["no kernel"])
    assert data["text/plain"] == "Not in the table: w: <w> is undecided."
    page = Cells(data["text/html"])
    assert (page.lines, page.tags) == ([], {"p"})
    assert page.paragraphs == ["Not in the table: w: <w> is undecided."]


def test_a_certificate_is_the_same_printed_and_as_the_last_line(shown):
    data = returned(shown["certificate"])
    head, _, dense, relu = data["text/plain"].splitlines()
    assert head.startswith("|f(x) - f(y)| <= 22.4")
    assert dense.split()[0] == "<b>&amp;"
    assert relu.split()[:2] == ["relu", "1"]
    assert f"{data['text/plain']}\n" == printed(shown["print certificate"])


def test_smaller_values_show_all_that_they_hold(shown):
    row = returned(shown["row"])["text/plain"]
    assert row.startswith("Row(path='<b>&amp;/kernel'")
    assert "spectrum=array" in row
    assert "condition_number=array" in row
    norm = returned(shown["norm"])["text/plain"]
    assert re.fullmatch(
        r"Norm\(value=array\(22\.4\d+, dtype=float32\), kind='upper', of='matrix', "
        r"method='Gram iteration'\)",
        norm,
    )
    label = printed(shown["print norm"])
    assert re.fullmatch(r"22\.4\d+ \(upper, matrix, Gram iteration\)\n", label)
    assert "'sigma': array(22.4" in returned(shown["metrics"])["text/plain"]


FIGURES = ("spectra", "history", "spectra, inline", "spectra, pyplot")


@pytest.mark.parametrize("cell", FIGURES)
def test_a_figure_as_the_last_line_is_one_picture(shown, cell):
    data = returned(shown[cell])
    assert set(data) == {"text/plain", "image/png"}
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.format == "PNG"
    assert min(picture.size) > 100
    colors = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
    assert len(colors) > 10  # drawn: text is smooth, lines have colors


def test_a_figure_with_a_name_is_not_shown(shown):
    assert shown["statement"] == []

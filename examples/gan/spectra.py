"""The report on the discriminator's raw kernels, before training and after."""

from pathlib import Path

import jax

import specjax as sx
from examples.gan.records import write_json
from examples.gan.settings import Config
from examples.gan.state import TrainState, init_state, kernels, raw_kernels
from specjax.plotting import plot_spectra


def write_reports(folder: Path, config: Config, state: TrainState) -> None:
    """Writes ``report.txt``, ``report.json`` and ``spectra.png``.

    What is before the first step depends on the seed alone, so that a resumed run
    reports on the same as one without a break.
    """
    reports = {
        "before training": _report(config, init_state(config)),
        f"after {int(state.step):,} steps": _report(config, state),
    }
    tables = (
        f"The discriminator's raw kernels {when}\n\n{report}\n"
        for when, report in reports.items()
    )
    (folder / "report.txt").write_text("\n".join(tables))
    before, after = reports.values()
    write_json(
        folder / "report.json", {"before": before.as_dict(), "after": after.as_dict()}
    )
    figure = plot_spectra(before, after, labels=tuple(reports))
    figure.savefig(folder / "spectra.png", dpi=120)


def _report(config: Config, state: TrainState) -> sx.Report:
    # From numpy: arrays that a checkpoint has put on a device would be compiled anew.
    return sx.report(
        jax.device_get(raw_kernels(config, state)), kernels=kernels(config)
    )

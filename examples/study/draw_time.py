"""Time per update of each method, relative to none."""

from pathlib import Path

from examples.study.canvas import color, finish, grid_of_panels, label, sheet
from examples.study.methods import METHODS
from examples.study.records import Record


def draw_time(times: Record, path: Path) -> None:
    """Draws a bar for the median of the rounds, and a line from quartile to quartile.

    Args:
        times: what `timing.measure` returned.
        path: of the picture.
    """
    ratios = {m: r for m, r in times["ratios"].items() if m in METHODS}
    figure = sheet(9, 1.2 + 0.42 * len(ratios))
    axes = grid_of_panels(figure, 1, 1)[0][0]
    for place, (method, ratio) in enumerate(ratios.items()):
        low, middle, high = ratio["quartiles"]
        axes.barh(place, middle, color=color(method), alpha=0.7)
        axes.plot([low, high], [place, place], color="black", linewidth=1.5)
        axes.text(max(high, middle) + 0.03, place, f"{middle:.2f}", va="center")
    names = [METHODS[method].label for method in ratios]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(r["quartiles"][2] for r in ratios.values()))
    axes.axvline(1, color="black", linestyle=":", linewidth=1)
    label(axes, "", "time of an update, of none's", "")
    finish(
        figure,
        path,
        f"Time of an update on {times['device']}",
        f"Median of {times['rounds']} rounds, in each of which every method makes "
        f"{times['updates']} updates in turn; line: quartiles.\n"
        f"{times['network']}, batch {times['batch_size']}, {times['loss']}, setting "
        f"{times['setting']}: {times['n_dis']} updates of the critic to one of the "
        "generator.",
    )

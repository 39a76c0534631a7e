"""What the scenes' pictures have in common."""

from . import need

OURS, THEIRS = "#2c6fbb", "#8e9aaf"


def blank(width, height, **options):
    """An empty figure, in inches; without a window, and without a trace in matplotlib's global state."""
    need("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", **{"layout": "constrained", **options})
    FigureCanvasAgg(figure)
    return figure


def save(figure, path):
    """Write it, whatever the path ends in."""
    figure.savefig(path, format="png", dpi=110)


def name_residuals(axes, rtol):
    """Finish a plot of relative residuals over iterations, with the line that they have to get below."""
    axes.axhline(rtol, color="0.5", ls="--", lw=1)
    axes.set(xlabel="iteration", title="relative residual")
    axes.title.set_fontsize(11)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def show_seconds(axes, table, title):
    """A bar for the median time of each method of a contest."""
    names = [entry.method.replace(", ", "\n", 1) for entry in table.entries]
    medians = [entry.median for entry in table.entries]
    bars = axes.barh(names, medians, color=[THEIRS if entry.peer else OURS for entry in table.entries])
    axes.bar_label(bars, [f"{value:.2g} s" for value in medians], padding=4, fontsize=9)
    axes.set(title=title, xlim=(0, 1.3 * max(medians)))
    axes.title.set_fontsize(11)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)

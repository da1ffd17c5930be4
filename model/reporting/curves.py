"""`metrics.parquet` of one or several runs as a picture. Called by `tasks.train` and `benchmarks.learning`."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

PANELS = ("loss", "top-1 error", "learning rate of the weights", "time spent waiting for images")


def draw_curves(runs: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write a PNG: loss, errors, learning rate and the share of time spent waiting over the epochs, one colour per run."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = list(figure.subplots(2, 2).flat)
    for axes, title in zip(panels, PANELS, strict=True):
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    loss, errors, rate, waiting = panels
    for number, (name, metrics) in enumerate(runs.items()):
        colour, at = f"C{number}", _epochs(metrics)
        loss.plot(at, metrics["loss"], colour, label=name)
        _plot_errors(errors, metrics, colour, name)
        rate.step(at, metrics["learning_rate"], colour, where="pre")
        waiting.plot(at, metrics["wait_seconds"] / metrics["seconds"], colour)
    if any(metrics["learning_rate"].nunique() > 1 for metrics in runs.values()):
        rate.set_yscale("log")
    waiting.set_ylim(0, 1)
    for axes in (errors, waiting):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    loss.legend(frameon=False)
    errors.legend(frameon=False)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _plot_errors(axes: Axes, metrics: pd.DataFrame, colour: str, name: str) -> None:
    """Plot the training errors of whole epochs, on crops and with dropout, and the validation errors on the centre view."""
    train = metrics.groupby("epoch")[["train_top1_wrong", "train_num_images"]].sum()
    axes.plot(
        train.index, train["train_top1_wrong"] / train["train_num_images"], colour, linestyle=":", label=f"{name}, training"
    )
    val = metrics.dropna(subset="val_top1_wrong")
    axes.plot(val["epoch"], val["val_top1_wrong"] / val["val_num_images"], colour, marker=".", label=f"{name}, validation")


def _epochs(metrics: pd.DataFrame) -> "pd.Series[float]":
    """Return the number of epochs that were done at the end of each record."""
    seen = metrics["train_num_images"].cumsum()
    return seen / metrics[metrics["epoch"] == 1]["train_num_images"].sum()

"""The history of a champion as text, as Markdown and on its model card."""

from collections.abc import Sequence

from tabulate import tabulate

from model.retraining.history import Champion, Row

NONE = "–"


def champions_as_text(champions: Sequence[Champion]) -> str:
    """Return a line for each generation, the champion last."""
    headings = ["generation", "since", "cause", "top-1 %", "wrong", "images", "weights", "reason"]
    lines = [
        [
            str(one.generation),
            f"{one.since:%Y-%m-%d %H:%M}",
            one.cause,
            f"{100 * one.top1_wrong / one.num_images:.1f}",
            f"{one.top1_wrong:,}",
            f"{one.num_images:,}",
            one.weights[:12],
            one.reason,
        ]
        for one in champions
    ]
    right = [name in ("generation", "top-1 %", "wrong", "images") for name in headings]
    return tabulate(
        [headings, *lines], tablefmt="plain", disable_numparse=True, colalign=["right" if one else "left" for one in right]
    )


def runs_as_markdown(runs: Sequence[Row]) -> str:
    """Return a table of runs, the last first."""
    headings = ["ended", "decision", "images + − ~", "champion %", "challenger %", "difference", "reason"]
    lines = [
        [
            f"{run['finished_at']:%Y-%m-%d %H:%M}",
            run["decision"],
            _changes(run),
            _error(run, "champion_wrong"),
            _error(run, "challenger_wrong"),
            _difference(run),
            run["reason"].replace("|", "\\|").replace("\n", " "),
        ]
        for run in reversed(runs)
    ]
    return tabulate(lines, headers=headings, tablefmt="pipe", disable_numparse=True)


def card_sections(champion: Champion) -> dict[str, str]:
    """Return the sections of a champion's model card: how to use it, and where it comes from."""
    return {
        "Use": (
            "The file `weights.safetensors` holds the parameters, the colours to subtract and the WNID of each output. This "
            "project reads it: `python -m flows.evaluate --weights weights.safetensors`."
        ),
        "Provenance": "\n".join(
            (
                f"- Generation {champion.generation} of `{champion.name}`, since {champion.since:%Y-%m-%d %H:%M} UTC.",
                f"- Cause: {champion.cause}. {champion.reason[0].upper()}{champion.reason[1:]}.",
                f"- Weights: SHA-256 `{champion.weights}`.",
                f"- Training images: set `{champion.data_version}`, {len(champion.wnids):,} classes.",
                f"- Evaluation images: set `{champion.eval_set}`, {champion.top1_wrong:,} of {champion.num_images:,} wrong.",
                f"- Retraining: `{champion.retraining_id}` in `tables/retrainings.parquet`.",
            )
        ),
    }


def _changes(run: Row) -> str:
    if run["images_added"] is None:
        return NONE
    return f"+{run['images_added']:,} −{run['images_removed']:,} ~{run['images_relabelled']:,}"


def _error(run: Row, name: str) -> str:
    return NONE if run[name] is None else f"{100 * run[name] / run['num_eval']:.1f}"


def _difference(run: Row) -> str:
    if run["difference"] is None:
        return NONE
    change, low, high = (-100 * run[name] for name in ("difference", "difference_high", "difference_low"))
    return f"{change:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")

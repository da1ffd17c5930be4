"""Rows of `retrieval` and `specialisation` as text: averages over networks and seeds."""

from collections.abc import Sequence

from tabulate import tabulate

from model.evaluation.schemas import Row

HEADINGS = ("nearest training images by", "bits", "mAP", "P@6", "true 6 in top 100", "n")


def as_text(rows: Sequence[Row]) -> str:
    """Return aligned columns: mean average precision, precision among six, recall of the true six, rows averaged."""
    lines = [(*name, *(f"{value:.3f}" for value in values), number) for name, values, number in _means(rows)]
    return tabulate(lines, HEADINGS, "plain", disable_numparse=True, colalign=("left", *["right"] * 5))


def as_markdown(columns: dict[str, Sequence[Row]]) -> str:
    """Return a Markdown table with mAP / P@6 of each kind of neighbour, a column for each set of rows."""
    found = {heading: {name: values for name, values, _ in _means(rows)} for heading, rows in columns.items()}
    names = list(dict.fromkeys(name for means in found.values() for name in means))
    lines = [f"| nearest by | bits | {' | '.join(columns)} |", "|---|---|" + "---|" * len(columns)]
    for name in names:
        cells = [f"{means[name][0]:.3f} / {means[name][1]:.3f}" if name in means else "–" for means in found.values()]
        lines.append(f"| {name[0]} | {name[1]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def specialisation_as_text(rows: Sequence[Row]) -> str:
    """Return one line about all networks together, or about the only one."""
    last = [row for row in rows if row["source"] == "measured"][-1]
    return (
        f"colour of the first layer, {last['model']}: {last['coloured_a']} and {last['coloured_b']} of "
        f"{last['kernels_per_tower']} kernels per tower are coloured, AUC {last['auc']:.3f}, p = {last['p_value']:.2g}"
    )


def _means(rows: Sequence[Row]) -> list[tuple[tuple[str, str], tuple[float, ...], int]]:
    """For each space, method and number of bits: its name, the mean scores, and the number of rows."""
    kinds: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        name = f"{row['space']}, {row['method']}", str(row.get("bits") or "–")
        kinds.setdefault(name, []).append(row)
    scores = ("map", "p6", "recall6_at_100")
    return [
        (name, tuple(sum(row[score] for row in same) / len(same) for score in scores), len(same))
        for name, same in kinds.items()
    ]

"""The claims of the text [K12 §6.1], each with the number that was measured for it.

A claim's words are in `catalogue.toml`; its number is taken from the tables. What the tables do not hold is not measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from model.reporting.catalogue import Text, text

Values = Mapping[str, object]
Finding = tuple[bool, Values] | None
"""Whether the claim is seen in these numbers, and the numbers; None if they are missing."""

SIGNIFICANT = 0.05
"""(ours)"""

KEPT = 0.85
"""(ours) Short codes retrieve well if they keep this share of the features' mean average precision."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper beside a measurement."""

    quote: Text
    measured: Text
    verdict: str
    """`seen`, `unseen` or `unmeasured`."""


@dataclass(frozen=True)
class Tables:
    """The rows that the claims are about."""

    rates: pd.DataFrame
    specialisation: pd.DataFrame
    retrieval: pd.DataFrame


def claims(tables: Tables) -> list[Claim]:
    """Return all claims in the order of the text."""
    return [_claim(key, find(tables)) for key, find in FINDINGS.items()]


def number(value: float, digits: int = 3) -> str:
    """Return `0.554`."""
    return f"{value:.{digits}f}"


def p_value(value: float) -> str:
    """Return `p = 0.046` or `p < 0.0001`."""
    return "p < 0.0001" if value <= 0.0001 else f"p = {value:.2g}"


def percent(value: float) -> str:
    """Return `12.3 %`, with a space that does not break."""
    return f"{100 * value:.1f}\u00a0%"


def _claim(key: str, finding: Finding) -> Claim:
    if finding is None:
        return Claim(text(f"claims.{key}"), text("claims.no_number"), "unmeasured")
    seen, values = finding
    return Claim(text(f"claims.{key}"), text(f"claims.{key}_measured", **values), "seen" if seen else "unseen")


def _towers(tables: Tables) -> Finding:
    rows = _measured(tables.specialisation)
    if rows.empty:
        return None
    row = rows.iloc[-1]
    values = {name: f"{int(row[name]):,}" for name in ("coloured_a", "coloured_b", "kernels_per_tower")}
    return bool(row["p_value"] < SIGNIFICANT), {**values, "auc": f"AUC {number(row['auc'])}", "p": p_value(row["p_value"])}


def _every_run(tables: Tables) -> Finding:
    rows = _measured(tables.specialisation)
    if rows.empty:
        return None
    single = rows[rows["members"].map(len) == 1]
    significant = int((single["p_value"] < SIGNIFICANT).sum())
    aucs = {"lowest": number(single["auc"].min()), "highest": number(single["auc"].max())}
    return significant == len(single), {
        "significant": significant,
        "networks": len(single),
        "level": f"p < {SIGNIFICANT}",
        **aucs,
    }


def _plausible(tables: Tables) -> Finding:
    rows = _measured(tables.rates)
    if rows.empty or rows["top5_error"].isna().all():
        return None
    rows = rows.dropna(subset="top5_error")
    row = rows.iloc[0]
    right = 1 - row["top5_error"]
    values = {"model": row["model"], "right": percent(right), "images": f"{int(row['num_images']):,}"}
    return right > 0.5, {**values, "split": f"{row['dataset']} {row['split']}"}


def _similar(tables: Tables) -> Finding:
    features, pixels = _scores(tables, "features", "l2"), _scores(tables, "pixels", "l2")
    if features is None or pixels is None:
        return None
    return features["p6"] > pixels["p6"], {"features": percent(features["p6"]), "pixels": percent(pixels["p6"])}


def _far_pixels(tables: Tables) -> Finding:
    row = _scores(tables, "features", "l2")
    if row is None or pd.isna(row["pixel_rank_median"]):
        return None
    values = {"rank": f"{row['pixel_rank_median']:,.0f}", "database": f"{row['num_database']:,.0f}"}
    return row["pixel_top6_share"] < 0.5, {**values, "share": percent(row["pixel_top6_share"])}


def _short_codes(tables: Tables) -> Finding:
    features, code = _scores(tables, "features", "l2"), _scores(tables, "features", "autoencoder")
    if features is None or code is None:
        return None
    share = code["map"] / features["map"]
    values = {"bits": int(code["bits"]), "code": number(code["map"]), "features": number(features["map"])}
    return share >= KEPT, {**values, "share": percent(share)}


def _better_than_pixels(tables: Tables) -> Finding:
    features, pixels = _scores(tables, "features", "autoencoder"), _scores(tables, "pixels", "autoencoder")
    if features is None or pixels is None:
        return None
    values = {"bits": int(features["bits"]), "features": number(features["map"]), "pixels": number(pixels["map"])}
    return features["map_low"] > pixels["map_high"], {**values, "times": f"{features['map'] / pixels['map']:.1f}"}


FINDINGS: dict[str, Callable[[Tables], Finding]] = {
    "towers": _towers,
    "every_run": _every_run,
    "plausible": _plausible,
    "off_centre": lambda tables: None,
    "similar": _similar,
    "far_pixels": _far_pixels,
    "short_codes": _short_codes,
    "better_than_pixels": _better_than_pixels,
}
"""How each claim is measured. No table holds where in an image its object is."""


def _measured(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if frame.empty else frame[frame["source"] == "measured"]


def _scores(tables: Tables, space: str, method: str) -> "pd.Series[float] | None":
    """Return the scores with the fewest bits, on average over networks and seeds; None if there are none."""
    frame = tables.retrieval
    if frame.empty:
        return None
    rows = frame[(frame["space"] == space) & (frame["method"] == method)]
    if rows["bits"].notna().any():
        rows = rows[rows["bits"] == rows["bits"].min()]
    return None if rows.empty else rows.select_dtypes("number").mean()

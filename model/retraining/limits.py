"""Images that nobody has looked at: what may have happened to them before a person has to. Called by `flows.retrain`."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from model.retraining.history import Row

MAX_NAMED = 5
"""Images or classes in a reason."""


class Limits(BaseModel):
    """What may have happened to the images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_removed: float = Field(0.05, ge=0, le=1)
    """(ours) Fraction of the champion's training images that may be gone."""
    max_classes_removed: int = Field(0, ge=0)
    """(ours) Classes that may be gone."""
    max_bad: float = Field(0.01, ge=0, le=1)
    """(ours) Fraction of the training images that may be impossible to decode."""
    max_overlap: int = Field(0, ge=0)
    """(ours) Training images that may be in the evaluation set too."""


def held(row: Row, share_removed: float | None, shared: Sequence[str], limits: Limits) -> str | None:
    """Return why a person has to look at the images of a run; None if nobody has to.

    `share_removed` is the fraction of the champion's images that are gone, None without a champion; `shared` names the images
    that are in the evaluation set too.
    """
    gone, bad = row["classes_removed"] or [], row["images_bad"] / (row["images_bad"] + row["num_train"])
    reasons = []
    if share_removed is not None and share_removed > limits.max_removed:
        found = f"{row['images_removed']:,} of the champion's training images are gone ({share_removed:.1%})"
        reasons.append(f"{found}, max_removed allows {limits.max_removed:.1%}")
    if len(gone) > limits.max_classes_removed:
        found = f"{_are(len(gone), 'class', 'classes')} gone ({_some(gone)})"
        reasons.append(f"{found}, max_classes_removed allows {limits.max_classes_removed:,}")
    if bad > limits.max_bad:
        found = f"{row['images_bad']:,} training images cannot be decoded ({bad:.1%})"
        reasons.append(f"{found}, max_bad allows {limits.max_bad:.1%}")
    if len(shared) > limits.max_overlap:
        found = f"{_are(len(shared), 'training image', 'training images')} in the evaluation set too ({_some(shared)})"
        reasons.append(f"{found}, max_overlap allows {limits.max_overlap:,}")
    return "; ".join(reasons) or None


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - MAX_NAMED:,} more"] if len(names) > MAX_NAMED else []
    return ", ".join([*names[:MAX_NAMED], *more])


def _are(number: int, one: str, many: str) -> str:
    return f"1 {one} is" if number == 1 else f"{number:,} {many} are"

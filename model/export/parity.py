"""How close the probabilities of a copy are to those of the network. Called by `tasks.workers.export`."""

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-4
"""(ours) The largest difference of a probability. Sums in another order differ by about 1e-6."""


class Parity(BaseModel):
    """A copy against the network, on the same images."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_images: int
    same_top5: int
    """On how many images the same five classes are the most probable, in the same order."""
    largest_difference: float
    """Of a probability, over all images and classes."""


def compare(ours: "Tensor", copy: "Tensor") -> Parity:
    """Compare probabilities (N, classes).

    Raises:
        ValueError: they differ by more than `TOLERANCE`.
    """
    best = min(5, ours.shape[1])
    same = (ours.topk(best).indices == copy.topk(best).indices).all(dim=1)
    largest = float((ours - copy).abs().max())
    if not largest <= TOLERANCE:  # not a number is refused too
        raise ValueError(f"a probability of the copy differs by {largest:.2g} from the network's; expected {TOLERANCE} at most")
    return Parity(num_images=len(ours), same_top5=int(same.sum()), largest_difference=largest)

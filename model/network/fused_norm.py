"""Local response normalisation as plain operations, which `torch.compile` fuses into one kernel each for output and gradient.

Called by `model.network.response_norm` on GPUs. It computes what the forms for CPUs do, up to rounding.
"""

import logging
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

P = ParamSpec("P")
R = TypeVar("R")

MAX_COMPILED = 64
"""(ours) Compiled forms of a function. A process needs a few: one per number of channels, type, device and grad mode."""


def normalised(rows: Tensor, size: int, alpha: float, k: float) -> tuple[Tensor, Tensor]:
    """Return the outputs and the denominators d = k + alpha · Σ x² of the pixels `rows` (R, C), both (R, C) in its type."""
    x = rows.to(torch.promote_types(rows.dtype, torch.float32))
    denominators = k + alpha * _window_sums(x * x, size)
    root = denominators.rsqrt()
    return (x * (root * root.sqrt())).to(rows.dtype), denominators.to(rows.dtype)


def gradient(rows: Tensor, upstream: Tensor, denominators: Tensor, size: int, alpha: float) -> Tensor:
    """Return the gradient of the pixels (R, C) from that of their outputs."""
    exact = torch.promote_types(rows.dtype, torch.float32)
    x, g, d = rows.to(exact), upstream.to(exact), denominators.to(exact)
    root = d.rsqrt()
    scale = root * root.sqrt()  # d^-¾
    return (scale * g - 1.5 * alpha * x * _window_sums(g * x * scale / d, size)).to(rows.dtype)


def _window_sums(values: Tensor, size: int) -> Tensor:
    """Return for each channel the sum over those at most `size` // 2 away: shifted slices, which fuse with what is around."""
    reach, channels = size // 2, values.shape[1]
    padded = F.pad(values, (reach, reach))
    total = padded[:, :channels]
    for shift in range(1, 2 * reach + 1):
        total = total + padded[:, shift : shift + channels]
    return total


class Compiled(Generic[P, R]):
    """A function of matrices (rows, channels), compiled at the first call for any number of rows from two on.

    If it cannot be compiled, which takes triton and a C compiler, one sentence says so, and another function does the same
    from then on.
    """

    usable = True
    """Whether nothing has failed to compile in this process."""

    def __init__(self, function: Callable[P, R], otherwise: Callable[P, R]) -> None:
        self.function, self.otherwise = function, otherwise
        self.lock = Lock()
        """Held during a call, which only starts kernels: else threads that embed would all compile the same."""

    @cached_property
    def compiled(self) -> Callable[P, R]:
        """The function for `torch.compile`'s own compiler. It starts no processes, and what varies is marked by `__call__`."""
        options = {"compile_threads": 1}
        variants = {"recompile_limit": MAX_COMPILED, "isolate_recompiles": True}
        return torch.compile(self.function, fullgraph=True, dynamic=False, options=options, **variants)  # type: ignore[call-overload, no-any-return]  # the stub lacks the variants

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the result of the compiled function, or of the other one."""
        if not Compiled.usable:
            return self.otherwise(*args, **kwargs)
        try:
            for matrix in args:
                if isinstance(matrix, Tensor):
                    torch._dynamo.mark_dynamic(matrix, 0)  # noqa: SLF001  # documented under this name
                    torch._dynamo.mark_static(matrix, 1)  # noqa: SLF001
            with self.lock:
                return self.compiled(*args, **kwargs)
        except Exception as error:  # a compiler's errors have no type in common; any other error comes again below
            result = self.otherwise(*args, **kwargs)
            Compiled.usable = False
            logging.getLogger(__name__).warning(
                "response normalisation is not compiled and takes several times as long (%s); to compile it, torch needs its "
                "triton, a C compiler such as gcc, and Python's headers",
                _first_line(getattr(error, "inner_exception", error)),
            )
            return result


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__

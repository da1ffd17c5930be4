"""Local response normalisation, which in the textbook network takes most of the time on a CPU.

On a CPU the window is a banded matrix; on a GPU torch compiles the plain operations of `model.network.fused_norm`.

Called by `model.network.alexnet` for one tower, or for both with `towers=2`: the window never crosses from one to the other.
"""

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from model.network import fused_norm
from model.network.fused_norm import Compiled

# The squares, sums and scales of one chunk fit into the cache of a core: 200,000 floats are 0.8 MB.
CHUNK_ELEMENTS = 200_000


def local_response_norm(x: Tensor, size: int, alpha: float, k: float, towers: int = 1) -> Tensor:
    """Return x / (k + alpha · Σ x²)^¾, the sum over `size` neighbouring channels of the same tower. [K12 §3.3]

    x is (N, C, H, W), fastest in channels-last; its channels are those of `towers` towers side by side. `alpha` multiplies the
    sum as in the paper; torch's `LocalResponseNorm` divides it by `size` first. Two square roots compute the exponent ¾.
    bfloat16 is computed in float32.
    """
    return cast("Tensor", _ResponseNorm.apply(x, size, alpha, k, towers))  # type: ignore[no-untyped-call]  # torch declares no types


def spatial_response_norm(x: Tensor) -> Tensor:
    """Return x / (1 + 1e-3 / 25 · Σ x²)^¾, the sum over 5 × 5 neighbours in the same map of (N, C, H, W). [CHM layers-145]"""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    mean_of_25 = F.avg_pool2d(exact * exact, 5, stride=1, padding=2)  # padded with zeros
    return (exact * (1 + 1e-3 * mean_of_25).pow(-0.75)).to(x.dtype)


class _ResponseNorm(torch.autograd.Function):
    """In channels-last memory, an activation is a matrix of pixels by channels, and the window adds up neighbouring columns.

    With d = k + alpha · x² B, B being the banded matrix of the window, the output is y = x · d^-¾ and, B being symmetric,
    dx = g · d^-¾ − 2 · ¾ · alpha · x · ((g · x · d^-1¾) B).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, k: float, towers: int) -> Tensor:
        rows = _as_rows(x, towers)
        y, denominators = (_normalised_on_gpu if _fits_gpu(rows) else _normalised)(rows, size, alpha, k)
        ctx.save_for_backward(x, denominators)
        ctx.size, ctx.alpha, ctx.towers = size, alpha, towers
        return _as_image(y, x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, denominators = ctx.saved_tensors
        rows, upstream = _as_rows(x, ctx.towers), _as_rows(grad_outputs[0], ctx.towers)
        dx = (_gradient_on_gpu if _fits_gpu(rows) else _gradient)(rows, upstream, denominators, ctx.size, ctx.alpha)
        return _as_image(dx, x), None, None, None, None


def _normalised(rows: Tensor, size: int, alpha: float, k: float) -> tuple[Tensor, Tensor]:
    """Return the outputs and the denominators d of the pixels (R, C), chunk by chunk."""
    exact = torch.promote_types(rows.dtype, torch.float32)
    band = _band(rows.shape[1], size, rows.device, exact)
    offset = torch.full((1,), k, dtype=exact, device=rows.device).expand(rows.shape[1])
    denominators, y = torch.empty_like(rows), torch.empty_like(rows)
    for chunk, chunk_d, chunk_y in zip(_chunks(rows), _chunks(denominators), _chunks(y), strict=True):
        chunk_x = chunk.to(exact)
        d = torch.empty_like(chunk_x)
        torch.addmm(offset, chunk_x * chunk_x, band, alpha=alpha, out=d)  # autocast does not change an operation with `out`
        chunk_d.copy_(d)
        root = d.rsqrt_()  # d^-½
        torch.mul(root.sqrt().mul_(root), chunk_x, out=chunk_y)
    return y, denominators


def _gradient(rows: Tensor, upstream: Tensor, denominators: Tensor, size: int, alpha: float) -> Tensor:
    """Return the gradient of the pixels (R, C) from that of their outputs, chunk by chunk."""
    exact = torch.promote_types(rows.dtype, torch.float32)
    band = _band(rows.shape[1], size, rows.device, exact)
    dx = torch.empty_like(rows)
    for chunk, chunk_grad, chunk_d, chunk_dx in zip(*map(_chunks, (rows, upstream, denominators, dx)), strict=True):
        chunk_x, chunk_g, d = (part.to(exact) for part in (chunk, chunk_grad, chunk_d))
        root = torch.rsqrt(d)
        scale = torch.sqrt(root).mul_(root)  # d^-¾
        inner = (chunk_g * chunk_x).mul_(scale).div_(d)
        spread = torch.mm(inner, band, out=root)
        chunk_dx.copy_(scale.mul_(chunk_g).addcmul_(spread, chunk_x, value=-1.5 * alpha))
    return dx


_normalised_on_gpu = Compiled(fused_norm.normalised, otherwise=_normalised)
_gradient_on_gpu = Compiled(fused_norm.gradient, otherwise=_gradient)


def _fits_gpu(rows: Tensor) -> bool:
    return rows.is_cuda and len(rows) > 1  # a replica's part of a batch may be empty


@cache
def _band(channels: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return (C, C): 1 for two channels of which each is in the window of the other, else 0."""
    with torch.inference_mode(False):
        channel = torch.arange(channels, device=device)
        return ((channel[:, None] - channel[None, :]).abs() <= size // 2).to(dtype)


def _as_rows(x: Tensor, towers: int) -> Tensor:
    """Return (N, C, H, W) as (N·H·W·towers, C / towers): a row for each pixel of each tower.

    A view if the memory is channels-last, else a copy.
    """
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1] // towers)


def _as_image(rows: Tensor, like: Tensor) -> Tensor:
    num, channels, height, width = like.shape
    return rows.view(num, height, width, channels).permute(0, 3, 1, 2)


def _chunks(rows: Tensor) -> tuple[Tensor, ...]:
    if rows.is_cuda:
        return (rows,)
    return torch.split(rows, max(1, CHUNK_ELEMENTS // rows.shape[1]))

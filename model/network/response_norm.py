"""Local response normalisation, which in the textbook network takes most of the time on a CPU.

Called by `model.network.alexnet` for one tower, or for both with `towers=2`: the window never crosses from one to the other.
"""

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

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
    """In channels-last memory, an activation is a matrix of pixels by channels and the window is a banded matrix.

    With d = k + alpha · x² B the output is y = x · d^-¾ and, B being symmetric,
    dx = g · d^-¾ − 2 · ¾ · alpha · x · ((g · x · d^-1¾) B).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int, alpha: float, k: float, towers: int) -> Tensor:
        pixels = _as_pixels(x)  # (N·H·W, C)
        exact = torch.promote_types(x.dtype, torch.float32)
        band = _band(x.shape[1], size, towers, x.device, exact)
        offset = torch.full((1,), k, dtype=exact, device=x.device).expand(x.shape[1])
        denominator, y = torch.empty_like(pixels), torch.empty_like(pixels)
        for chunk, chunk_d, chunk_y in zip(_chunks(pixels), _chunks(denominator), _chunks(y), strict=True):
            chunk_x = chunk.to(exact)
            d = torch.empty_like(chunk_x)
            torch.addmm(offset, chunk_x * chunk_x, band, alpha=alpha, out=d)  # autocast does not change an operation with `out`
            chunk_d.copy_(d)
            root = d.rsqrt_()  # d^-½
            torch.mul(root.sqrt().mul_(root), chunk_x, out=chunk_y)
        ctx.save_for_backward(x, denominator, band)
        ctx.alpha = alpha
        return _as_image(y, x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, denominator, band = ctx.saved_tensors
        pixels, grad_pixels = _as_pixels(x), _as_pixels(grad_outputs[0])
        dx = torch.empty_like(pixels)
        chunks = (_chunks(pixels), _chunks(grad_pixels), _chunks(denominator), _chunks(dx))
        for chunk, chunk_grad, chunk_d, chunk_dx in zip(*chunks, strict=True):
            chunk_x, chunk_g, d = (part.to(band.dtype) for part in (chunk, chunk_grad, chunk_d))
            root = torch.rsqrt(d)
            scale = torch.sqrt(root).mul_(root)  # d^-¾
            inner = (chunk_g * chunk_x).mul_(scale).div_(d)
            spread = torch.mm(inner, band, out=root)
            chunk_dx.copy_(scale.mul_(chunk_g).addcmul_(spread, chunk_x, value=-1.5 * ctx.alpha))
        return _as_image(dx, x), None, None, None, None


@cache
def _band(channels: int, size: int, towers: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return (C, C): 1 for two channels of the same tower of which each is in the window of the other, else 0."""
    with torch.inference_mode(False):
        channel = torch.arange(channels, device=device)
        tower = channel // (channels // towers)
        near = (channel[:, None] - channel[None, :]).abs() <= size // 2
        return (near & (tower[:, None] == tower[None, :])).to(dtype)


def _as_pixels(x: Tensor) -> Tensor:
    """Return (N, C, H, W) as (N·H·W, C), a view if the memory is channels-last, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _as_image(pixels: Tensor, like: Tensor) -> Tensor:
    num, channels, height, width = like.shape
    return pixels.view(num, height, width, channels).permute(0, 3, 1, 2)


def _chunks(pixels: Tensor) -> tuple[Tensor, ...]:
    if pixels.is_cuda:
        return (pixels,)
    return torch.split(pixels, max(1, CHUNK_ELEMENTS // pixels.shape[1]))

"""How an NVIDIA GPU multiplies float32. Called by the workers in `tasks.workers` before they compute anything."""

import torch


def allow_tf32(allowed: bool) -> None:
    """Allow or forbid GPUs to round the factors of float32 products to 10 bits; torch allows it in convolutions by default."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")

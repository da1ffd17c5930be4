"""How an NVIDIA GPU multiplies float32.

Called by the workers in `tasks.workers` before anything is computed.
"""

import torch


def allow_tf32(allowed: bool) -> None:
    """Let GPUs round what float32 products are made of to 10 bits, or forbid it; torch by itself rounds in convolutions."""
    torch.backends.cudnn.allow_tf32 = allowed
    torch.set_float32_matmul_precision("high" if allowed else "highest")

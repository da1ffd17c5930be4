"""One thread: small tensors gain nothing from more, and on a busy machine threads lose much waiting for each other."""

import torch

torch.set_num_threads(1)

"""One thread a test process: small tensors gain nothing from more, and threads that wait for each other on a busy machine lose much."""

import torch

torch.set_num_threads(1)

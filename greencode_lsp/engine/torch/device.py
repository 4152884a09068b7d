"""What torch finds on this machine; imported only where there is a GPU for it, or a test asks."""

from __future__ import annotations

import torch


def is_cuda_usable() -> bool:
    """Return whether torch can compute on a GPU here."""
    return torch.cuda.is_available()


def cuda_name() -> str | None:
    """Return the name of the CUDA device that torch would use; None where it sees none."""
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def cuda_build() -> str | None:
    """Return the CUDA version torch was built for; None for a build without CUDA."""
    return torch.version.cuda

"""What torch and the compiled kernels find on this machine, for `greencode-lsp doctor`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from greencode_lsp.engine.native.build import library


@dataclass(frozen=True, slots=True)
class Hardware:
    """Devices as the engine sees them."""

    gpu: str | None
    """Name of the CUDA device that torch would use; None where it sees none."""
    cuda_build: str | None
    """The CUDA version torch was built for; None for a build without CUDA."""
    has_kernels: bool
    """The CPU's kernels are compiled and load."""


def hardware() -> Hardware:
    """Look at the devices; compiles the kernels where they are not yet."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return Hardware(gpu, torch.version.cuda, library() is not None)

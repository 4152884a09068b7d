"""What the engine's libraries find on this machine, for `greencode-lsp doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from greencode_lsp.engine.load import has_gpu, has_torch


@dataclass(frozen=True, slots=True)
class Hardware:
    """Devices as the engine sees them."""

    has_gpu: bool
    """There is an NVIDIA GPU with its driver."""
    gpu: str | None
    """Name of the CUDA device that torch would use; None where it sees none, or is not installed."""
    cuda_build: str | None
    """The CUDA version torch was built for; None without torch, or for a build without CUDA."""
    has_torch: bool
    runtime: str
    """ONNX Runtime's version."""


def hardware() -> Hardware:
    """Look at the devices; torch is imported only where there is a GPU for it."""
    gpu, installed = has_gpu(), has_torch()
    if not (gpu and installed):
        return Hardware(gpu, None, None, installed, version("onnxruntime"))
    from greencode_lsp.engine.torch.device import cuda_build, cuda_name

    return Hardware(gpu, cuda_name(), cuda_build(), installed, version("onnxruntime"))

"""Devices, as nnU-Net's commands call them."""

import torch


def choose_device(wanted: str | None) -> str:
    """The device that is wanted, else CUDA where there is a GPU, else the CPU.

    Raises:
        ValueError: if torch finds none of that kind.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wanted and not available[wanted]:
        usable = ", ".join(device for device, is_there in available.items() if is_there)
        raise ValueError(f"-device {wanted}: torch finds none on this machine; use {usable}")
    return wanted or ("cuda" if available["cuda"] else "cpu")

"""What networks compute on, and how exactly: the same numbers each time on the same processor.

On a GPU, interpolation has gradients that differ from run to run by rounding.
"""

import ctypes
import sys

import torch

from happymaps.params import Precision

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def configure_torch(threads: int) -> None:
    """Fix what would change the sums (threads, algorithms), and keep memory between the steps."""
    torch.set_num_threads(threads)
    # Newer GPUs would round the factors of a convolution to 10 bits.
    torch.backends.cudnn.allow_tf32 = False
    # As `use_deterministic_algorithms`, which loads a compiler beside it: two seconds.
    torch.set_deterministic_debug_mode("warn")
    # A guard against reading fresh memory, which writes all of it: a tenth of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep large blocks that are freed, for the next step will want the same.

    It gives them back to the system by default, whose zeroing of fresh pages took longer than the
    convolutions. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    # The second size is the largest that older versions take. Without either, to keep what is
    # freed would only stop glibc from finding good sizes by itself.
    if mallopt is not None and any(mallopt(_M_MMAP_THRESHOLD, 1 << bits) for bits in (30, 25)):
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def best_device() -> torch.device:
    """The GPU where there is one that CUDA knows: Apple's is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computes_in_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether layers do, as is wanted where the device multiplies bfloat16: else it is a detour."""
    return precision == "mixed" and _multiplies_bfloat16(device)


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("amx_bf16", False) or able.get("avx512_bf16", False))

"""All randomness: every draw comes from (seed, stream, index), so no generator's state is ever saved.

A stream is a name ("order", "weights", "augment.flip"), an index a step or an epoch. Streams are independent: using one
more never shifts another.
"""

import hashlib

import torch
from torch import Generator


def derive(seed: int, stream: str, index: int = 0) -> int:
    """A 63-bit seed, in practice another for every (seed, stream, index).

    torch's generator for the CPU keeps 32 bits of it: of two given places, one in 2^32 pairs draws alike (seeds 10763 and 39074
    the same weights), and among 77,000 places even odds are that some two do. Runs of different seeds differ in all other
    streams then. CUDA's generator keeps all bits.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def fold(seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu") -> Generator:
    """A fresh generator on `device`; equal arguments give equal draws (for equal kinds of device)."""
    return Generator(device).manual_seed(derive(seed, stream, index))


def reseed_default(seed: int, stream: str, index: int, device: torch.device) -> None:
    """Reseed the default generators of the CPU and of `device`, which dropout and other people's modules draw from."""
    value = derive(seed, stream, index)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)

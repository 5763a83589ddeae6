"""All randomness: every draw is a function of (seed, stream, index), so no generator's state is ever saved.

A stream is a name ("order", "weights", "augment.flip"), an index a step or an epoch. Streams are independent: adding one never
shifts another.
"""

import hashlib

import torch
from torch import Generator


def derive(seed: int, stream: str, index: int = 0) -> int:
    """Derive a 63-bit seed, in practice a different one for every (seed, stream, index).

    torch's CPU generator keeps only 32 bits of it: one pair in 2^32 draws alike (seeds 10763 and 39074 give the same weights),
    and among 77,000 draws the odds are even that some two do. Runs with such seeds still differ in all other streams. CUDA's
    generator keeps all bits.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def fold(seed: int, stream: str, index: int = 0, device: torch.device | str = "cpu") -> Generator:
    """Return a new generator on `device`; equal arguments give equal draws (on equal kinds of device)."""
    return Generator(device).manual_seed(derive(seed, stream, index))


def reseed_default(seed: int, stream: str, index: int, device: torch.device) -> None:
    """Reseed the default generators of the CPU and of `device`, from which dropout and third-party modules draw."""
    value = derive(seed, stream, index)
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)

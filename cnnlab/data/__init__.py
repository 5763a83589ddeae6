"""Data sets: reading files into splits, from which batches are gathered on the device."""

from cnnlab.data.loading import DataSet, describe, load_data, share
from cnnlab.data.source import Declared, Source, declares
from cnnlab.data.splits import InMemory, MemoryMapped, Split, all_images, take

__all__ = [
    "DataSet", "Declared", "InMemory", "MemoryMapped", "Source", "Split", "all_images", "declares", "describe", "load_data",
    "share", "take",
]  # fmt: skip

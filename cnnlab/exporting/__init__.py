"""A trained network as a file for other programs, checked against the original before it is written."""

from cnnlab.exporting.agreement import Agreement
from cnnlab.exporting.formats import Runner

__all__ = ["Agreement", "Runner"]

"""Exporting a trained network to a file for other programs, compared with the original before it is written."""

from cnnlab.exporting.agreement import Agreement
from cnnlab.exporting.formats import Runner

__all__ = ["Agreement", "Runner"]

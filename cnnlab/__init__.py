"""cnnlab: config-driven training of convolutional networks. Importing it loads no torch."""

__version__ = "0.1.0"

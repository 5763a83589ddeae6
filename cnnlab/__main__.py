"""`python -m cnnlab COMMAND ...`, the same as the console script `cnnlab`."""

from cnnlab.cli import console_script

if __name__ == "__main__":
    console_script()

"""cnnlab: config-driven training of convolutional networks. Importing it does not import torch.

run = cnnlab.fit("model=lenet", "data=digits")               # train; or open what was trained before:
run = cnnlab.load("outputs/digits-lenet/2026-11-21_16-44-03")
run.predict(images)
"""

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnnlab.machine import share_cores

if TYPE_CHECKING:
    from cnnlab.fitting import fit
    from cnnlab.opening import OpenedRun, Predictions, load

__version__ = "0.1.0"
__all__ = ["OpenedRun", "Predictions", "fit", "load"]

share_cores()
# `python -m cnnlab.COMMAND` puts the current directory, perhaps that of somebody else's run, first on sys.path: remove it.
# Modules that the user names are still found there (`config.targets.locate`).
if (
    sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)].removeprefix("-m").partition(".")[0] == __name__
    and not sys.flags.safe_path
    and sys.path[0] != os.path.dirname(os.path.dirname(__file__))
):
    del sys.path[0]
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # `python -m cnnlab.COMMAND`: Ctrl-C during the imports ends it without a traceback; from then on `cli.run` handles it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("cnnlab.fitting" if name == "fit" else "cnnlab.opening"), name)

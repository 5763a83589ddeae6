"""What the jobs of a sweep have in common, loaded once, in the server process that its workers are forked from."""

import gc
import json
import os
from contextlib import suppress

import torch
import torch.utils.tensorboard

import cnnlab.training.experiment  # noqa: F401
from cnnlab.config.schema import DataConfig, from_plain
from cnnlab.data import share
from cnnlab.sweep.parallel import SHARED_DATA

torch.set_num_threads(1)  # a pool of threads does not survive a fork; each job sets its own number
if SHARED_DATA in os.environ:
    with suppress(Exception):  # a job that needs these data says what is wrong with them
        share(from_plain(DataConfig, json.loads(os.environ[SHARED_DATA])))
gc.freeze()  # a collection in a worker would walk, and so copy, all that is shared: 0.14 s in every job

"""Loads what the jobs of a sweep have in common once, in the server process from which its workers are forked."""

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

torch.set_num_threads(1)  # a thread pool does not survive a fork; each job sets its own number
if SHARED_DATA in os.environ:
    with suppress(Exception):  # a job that needs these data reports what is wrong with them
        share(from_plain(DataConfig, json.loads(os.environ[SHARED_DATA])))
gc.freeze()  # garbage collection in a worker would touch, and so copy, all shared memory: 0.14 s in every job

"""Parameter groups: the config's `parameters`, a list of name patterns of which the first that matches a parameter applies."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from cnnlab.config.schema import ParameterGroup
from cnnlab.errors import ConfigError, suggest

PLAIN = ParameterGroup(match="*", lr_factor=1.0, weight_decay=None, frozen=False)  # for parameters that no pattern matches


def matched(model: nn.Module, groups: Sequence[ParameterGroup], key: str = "parameters") -> dict[str, ParameterGroup]:
    """The group of each parameter, by name; `key` is the configuration key of the groups, for the error.

    Raises:
        ConfigError: a pattern that applies to no parameter.
    """
    names = [name for name, _ in model.named_parameters()]
    found = {name: next((group for group in groups if fnmatchcase(name, group.match)), PLAIN) for name in names}
    for number, group in enumerate(groups):
        if all(group is not one for one in found.values()):
            where = f"{key}[{number}].match={group.match}"
            if any(fnmatchcase(name, group.match) for name in names):
                raise ConfigError(f"{where}: earlier patterns match every parameter that it matches; put it first")
            layers = dict.fromkeys(f"{name.rpartition('.')[0]}.*" for name in names if "." in name)
            near = suggest(group.match, [*layers, *names])
            raise ConfigError(f"{where}: matches no parameter.{near} Choose from: {', '.join(layers or names)}")
    return found


def freeze(model: nn.Module, groups: Sequence[ParameterGroup], key: str = "parameters") -> None:
    """Turn off the gradients of frozen parameters; `key` is the configuration key of the groups, for the error.

    Raises:
        ConfigError: a pattern that applies to no parameter, or nothing is left to train.
    """
    found = matched(model, groups, key)
    for name, parameter in model.named_parameters():
        if found[name].frozen:
            parameter.requires_grad_(False)
    if groups and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(f"{key}={[group.match for group in groups]}: all {len(found)} parameters are frozen; unfreeze some")


def optimizer_groups(model: nn.Module, groups: Sequence[ParameterGroup]) -> list[dict[str, Any]]:
    """The trainable parameters as torch's optimizers take them: one dict per group, each with its `lr_factor`.

    A group without a weight decay gets the optimizer's.
    """
    found = matched(model, groups)
    made: list[dict[str, Any]] = []
    for group in (*groups, PLAIN):
        named = [(name, parameter) for name, parameter in model.named_parameters() if found[name] is group]
        parameters = [parameter for _, parameter in named if parameter.requires_grad]
        if parameters:
            decay = {} if group.weight_decay is None else {"weight_decay": group.weight_decay}
            made.append({"params": parameters, "lr_factor": group.lr_factor, **decay})
    return made


def train_mode(model: nn.Module) -> None:
    """Call `model.train()`, but leave modules whose parameters are all frozen in evaluation mode, so that a frozen backbone
    keeps and uses its batch norm statistics and applies no dropout."""
    model.train()
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def names_in_order(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of an optimizer's parameters, in the order in which its state numbers them."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cnnlab.errors import ConfigError
from cnnlab.models import MLP


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("shape", "hidden", "count"),
    [
        ((1, 28, 28), (128,), 784 * 128 + 128 + 128 * 10 + 10),
        ((1, 28, 28), (128,) * 3, 784 * 128 + 128 + 2 * (128 * 128 + 128) + 128 * 10 + 10),
        ((3, 32, 32), (), 3072 * 10 + 10),
    ],
)
def test_parameters_by_hand(shape: tuple[int, int, int], hidden: tuple[int, ...], count: int) -> None:
    assert parameters(MLP(shape, 10, hidden)) == count


def test_published_dense_layer_of_six_on_cifar_has_18_432_weights() -> None:
    assert MLP((3, 32, 32), 6, ()).dense.output.weight.numel() == 18_432


def test_it_computes_dense_layers_on_the_flattened_image() -> None:
    torch.manual_seed(0)
    model = MLP((2, 3, 4), 5, (7, 6), "sigmoid", initializer="torch").double()
    images = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    x = images.reshape(3, 24)
    for layer in (model.dense.dense0, model.dense.dense1):
        x = 1 / (1 + torch.exp(-(x @ layer.weight.T + layer.bias)))
    torch.testing.assert_close(model(images), F.linear(x, model.dense.output.weight, model.dense.output.bias))


def test_hidden_dropout_follows_each_activation() -> None:
    names = [name for name, _ in MLP((1, 2, 2), 3, (4, 4), hidden_dropout=0.5).dense.named_children()]
    assert names == ["dense0", "activation0", "dropout0", "dense1", "activation1", "dropout1", "output"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": [128, 0]}, r"model\.hidden=\[128, 0\]: expected widths of 1 or more"),
        ({"hidden_dropout": 1.0}, r"model\.hidden_dropout=1\.0: expected a rate"),
    ],
)
def test_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MLP((1, 2, 2), 3, **settings)

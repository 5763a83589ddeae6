from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cnnlab.errors import ConfigError
from cnnlab.models import MLP


def test_it_computes_dense_layers_on_the_flattened_image() -> None:
    torch.manual_seed(0)
    model = MLP((2, 3, 4), 5, (7, 6), "sigmoid", initializer="torch").double()
    images = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    x = images.reshape(3, 24)
    for layer in (model.dense.dense0, model.dense.dense1):
        x = 1 / (1 + torch.exp(-(x @ layer.weight.T + layer.bias)))
    torch.testing.assert_close(model(images), F.linear(x, model.dense.output.weight, model.dense.output.bias))


def test_hidden_dropout_follows_each_activation() -> None:
    dense = MLP((1, 2, 2), 3, (4, 4), hidden_dropout=0.5).dense
    names = [name for name, _ in dense.named_children()]
    assert names == ["dense0", "activation0", "dropout0", "dense1", "activation1", "dropout1", "output"]
    assert (dense.dropout0.p, dense.dropout1.p) == (0.5, 0.5)


@pytest.mark.parametrize(("key", "value"), [("hidden", [128, 0]), ("hidden_dropout", 1.0)])
def test_a_bad_value_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.{key}="):
        MLP((1, 2, 2), 3, **{key: value})

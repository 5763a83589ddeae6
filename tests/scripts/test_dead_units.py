import torch
from torch import nn

from scripts.dead_units import dead_units


def test_a_unit_is_dead_when_no_image_wakes_it() -> None:
    first, second = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, -1.0], [1.0, -2.0]]))  # always, never, sometimes
        second.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]]))  # the second one never
    model = nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
    images = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert dead_units(model, lambda: [model(image[None]) for image in images]) == [1, 1]
    shallow = nn.Sequential(first, nn.ReLU())
    assert dead_units(shallow, lambda: shallow(images[:1])) == [2]

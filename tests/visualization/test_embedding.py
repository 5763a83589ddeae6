"""Principal components against numpy, and the projector's files as TensorBoard reads them."""

from pathlib import Path

import numpy as np
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

from cnnlab.visualization import embedding


def test_principal_components_are_the_eigenvectors_of_the_covariance() -> None:
    points = np.random.default_rng(0).normal(size=(50, 4)) * [5, 1, 3, 0.1] + 7
    projected, shares = embedding.principal_components(torch.from_numpy(points))
    values, vectors = np.linalg.eigh(np.cov(points.T))
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum(), rtol=1e-6)
    expected = (points - points.mean(0)) @ vectors[:, ::-1][:, :2]
    np.testing.assert_allclose(projected.abs().numpy(), np.abs(expected), rtol=1e-4, atol=1e-5)  # the signs are free


def test_points_of_one_dimension_and_equal_points() -> None:
    projected, shares = embedding.principal_components(torch.tensor([[1.0], [2.0]]))
    assert projected.shape == (2, 2)
    assert shares.tolist() == [1, 0]
    assert embedding.principal_components(torch.ones(3, 5))[1].tolist() == [0, 0]


def test_projector_files(tmp_path: Path) -> None:
    images = torch.zeros(5, 3, 96, 48)
    images[4, 0] = 1  # red
    embedding.write_projector(tmp_path, "embedding", torch.arange(10.0).view(5, 2), ["a", "b", "c", "d", "e"], images)
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (one,) = config.embeddings
    assert (tmp_path / one.tensor_path).read_text().splitlines()[2] == "4\t5"
    assert (tmp_path / one.metadata_path).read_text().splitlines() == ["a", "b", "c", "d", "e"]
    width, height = one.sprite.single_image_dim
    assert (width, height) == (24, 48)
    with Image.open(tmp_path / one.sprite.image_path) as opened:
        sheet = opened.copy()
    assert sheet.size == (3 * 24, 3 * 48)  # a square grid, row by row
    assert sheet.getpixel((24 + 12, 48 + 24)) == (255, 0, 0)

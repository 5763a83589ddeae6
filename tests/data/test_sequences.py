"""Digits as signals and clips, and the networks of one and of three dimensions that learn them."""

import torch

from cnnlab.data import all_images, digits, sequences


def test_a_digit_s_rows_are_steps_and_its_columns_channels() -> None:
    image, signal = all_images(digits.load().test)[7, 0], all_images(sequences.rows().test)[7]
    assert signal.shape == (28, 28)
    assert torch.equal(signal[:, 3], image[3])


def test_a_clip_s_digit_moves_where_its_label_says_and_stays_whole() -> None:
    source = sequences.moving()
    clips = all_images(source.test)[:, 0].double()
    assert clips.shape == (1000, 8, 28, 28)
    mass = clips.sum((2, 3))
    assert torch.equal(mass, mass[:, :1].expand(-1, 8))  # no pixel leaves the frame
    place = torch.arange(28, dtype=torch.float64)
    rows, columns = ((clips.sum(side) * place).sum(2) / mass for side in (3, 2))
    for label, (down, right) in enumerate(sequences.DIRECTIONS.values()):
        own = source.test.labels == label
        for moved, sign in ((rows[own].diff(), down), (columns[own].diff(), right)):
            speeds = (moved * (sign or 1)).round(decimals=9).unique().tolist()
            assert speeds == ([1.0, 2.0] if sign else [0.0])

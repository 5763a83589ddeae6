import numpy as np

from cnnlab.tracking.confusion import confusion_counts


def test_confusion_counts_by_hand() -> None:
    counts = confusion_counts(np.array([0, 0, 2, 2, 2, 0]), np.array([0, 1, 2, 2, 0, 1]), 3)
    assert counts.tolist() == [[1, 2, 0], [0, 0, 0], [1, 0, 2]]

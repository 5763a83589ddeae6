"""The confusion matrix of a classifier as numbers. Does not import torch."""

import numpy as np
from numpy.typing import NDArray


def confusion_counts(labels: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count images by class (rows) and predicted class (columns): K x K. labels, predicted: classes from 0 to K - 1, N."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)

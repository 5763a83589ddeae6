"""Pictures for TensorBoard: confusion matrix, sheets of images with captions. All are uint8, H x W x 3."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cnnlab.tracking.confusion import confusion_counts

Picture = NDArray[np.uint8]
NUM_SHOWN = 40  # images on a sheet, at most
NUM_CAPTIONED = 12  # if they have captions, in 4 columns, to be legible in TensorBoard, which shows a sheet 345 pixels wide


def confusion(labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> Picture:
    """Draw the confusion matrix as a table with a row for each class, shaded by the share of the row."""
    counts = confusion_counts(labels.numpy(), predicted.numpy(), len(classes))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    cell, font, small = 52, _font(15), _font(13)
    margin = max(int(font.getlength(name)) for name in classes) + 34
    side = margin + cell * len(classes) + 12
    image = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(image)
    draw.text((margin + cell * len(classes) / 2, 6), "predicted", "black", small, "ma")
    for row, name in enumerate(classes):
        middle = margin + cell * row + cell / 2
        draw.text((margin - 8, middle), name, "black", font, "rm")
        column_name = Image.new("L", (margin, 24))
        ImageDraw.Draw(column_name).text((0, 12), name, 255, font, "lm")
        turned = column_name.rotate(90, expand=True)
        image.paste("black", (int(middle) - 12, -8), turned)
        for column in range(len(classes)):
            share, x, y = shares[row, column], margin + cell * column, margin + cell * row
            strong = (34, 94, 168) if row == column else (203, 24, 29)
            shade = share if row == column else min(1.0, share * 4)  # mistakes are few: make them visible
            color = tuple(round(255 + (end - 255) * shade) for end in strong)
            draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=color)
            if counts[row, column]:
                text = "white" if shade > 0.5 else "black"
                draw.text((x + cell / 2 - 1, y + cell / 2), f"{counts[row, column]}", text, font, "mm")
    turned = Image.new("L", (cell * len(classes), 20))
    ImageDraw.Draw(turned).text((cell * len(classes) / 2, 2), "class", 255, small, "ma")
    image.paste("black", (4, margin), turned.rotate(90, expand=True))
    return np.asarray(image)


def sheet(images: Tensor, captions: Sequence[str] = ()) -> Picture:
    """Draw images in rows of eight, or in rows of four with a caption of one or more lines below each.

    images: N x C x H x W, uint8 or floats from 0 to 1; three channels are colors, otherwise the first is shown.
    captions: N, or none.
    """
    shown = images[: NUM_CAPTIONED if captions else NUM_SHOWN]
    if images.is_floating_point():
        shown = (shown.clamp(0, 1) * 255).round().to(torch.uint8)
    count, channels, height, width = shown.shape
    scale, columns = max(1, round(84 / max(height, width))), 4 if captions else 8
    font, gap, line_height = _font(16), 6, 19
    texts = [caption.splitlines() for caption in captions[:count]]
    widest = max((math.ceil(font.getlength(line)) for lines in texts for line in lines), default=0)
    cell_width = max(width * scale, widest) + gap
    cell_height = height * scale + gap + line_height * max(map(len, texts), default=0)
    rows = -(-count // columns)
    page = Image.new("RGB", (cell_width * min(columns, count) + gap, cell_height * rows + gap), "white")
    draw = ImageDraw.Draw(page)
    pixels = shown.permute(0, 2, 3, 1).cpu().numpy()
    for number in range(count):
        x, y = gap + cell_width * (number % columns), gap + cell_height * (number // columns)
        one = Image.fromarray(pixels[number] if channels == 3 else pixels[number, :, :, 0])
        page.paste(one.resize((width * scale, height * scale), Image.Resampling.NEAREST), (x, y))
        for row, line in enumerate(texts[number] if texts else ()):
            draw.text((x, y + height * scale + line_height * row), line, "black", font)
    return np.asarray(page)


def worst_mistakes(labels: Tensor, predicted: Tensor, probability: Tensor, classes: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the indices of the most confident wrong predictions, and captions of three lines, such as "predicted",
    "Shirt, 0.98", "truth Coat"."""
    wrong = torch.nonzero(labels != predicted).flatten()
    worst = wrong[probability[wrong].argsort(descending=True, stable=True)][:NUM_CAPTIONED]
    rows = zip(labels[worst].tolist(), predicted[worst].tolist(), probability[worst].tolist(), strict=True)
    return worst, [f"predicted\n{classes[guess]}, {sure:.2f}\ntruth {classes[truth]}" for truth, guess, sure in rows]


def worst_errors(numbers: Tensor, predicted: Tensor) -> tuple[Tensor, list[str]]:
    """Return the indices of a regression's largest absolute errors, and captions, "predicted 6.31" above "truth 2"."""
    worst = (predicted - numbers).abs().argsort(descending=True, stable=True)[:NUM_CAPTIONED]
    rows = zip(numbers[worst].tolist(), predicted[worst].tolist(), strict=True)
    return worst, [f"predicted {guess:.2f}\ntruth {truth:g}" for truth, guess in rows]


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's own scalable font
    return font

"""What only a CUDA device can show; skipped elsewhere."""

import json
from pathlib import Path

import pytest
import torch
from conftest import choices
from safetensors.torch import load_file

from cnnlab import composing
from cnnlab.training.session import Session, build_session

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch sees none"),
]
SMALL = ("data=digits", "data.limit=320", "data.validation=100", "trainer.deterministic=true")


def session(device: str, *changes: str) -> Session:
    return build_session(composing.typed(composing.compose([*SMALL, f"trainer.device={device}", *changes])))


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_steps_on_the_gpu_are_those_on_the_cpu(optimizer: str) -> None:
    """Within the rounding of float32 sums of a few hundred terms, over three steps."""
    both = [session(device, f"optimizer={optimizer}") for device in ("cpu", "cuda")]
    for one in both:
        for number in range(3):
            one.step(torch.arange(64, device=one.runtime.device) + 64 * number, number, 1.0)
    for mine, other in zip(both[0].model.parameters(), both[1].model.parameters(), strict=True):
        torch.testing.assert_close(mine, other.cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", choices("optimizer"))
def test_a_loss_that_is_not_finite_leaves_the_weights_alone(optimizer: str) -> None:
    one = session("cuda", f"optimizer={optimizer}")
    before = [parameter.clone() for parameter in one.model.parameters()]
    one.step.task.training_loss = lambda outputs, wanted: outputs.sum() * torch.nan  # type: ignore[method-assign]
    for number in (5, 6):
        one.step(torch.arange(64, device="cuda"), number, 1.0)
    assert int(one.step.first_bad) == 5
    assert all(torch.equal(a, b) for a, b in zip(before, one.model.parameters(), strict=True))


def test_a_continued_run_gives_the_same_bits(call, tmp_path: Path) -> None:
    quick = (*SMALL, "trainer.device=cuda", "augment=[crop,rotation,cutout]", "model.dropout=0.1", "console=quiet")
    assert call("train", *quick, "trainer.epochs=3", f"hydra.run.dir={tmp_path / 'whole'}")[0] == 0
    assert call("train", *quick, "trainer.epochs=1", f"hydra.run.dir={tmp_path / 'parts'}")[0] == 0
    assert call("train", f"resume={tmp_path / 'parts'}", "trainer.epochs=3", "console=quiet")[0] == 0
    whole, parts = (load_file(tmp_path / run / "last.safetensors") for run in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    losses = [
        [json.loads(line)["train_loss"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1]

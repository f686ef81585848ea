"""Public trainers on trial, each on 48 rows with a small network, resumed as its own documents do it.

    python -m workshop.prove --checkpoint 'step_*/*'       -- python -m workshop.prove.trials accelerate {}
    python -m workshop.prove --checkpoint '*.ckpt'         -- python -m workshop.prove.trials lightning {} 8
    python -m workshop.prove --checkpoint 'checkpoint-*/*' -- python -m workshop.prove.trials transformers {}

An epoch has 12 steps. The number says after how many a checkpoint is saved, 8 where it is left out: in its middle.
What came of it, and of which versions, is in workshop/README.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

ROWS, BATCH, EPOCHS = 48, 4, 4


class Rows(Dataset[Any]):
    """Rows of a batch of values, as `make` gives them."""

    def __init__(self, values: Tensor, make: Any) -> None:
        self.values, self.make = values, make

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, row: int) -> Any:
        time.sleep(0.02)  # so that kills fall into the training
        return self.make(self.values[row])


def small(dropout: float = 0.1) -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 1))


def sums() -> DataLoader[Any]:
    rows = Rows(torch.randn(ROWS, 8), lambda row: (row, row.sum(0, keepdim=True)))
    return DataLoader(rows, batch_size=BATCH, shuffle=True)


def accelerate(out: Path, every: int) -> None:
    """As by_feature/checkpointing.py of its examples: save_state, load_state, skip_first_batches."""
    from accelerate import Accelerator, DataLoaderConfiguration
    from accelerate.utils import set_seed

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    set_seed(1)
    network, rows = small(), sums()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=12, gamma=0.9)
    network, optimizer, rows, schedule = accelerator.prepare(network, optimizer, rows, schedule)
    step = max((int(folder.name[5:]) for folder in out.glob("step_*")), default=0)
    if step:
        accelerator.load_state(str(out / f"step_{step}"))
    begun = step // len(rows)
    for epoch in range(begun, EPOCHS):
        network.train()
        rows.set_epoch(epoch)
        left = accelerator.skip_first_batches(rows, step % len(rows)) if epoch == begun and step else rows
        for inputs, targets in left:
            accelerator.backward(nn.functional.mse_loss(network(inputs), targets))
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % every == 0:
                accelerator.save_state(str(out / f"step_{step}"))
    accelerator.save_model(network, str(out / "final"))


def lightning(out: Path, every: int) -> None:
    """As in "Checkpointing" of its documents: ModelCheckpoint with save_last, and ckpt_path="last"."""
    import lightning as pl
    from lightning.pytorch.callbacks import ModelCheckpoint

    class Small(pl.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = small()

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.mse_loss(self.network(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)]

    pl.seed_everything(1)
    keep = ModelCheckpoint(dirpath=out, every_n_train_steps=every, save_last=True)
    options: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "callbacks": [keep]}
    trainer = pl.Trainer(default_root_dir=out, max_epochs=EPOCHS, accelerator="cpu", **options)
    rows = sums()
    trainer.fit(Small(), rows, ckpt_path="last")
    trainer.save_checkpoint(f"{out}/final.ckpt", weights_only=True)


def transformers(out: Path, every: int) -> None:
    """As run_clm.py of its examples: get_last_checkpoint and resume_from_checkpoint. A GPT-2, whose dropout is 0.1."""
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
    from transformers.trainer_utils import get_last_checkpoint

    words = torch.randint(64, (ROWS, 16), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    options: dict[str, Any] = {"use_cpu": True, "report_to": [], "disable_tqdm": True}
    settings = TrainingArguments(
        output_dir=str(out), max_steps=40, save_steps=every, per_device_train_batch_size=BATCH, seed=1, **options
    )
    rows = Rows(words, lambda row: {"input_ids": row, "labels": row})
    trainer = Trainer(model=model, args=settings, train_dataset=rows)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)))
    trainer.save_model(str(out / "final"))


if __name__ == "__main__":
    trainers = {"accelerate": accelerate, "lightning": lightning, "transformers": transformers}
    trainers[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 8)

"""AVE-Net from shards to weights, top to bottom: what `avc train` does in one process, without its guards.

    python examples/train_ave.py configs/demo.yaml data.shards=demo-world/shards run.dir=runs/flat

The losses are the trainer's, bit for bit (tests/examples/test_train_ave.py). What the trainer has besides: ranks under
DDP, reading ahead, validation, W&B, checkpoints in a thread that no kill can damage (avc/training/loop.py).
"""

import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from avc.config import dump_config, load_config
from avc.data.preprocessing import audio_to_input, images_to_input
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.models import to_channels_last
from avc.models.ave import AVENet
from shards.read import Shards

# 1. Settings: a YAML file, and section.name=value on the command line. Typed and checked; dump_config writes them out.
config = load_config(sys.argv[1], sys.argv[2:])
run = config.run.dir
run.mkdir(parents=True, exist_ok=True)
(run / "config.yaml").write_text(dump_config(config))
device = torch.device("cuda" if torch.cuda.is_available() and config.training.device != "cpu" else "cpu")

# 2. The plan: which frame meets which second of audio under which label. A pure function of seed and row number, so
#    resuming is starting at a later row, and other ranks would take other rows. The audio of positives and of negatives
#    has its mid-point on the 0.04 s grid (Objects that Sound 3.3), so the grid tells nothing.
shards = Shards(config.data.shards)
sampler = PairSampler(
    shards.index,
    shards.clips("train"),
    seed=config.run.seed,
    source=config.negatives.source,  # another clip's audio: a draw of its own, or that of another row of the block
    grid=config.negatives.grid,
    block=config.negatives.block,
    min_ticks=config.negatives.min_ticks,
    max_ticks=config.negatives.max_ticks,
    max_misalignment_ticks=config.data.max_misalignment_ticks,
    shuffle_sound=config.data.shuffle_sound,
)
rows_per_step = config.optim.batch_pairs // sampler.pairs_per_row
rows_per_micro_batch = config.optim.micro_batch_pairs // sampler.pairs_per_row

# 3. Rows become a batch: uint8 (F, H, W, 3) crops, int16 (S, 48000) seconds, and P pairs of them by their numbers.
reader = PairReader(shards, sampler, image_size=config.data.image_size, augment=True)

# 4. Two towers that meet in the distance of their embeddings; Adam, whose weight decay is part of the gradient.
torch.manual_seed(config.run.seed)
network = AVENet(config.model).to(device).train()
to_channels_last(network)
optimizer = torch.optim.Adam(network.parameters(), weight_decay=config.optim.weight_decay, fused=True)

# 5. Resume: weights, the optimizer's moments and the step are all that the next step depends on.
step = 0
if (run / "checkpoint.pt").exists():
    checkpoint = torch.load(run / "checkpoint.pt", map_location=device, weights_only=True)
    network.load_state_dict(checkpoint["network"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    step = checkpoint["step"]

while step < config.training.steps:
    # 6. The rate falls by 0.94 every 16 epochs (Objects that Sound 3.3).
    epoch = step * rows_per_step // sampler.rows_per_epoch
    optimizer.param_groups[0]["lr"] = config.optim.lr * config.optim.lr_decay ** (epoch // config.optim.lr_decay_epochs)

    # 7. One step, in micro-batches that fit into memory. The loss is a mean over the whole step's pairs.
    optimizer.zero_grad(set_to_none=True)
    loss_sum = 0.0
    first = step * rows_per_step
    for start in range(first, first + rows_per_step, rows_per_micro_batch):
        batch = reader[start, start + rows_per_micro_batch].to(device)
        images = images_to_input(batch.images, batch.image_draws, config.data)  # flipped, brighter or paler by the plan
        spectrograms = audio_to_input(batch.audio, batch.audio_draws, config.data)  # (S, 1, 257, 199), louder or softer
        with torch.autocast(device.type, torch.bfloat16, enabled=config.training.precision == "bf16"):
            image, audio = network.embed_image(images), network.embed_audio(spectrograms)  # (F, 128), (S, 128)
            logits = network.compare(image[batch.pair_frame], audio[batch.pair_audio]).float()  # (P, 2): no, yes
        loss = F.cross_entropy(logits, batch.label, reduction="sum")
        (loss / config.optim.batch_pairs).backward()
        loss_sum += loss.item()
    optimizer.step()
    step += 1

    # 8. Log, and save: written aside and renamed, so that a kill leaves the old file or the new one.
    if step % config.log.every_steps == 0:
        print(f"step {step} loss {loss_sum / config.optim.batch_pairs!r}", flush=True)
    if step % config.checkpoint.every_steps == 0 or step == config.training.steps:
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save(state, run / "checkpoint.part")
        (run / "checkpoint.part").replace(run / "checkpoint.pt")

# 9. The weights, in the form and with the name that `avc eval`, `avc embed` and avc.load take.
weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
save_file(weights, run / "model.safetensors", metadata={"model": config.model.name})

"""What many GPUs ask of storage, network and nodes: factors that one machine measured, multiplied out."""

from __future__ import annotations

from dataclasses import dataclass

from workshop.bench.report import Report, figure

# Measured: BENCHMARKS.md ("Shards in a store", "Loader", "Training step") and docs/SCALE.md have the commands.
CLIP_MB = 6.26  # a record of 10 s, pictures of side 256 at quality 90 and WAV
SHARD_CLIPS = 41  # of 256 MB
PAIR_KB, PAIR_READS = 117, 2  # a JPEG and a second of sound, negatives with frames of their own
PAIR_MS = {"local": 0.445, "cache": 0.458, "ranges": 0.971}  # of a core
FILL_MB = 800  # fetched, hashed and written by a core in a second
GRADIENT_MB = 38.15  # L³-Net's and AVE-Net's, in fp32


@dataclass(frozen=True)
class Way:
    """How pairs come to the GPUs; everything but `requests` is for one node.

    network_gb, requests: gigabytes and requests a second while training. cores: of loaders and fetchers. disk_tb: what
    its disk holds. first_hours: until all of it is there.
    """

    name: str
    network_gb: float
    requests: float
    cores: float
    disk_tb: float
    first_hours: float


@dataclass(frozen=True)
class Scale:
    """What is asked.

    gpus: all of them, `node` in one machine. pairs: a second and GPU. share: pairs that a GPU takes in a step. network:
    Gbit/s of a machine. window, visits: data.shuffle_shards and data.visits.
    """

    gpus: int
    node: int
    pairs: float
    share: int
    network: float
    clips: int
    window: int
    visits: int

    @property
    def nodes(self) -> int:
        """Machines that the GPUs are in."""
        return -(-self.gpus // self.node)


@dataclass(frozen=True)
class Reckoned:
    """The answer. step_ms, gradients_ms: a step, and its gradients between nodes, 0 where there is one."""

    scale: Scale
    ways: list[Way]
    step_ms: float
    gradients_ms: float


def reckon(of: Scale) -> Reckoned:
    """What each way that the trainer has would ask for."""
    crossing = 2 * (of.gpus - 1) / of.gpus * GRADIENT_MB / (of.network / 8) if of.nodes > 1 else 0.0
    return Reckoned(of, _ways(of), step_ms=1000 * of.share / of.pairs, gradients_ms=crossing)


def _ways(of: Scale) -> list[Way]:
    pairs = of.pairs * min(of.gpus, of.node)
    drawn_gb, reads = pairs * PAIR_KB / 1e6, pairs * of.nodes * PAIR_READS
    whole_tb = of.clips * CLIP_MB / 1e6
    cores = {name: pairs * ms / 1000 for name, ms in PAIR_MS.items()}

    def fetching(name: str, tb: float) -> Way:
        return Way(name, 0, 0, cores["cache"], tb, tb * 1000 / (of.network / 8) / 3600)

    streamed_gb = pairs / (2 * of.visits) * CLIP_MB / 1000
    windows_tb = 3 * of.window * SHARD_CLIPS * CLIP_MB / 1e6
    shards_a_second = streamed_gb * 1000 / (SHARD_CLIPS * CLIP_MB) * of.nodes
    streaming_cores = cores["cache"] + streamed_gb * 1000 / FILL_MB
    return [
        Way("a shared file system", drawn_gb, reads, cores["local"], 0, 0),
        Way("a store, by ranges", drawn_gb, reads, cores["ranges"], 0, 0),
        fetching("a store, data.cache", whole_tb),
        fetching(f"the same, data.partitions={of.nodes} or more", whole_tb / of.nodes),
        Way(
            f"the same, data.shuffle_shards={of.window} data.visits={of.visits}",
            *(streamed_gb, shards_a_second, streaming_cores, windows_tb),
            first_hours=windows_tb / 3 * 1000 / (of.network / 8) / 3600,
        ),
    ]


def report(result: Reckoned) -> Report:
    """The result for people."""
    of = result.scale
    epoch, whole = 2 * of.clips / (of.pairs * of.gpus), of.clips * CLIP_MB / 1e6
    rows = []
    for way in result.ways:
        too_much = " (it has less)" if way.network_gb > of.network / 8 else ""
        figures = (way.requests, way.cores, way.disk_tb, way.first_hours)
        rows.append((way.name, figure(way.network_gb) + too_much, *map(figure, figures)))
    sent = "stay within the machine"
    if result.gradients_ms:
        sent = (
            f"take {figure(result.gradients_ms)} ms between machines, in bf16 {figure(result.gradients_ms / 2)}: "
            f"training.gradients=bf16 {'pays' if result.gradients_ms > result.step_ms else 'is not needed'}"
        )
    return Report(
        title=f"{of.gpus} GPUs, {of.node} in a machine, {of.pairs:g} pairs a second each; {of.clips:,} clips of 10 s",
        columns=("", "GB/s a machine", "requests/s of all", "cores a machine", "its disk, TB", "hours to fill it"),
        rows=rows,
        notes=[
            f"An epoch of {2 * of.clips:,} pairs takes {figure(epoch)} s. The set is {figure(whole)} TB.",
            "negatives.source=shared halves cores, and bytes and requests of the first two.",
            f"A step of {of.share} pairs a GPU takes {figure(result.step_ms)} ms.",
            f"Its gradients, {GRADIENT_MB} MB, {sent}.",
            "Factors measured on one machine of 2 cores, multiplied out: nothing was run at this size.",
        ],
    )

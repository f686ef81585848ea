"""Every measure of a trained network there is: the one list, with what it takes, computes and prints.

A row names its function by module and function, as `avc.networks` does: `avc eval --help` needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avc.evaluation import options
from avc.settings import Section
from shards import Report

if TYPE_CHECKING:
    from shards.read import Shards

Progress = Callable[..., AbstractContextManager[Report]]  # (title, unit=...) gives the report of a step
Values = Mapping[str, Any]
# What rows are called, by their keys.
TITLES = {"own_range": "above half of the map's own range", "higher_half": "the higher half of the picture"}
TITLES |= {"adaptive": "as many places as the region has", "foreign": "of another kind", "silence": "silence"}
TITLES |= {"noise": "white noise", "half": "0.5", "quartile": "third quartile of wrong sounds' maxima"}


@contextmanager
def silent(title: str, *, unit: str) -> Iterator[Report]:
    """Progress that nobody sees."""
    yield lambda done, total, note: None


@dataclass(frozen=True)
class Request:
    """What every measure is asked with.

    sources: of networks. split: None is test where the shards have one, else validation. device: as of `named_device`,
    several with commas. progress: (title, unit=...) → a context manager that gives the report of a step.
    """

    sources: tuple[Path, ...]
    shards: Path | None = None
    split: str | None = None
    device: str = "auto"
    progress: Progress = silent

    @property
    def source(self) -> Path:
        """The only one."""
        return self.sources[0]

    def data(self, config: Any, source: Path) -> tuple[Shards, str]:
        """The shards that were named, or the run's own, and the split that judges.

        A run keeps the weights that did best on its validation split, which therefore favors them. Raises ValueError
        for imported weights, which come without shards, and for a split that there is not.
        """
        from avc.encoders.load import shards_of
        from shards.read import Shards

        data = Shards(self.shards or shards_of(config, source))
        if self.split is None:
            return data, "test" if len(data.clips("test")) else "validation"
        data.clips(self.split)
        return data, self.split

    def judged(self, judged: str) -> dict[str, str | None]:
        """What chose the weights and what judges them, such as "the test split", in words."""
        from avc.encoders.load import read_run

        # Other paths, of settings or of released weights, had no choice of weights.
        settings = [read_run(path)[0].validation for path in self.sources if path.is_dir()]
        chosen = sorted({each.split for each in settings if each.every_steps})  # without validation nothing chose
        return {"weights_chosen_on": f"the {' and '.join(chosen)} split" if chosen else None, "judged_on": judged}


@dataclass(frozen=True)
class Result:
    """content: plain values, for machines; `notes` in it are lines for people. figures: what is drawn, by option."""

    content: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)


class _Row(dict[str, Any]):
    """A row with what its templates say of it beside its values."""

    def __missing__(self, name: str) -> str:
        if name == "title":
            return TITLES[self["key"]]
        if name == "each_right":
            return " ".join(f"{100 * fold['right']:.1f}" for fold in self["result"]["folds"])
        if name == "each_strength":
            strengths = (fold["strength"] for fold in self["result"]["folds"])
            return " ".join("–" if strength is None else f"{strength:g}" for strength in strengths)
        if name == "likely":
            words = {name: ", ".join(f"{each} {share:.0%}" for each, share in of) for name, of in self["heard"].items()}
            return "; ".join(f"{teacher}: {likely}" for teacher, likely in words.items())
        raise KeyError(name)


def text_of(template: str, row: Values) -> str:
    """A line of a content, or a cell of a row; empty where what it shows is None, or an item of what is empty."""
    try:
        return template.format_map(_Row(row))
    except (TypeError, IndexError):
        return ""


@dataclass(frozen=True)
class Table:
    """rows: where the content has them, each with a `key`. columns: HEAD=TEMPLATE | ... below: a TEMPLATE of it."""

    rows: str
    columns: str
    below: str = ""

    def of(self, content: Values) -> tuple[list[str], list[list[str]]]:
        """Heads, and its rows as text; a row that has nothing but its name is left out."""
        columns = [column.partition("=") for column in self.columns.split(" | ")]
        rows = [[text_of(template, row) for _, _, template in columns] for row in content.get(self.rows, ())]
        return [head for head, _, _ in columns], [row for row in rows if any(row[1:])]


@dataclass(frozen=True)
class Measure:
    """function: of a Request and options, gives a Result. options: name=value, and in its docstring what is measured.

    printed: lines, templates of the content, and tables. example: what follows `avc eval`. takes: of the options that
    several measures have. several: whether it takes more than one network.
    evaluator: of `validation.evaluators`, which watches the same while a network is trained.
    """

    function: str
    options: type[Section]
    printed: tuple[str | Table, ...]
    examples: tuple[str, ...]
    takes: tuple[str, ...] = ("shards", "split", "device")
    several: bool = False
    evaluator: str = ""


_INTERVAL = "{interval_95[0]:.1%} to {interval_95[1]:.1%}"
_PROBES = (
    "features={name} | accuracy={accuracy:.1%} | 95 % interval=" + _INTERVAL + " | ± over TRIED={spread:.1%}"
    " | each={each_right} | C of each={each_strength}"
)
_RECORDINGS, _IMAGES, _CLIPS = (
    Table("rows", _PROBES.replace("TRIED", tried), below=f"{{items:,}} {what}; chance {{chance:.1%}}")
    for what, tried in (("recordings", "folds"), ("images", "folds"), ("clips", "draws"))
)
_RECALL = " | ".join(
    f"{way.replace('_', '-')} @{k}={{{way}_recall[{n}][mean]:.1%}} ± {{{way}_recall[{n}][half]:.1%}}"
    for way in ("im_aud", "aud_im")
    for n, k in enumerate((1, 5, 10))
)
_CHOICE = (
    "clips={clips:,} | mean={mean:.1%} | 95 % interval=" + _INTERVAL + " | over sources="
    "{interval_sources[0]:.1%} to {interval_sources[1]:.1%}"
)
_NDCG = " | ".join(
    f"{way.replace('_', '-')}={{{way}[mean]:.3f}} ± {{{way}[half]:.3f}}"
    for way in ("im_im", "im_aud", "aud_im", "aud_aud")
)

MEASURES = {
    "correspondence": Measure(
        "avc.evaluation.correspondence:correspondence",
        options.Correspondence,
        (
            "AVC accuracy {accuracy:.1%} (" + _INTERVAL + ") on {pairs:,} pairs of the {split} split",
            "positives {positives_accuracy:.1%}, negatives {negatives_accuracy:.1%}, chance {chance:.1%}",
        ),
        ("correspondence runs/ave --json ave.json",),
        takes=("shards", "split"),
        evaluator="pairs",
    ),
    "pairs": Measure(
        "avc.evaluation.pairs:pairs",
        options.Pairs,
        (
            "{clips:,} clips of the {split} split, the mean of {views} views each",
            Table("above", "own above another, of={name} | " + _CHOICE),
            Table(
                "near",
                "own among the 10 nearest, of={name} | " + _CHOICE,
                below="chance of the nearest {chance:.1%}, of the others 50.0%",
            ),
        ),
        ("pairs runs/few sources=sources.tsv",),
    ),
    "retrieval": Measure(
        "avc.evaluation.retrieval:retrieval",
        options.Retrieval,
        (
            "nDCG@30 on {clips:,} clips of the {split} split, {classes} classes; {gain} gain, relevance from "
            + "{relevance}",
            Table("rows", "={name} | " + _NDCG),
            "± is half of the 95 % interval over queries",
            Table("rows", "recall={name} | " + _RECALL),
            "recall by chance: {chance[0]:.1%}, {chance[1]:.1%} and {chance[2]:.1%}",
        ),
        ("retrieval runs/ave labels=demo-world/world/labels.jsonl features=runs/l3",),
        evaluator="retrieval",
    ),
    "localization": Measure(
        "avc.evaluation.localization:localization",
        options.Localization,
        (
            "{all[frames]:,} frames; {unknown:,} clips of the split have no box",
            Table(
                "hits",
                "hits={name} | frames={frames:,} | map's maximum={maximum:.1%} | 95 % interval="
                + _INTERVAL
                + " | center={center:.1%} | random point={random:.1%}",
            ),
            Table(
                "hits",
                "displacement from the nearest box={name}"
                " | pixels right={displacement_pixels[0]:+.1f} ± {displacement_std_pixels[0]:.1f}"
                " | pixels down={displacement_pixels[1]:+.1f} ± {displacement_std_pixels[1]:.1f}",
            ),
            Table(
                "overlaps",
                "consensus IoU of={title} | from 0.5={success:.1%} | AUC={auc:.3f}"
                " | center: from 0.5={center_success:.1%} | center: AUC={center_auc:.3f}",
            ),
            "IIoU, two objects, each under its sound, both from 0.5: {interaction[iiou]:.1%} of"
            " {interaction[frames]:,} frames, AUC {interaction[auc]:.3f}",
            Table(
                "thresholds",
                "at one threshold={title} | which is={threshold:.3f} | mean IoU (AUC)={iou:.3f} ({auc:.3f})"
                " | F (of the AUCs)={f:.3f} ({f_auc:.3f})",
            ),
            Table(
                "thresholds",
                "marked (AUC) at={title} | another's sound={wrong[0][share]:.1%} ({wrong[0][auc]:.3f})"
                " | silence={wrong[1][share]:.1%} ({wrong[1][auc]:.3f})"
                " | white noise={wrong[2][share]:.1%} ({wrong[2][auc]:.3f})",
            ),
            Table(
                "sanity",
                "wrong sound={title} | maximum falls={falls:.1%} | AUC, right against wrong={auc:.3f}"
                " | mean maximum={mean:.3f}",
            ),
            "mean maximum under the right sound: {mean:.3f}",
        ),
        (
            "localization runs/avol boxes=demo-world/world/labels.jsonl",
            "localization runs/avol boxes=vggss.json --split test",
        ),
    ),
    "sound": Measure(
        "avc.evaluation.probes:sound",
        options.Sound,
        (
            _RECORDINGS,
            Table("recordings", "recording={name} | what it hears={likely}"),
        ),
        (
            "sound runs/l3 runs/ave dataset=esc10 root=ESC-10",
            "sound configs/l3.yaml dataset=folder root=recordings",
            "sound soundnet8.safetensors dataset=esc50 root=ESC-50",
            "sound soundnet8.safetensors recordings=rooster.ogg names=objects=imagenet.txt names=scenes=places.txt",
        ),
        takes=("device",),
        several=True,
    ),
    "image": Measure(
        "avc.evaluation.probes:image",
        options.Image,
        (_IMAGES,),
        ("image runs/ave root=caltech",),
        takes=("device",),
        several=True,
    ),
    "kinds": Measure(
        "avc.evaluation.kinds:kinds",
        options.Kinds,
        (
            _CLIPS,
            Table(
                "structure",
                "features={name} | NMI of k-means={nmi:.3f} | ± over starts={nmi_std:.3f}"
                " | labels by lot={nmi_by_lot:.3f} | kinds with a unit={classes_detected} of {classes}"
                " | by lot={classes_by_lot:.1f} | such units={detectors} of {units}",
            ),
        ),
        (
            "kinds demo-world/runs/l3 labels=demo-world/world/labels.jsonl layer=embedding few=2 tsne=l3.png",
            "kinds runs/l3 soundnet8.safetensors labels=labels.csv",
        ),
        several=True,
        evaluator="probe",
    ),
    "agreement": Measure(
        "avc.evaluation.soundnet:agreement",
        options.Agreement,
        (
            "{steps:,} output steps of the {split} split",
            Table(
                "teachers",
                "teacher={teacher} ({classes:,}) | top-1 agreement={top1:.1%} (" + _INTERVAL + ") | by lot={chance:.1%}"
                " | most frequent={constant:.1%} | other clips' answers={unpaired:.1%} | KL={kl:.3f}"
                " | KL of the mean={kl_constant:.3f}",
            ),
        ),
        ("agreement runs/soundnet8 --split test",),
        takes=("shards", "split"),
    ),
    "units": Measure(
        "avc.evaluation.activations:units",
        options.Units,
        (Table("units", "unit={key} | strongest={top[0][name]} at {top[0][seconds]:.2f} s"),),
        ("units runs/l3 out=units", "units soundnet8.safetensors layer=conv5 units=3,17 --shards ~/shards"),
    ),
}

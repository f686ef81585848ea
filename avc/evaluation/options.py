"""What each measure takes as name=value; the docstring is its `--help`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from avc.config import no_such_setting, parse_yaml, refusal
from avc.settings import FilePath, Section

Options = TypeVar("Options", bound=Section)


def fields_of(options: type[Section]) -> dict[str, FieldInfo]:
    """The options of a measure by the names that people give, its own before those that it has in common."""
    fields = sorted(options.model_fields.items(), key=lambda item: item[0] not in options.__annotations__)
    return {field.alias or name: field for name, field in fields}


def parsed(options: type[Options], words: Iterable[str], *, origin: str) -> Options:
    """The options of name=value words; a name whose value is a list comes once for each of it.

    Raises ValueError, which begins with `origin`, for a name that there is not, one that comes twice, one that is
    needed and missing, and a value that does not fit.
    """
    fields, values = fields_of(options), dict[str, Any]()
    for word in words:
        name, _, text = word.partition("=")
        if name not in fields:  # said before what is missing: it may be that, misspelt
            takes = f"; it takes {', '.join(fields)}"
            raise ValueError(f"{origin}: {no_such_setting(name, [*fields], otherwise=takes)}")
        kind = fields[name].annotation
        if get_origin(kind) is list:
            values.setdefault(name, []).append(text)
        elif name in values:
            raise ValueError(f"{origin}: {name} is given twice")
        else:
            number = {bool, int, float} & {kind, *get_args(kind)}
            values[name] = parse_yaml(text, origin=name) if number else text
    for name, field in fields.items():
        if field.is_required() and name not in values:
            raise ValueError(f"{origin} needs {name}=VALUE: {' '.join((field.description or '').split())}")
    try:
        return options.model_validate(values)
    except ValidationError as error:
        raise refusal(error, origin=origin, unknown=str) from None


class Correspondence(Section):
    """How often does the network tell a frame and a second of sound that belong together from a pair that does not?

    Half of the pairs are positives: a frame and the second of sound around it. Half are negatives: the sound is another
    video's. Chance is 50 %. The 95 % interval takes the clips as a sample: pairs with a clip in common vary together.
    """

    passes: int = Field(default=10, ge=1)
    """How often each clip is judged in each role."""


class Pairs(Section):
    """Is a clip's own sound nearer to its frames than another clip's sound is? Chance is 50 %.

    Each clip is judged as a whole, by the means of the embeddings of several views, against every other clip, sounds
    for its frames and frames for its sound. Clips of one source are often alike, so they are compared apart too, where
    `sources` says which those are; a second interval takes the sources, not the clips, as the sample. Beside it single
    views, and a control in which each clip has another's sound. Recall@10: is the own one among the ten nearest?
    """

    sources: FilePath | None = None
    """Where videos come from, in the form of labels: rows of file name and source."""
    passes: int = Field(default=10, ge=1)
    """Views of each clip."""


class Retrieval(Section):
    """What is nearest to a frame, or to a second of sound, among all frames and all sounds: is it of the same kind?

    nDCG@30 with one random frame and its second of sound for each clip: im-aud finds sounds for a frame, and so on. Two
    clips are relevant to each other if they share a label, or more finely by the AudioSet ontology. L3-Net has a second
    row with CCA, fitted on the training clips, each direction weighted by its correlation squared. The random row is
    measured in the same way and is the floor. Recall@k between modalities: is the other modality of the query's own
    clip among the k nearest?

    Another network's images stand beside them by `features`, of the very frames that are drawn, and through CCA with
    the first network's sounds.
    """

    labels: FilePath
    """Labels of videos, in a form of docs/evaluation.md."""
    ontology: FilePath | None = None
    """The AudioSet ontology; relevance is then 20 − tree distance."""
    instruments: bool = False
    """Only labels of AudioSet-Instruments; needs `ontology`."""
    gain: Literal["exponential", "linear"] = "exponential"
    """exponential (2^relevance − 1) or linear."""
    features: str | None = None
    """The other network: a run, a name or FILE.py:NAME."""


class Localization(Section):
    """Does AVOL-Net's map find the object that sounds, and does it follow the sound?

    Hits: the map's highest place lies in a box, beside the image's center and a random point. Displacement: pixels from
    the nearest box's center to that place, mean ± standard deviation; a mean far from 0 is a map that is displaced as a
    whole. Consensus IoU from 0.5 on and its area under the curve, for three ways to cut a
    region out of the map. Frames with two objects: are both found, each under its own sound (arXiv 2407.13676)? Then
    the same frames under the sound of another kind, silence and white noise at -20 dBFS: how much of the picture is
    marked at one threshold for all frames (arXiv 2410.01020), and whether maxima fall, which tells pairs apart and no
    places.
    """

    boxes: FilePath
    """VGG-SS's .json, a folder of Flickr-SoundNet's XML files, or a world's labels.jsonl."""
    passes: int = Field(default=1, ge=1)
    """Frames of each clip, where every tick has its box."""


class Probe(Section):
    """Of linear classifiers on features."""

    strength: float | None = Field(default=None, gt=0)
    """A C for every fold, instead of one chosen on training folds."""
    seed: int = Field(default=0, ge=0)
    """Of the untrained network's weights."""
    cache: FilePath | None = None
    """Where features are kept, without it below XDG_CACHE_HOME or ~/.cache; the same ones are never computed twice."""


class Sound(Probe):
    """How well does a linear classifier tell kinds of sound apart by the network's audio features?

    Features by the protocol of the network's own paper, from windows that overlap by half; one-vs-all linear SVMs; a
    recording's score is the mean of its windows'. A SoundNet hears a recording whole, repeated to 10 s (DCASE 30 s),
    and windows slide over its layer's steps; released weights are probed as they were in its released code, features
    unscaled and C = 0.01. Otherwise C is chosen on training folds only. The folds are the data set's own. Beside each
    network stands the same one untrained, and at the end hand-made features (MFCC). A recording that cannot be read is
    named and takes no part.

    With `recordings` in place of a data set a SoundNet says itself which objects and scenes it hears in them: the
    classes of its teachers that its own outputs find most likely, the mean of the output steps' posteriors. A recording
    goes through whole, one of less than 10 s repeated as in the released code.
    """

    root: FilePath | None = None
    """The data set's folder."""
    dataset: Literal["esc10", "esc50", "dcase2013", "urbansound8k", "folder"] | None = None
    """folder: a folder for each class."""
    layer: str | None = None
    """trunk (the default) or embedding; of SoundNet any layer, pool5 where there is one."""
    window: float | None = None
    """Seconds of windows of SoundNet, autoencoder and MFCC; 1 where it is not given, for dcase2013 5."""
    recordings: list[FilePath] = Field(default=[])
    """An audio file to name the classes of; once for each file."""
    names: list[str] = Field(default=[])
    """TEACHER=FILE, names of a teacher's classes, one a line, in the order of its outputs; else they have numbers."""
    top: int = Field(default=3, ge=1)
    """Classes of each teacher that are named."""


class Image(Probe):
    """How well does one linear layer tell kinds of image apart by the network's features?

    The map that the vision trunk ends in, max-pooled to 4×4; a softmax layer on top, all else frozen. With train/ and
    val/ (ImageNet's layout) it is tested on val/; otherwise on each of 5 folds. The layer's strength C is chosen on
    training folds only. Beside it stands the same network untrained. An image that cannot be read is named and takes no
    part.
    """

    root: FilePath
    """A folder for each class; or train/ and val/ that hold such folders."""


class Kinds(Probe):
    """How well are kinds of video told apart by their sound, by their frames, and by both together?

    One-vs-all linear SVMs on the maps that the two trunks end in, second by second, trained on the train split; a
    clip's score is the mean of its seconds'. C is chosen on folds of the training clips. Beside each network stands the
    same one untrained. Clips without a label, or with several, are counted and left out.

    Of a network that only hears, SoundNet or the autoencoder, it is a layer's steps around the second; the frames that
    stand beside its audio are those of the first SOURCE that sees (SoundNet's multi-modal recognition).

    A second table does without a classifier, as Look, Listen and Learn does: NMI of k-means clusters with the labels,
    and for how many kinds there is a unit, a channel of the trunk, whose five strongest clips are all of that kind.

    Where labels abound, untrained features may do. With `few` the classifiers are trained on a few labeled clips of
    each kind, as one has who labels by hand; C is then 0.01, or `strength`.
    """

    labels: FilePath
    """Labels: .csv or .tsv rows of file name and label, or .jsonl."""
    ontology: FilePath | None = None
    """The AudioSet ontology, for the names of its labels."""
    layer: str | None = None
    """trunk (its last convolution, the default) or embedding (what each tower ends in); of SoundNet any layer."""
    few: int | None = Field(default=None, ge=1)
    """Train on so many clips of each kind, drawn ten times."""
    tsne: FilePath | None = None
    """Draw a t-SNE of the first network's features as .png."""


class Agreement(Section):
    """Does a SoundNet tell from audio what its teachers saw, in clips that it has not learnt from?

    For each teacher: the share of output steps at which both name the same class, and the KL divergence of the student
    from the teacher. Beside them what needs no audio: a class by lot, always the most frequent class, and the same
    answers dealt to other clips; for KL the teacher's mean posterior.
    """

    teachers: FilePath | None = None
    """What `avc teach` wrote; the run's own, or SHARDS/teachers, where it is not given."""
    passes: int = Field(default=1, ge=1)
    """Segments of each clip, where clips are longer."""


class Units(Section):
    """What excites single units of a network? The frames and sounds that do most, and where in them.

    A unit is one channel of the map that a trunk ends in, by its maximum: the page shows the frames and the seconds of
    audio that excite it most, with the channel as heat over the frame and over the spectrogram (as in Look, Listen and
    Learn, figures 3 to 6). SoundNet and the autoencoder have units of a hidden layer, with heat over time. The filters
    of the first layers stand at the top. Everything is inside the page: images, and sounds with players.
    """

    out: FilePath = Path("units")
    """Folder for index.html."""
    units: str = ""
    """Units to show, as 3,17,200, in place of those that stand out most."""
    count: int = Field(default=8, ge=1)
    """How many units, where none are named."""
    top: int = Field(default=5, ge=1)
    """Activations of each unit."""
    layer: str | None = None
    """Of networks that only hear: the last one where it is not given."""
    clips: int = Field(default=1000, ge=2)
    """At most so many clips of the split, evenly spread."""

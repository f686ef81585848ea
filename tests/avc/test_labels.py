"""Labels: published tables and ontologies are read as they are, what cannot be read is counted or refused."""

import pytest

from avc.data.labels import Labels, labeled, read_labels
from avc.data.ontology import INSTRUMENTS, Ontology
from shards.read import Shards


@pytest.fixture(scope="module")
def shards(small_world) -> Shards:
    return Shards(small_world)


def test_ontology_distances_are_the_published_ones(shared_data) -> None:
    ontology = Ontology(shared_data / "annotations" / "ontology.json")
    names = ["Acoustic guitar", "Electric guitar", "Drum"]
    assert ontology.distances(names)[0].tolist() == [0, 2, 5]
    assert ontology.relevance(["/m/042v_gx", "Electric guitar", "Drum"])[0].tolist() == [20, 18, 15]
    with pytest.raises(ValueError, match="did you mean 'Electric guitar'"):
        ontology.distances(["Electrik guitar"])


def test_audioset_instruments_are_110_classes_and_other_labels_are_dropped(shared_data) -> None:
    ontology = Ontology(shared_data / "annotations" / "ontology.json")
    assert len(ontology.below(INSTRUMENTS)) == 110
    assert {"/m/042v_gx", "/m/015lz1"} <= ontology.below(INSTRUMENTS), "acoustic guitar, and singing itself"
    labels = Labels({"a": ("/m/042v_gx", "Speech"), "b": ("Speech",), "c": ("Singing",)})
    labels.unread = 2
    restricted = ontology.restrict(labels, INSTRUMENTS)
    assert restricted == {"a": ("/m/042v_gx",), "b": (), "c": ("Singing",)} and restricted.unread == 2
    named = ontology.named(labels)
    assert named["a"] == ("Acoustic guitar", "Speech") and named["c"] == ("Singing",) and named.unread == 2
    with pytest.raises(ValueError, match="did you mean 'Speech'"):
        ontology.restrict(Labels({"a": ("Speach",)}), INSTRUMENTS)


def test_labels_match_by_name_or_stem_and_what_has_none_is_counted(shards, tmp_path) -> None:
    clips = shards.clips("validation")
    names = [shards.info(clip)["name"] for clip in clips]
    table = tmp_path / "labels.csv"
    table.write_text(f'{names[0]},"speech, loud"\n{names[1].partition(".")[0]},dog\n{names[0]},dog\nother.mp4,cat\n')
    known = labeled(shards, clips, read_labels(table))
    assert known.classes == ("dog", "speech, loud")
    assert known.clips.tolist() == clips[:2].tolist()
    assert [set(row) for row in known.sets.tolist()] == [{0, 1}, {0}]
    assert known.unlabeled == len(clips) - 2
    table.write_text("nothing,here\n")
    with pytest.raises(ValueError, match="0 of the 16 clips have a label"):
        labeled(shards, clips, read_labels(table))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "index,mid,display_name\n0,/m/09x0r,Speech\n", "line 1 has 3 columns"),
        ("a.csv", "a.mp4,dog,cat,bird\n", "line 1 has 4 columns"),
        ("a.jsonl", '{"file": "a.mp4", "labels": "dog"}', "'dog' is no list of labels"),
        ("a.csv", "dog/001.mp4,dog\ncat/001.mp4,cat\n", "dog/001.mp4 and cat/001.mp4 share one"),
        ("a.jsonl", '{"name": "a.mp4"}', "KeyError"),
    ],
)
def test_labels_of_another_form_are_refused_and_not_misread(tmp_path, name, text, words) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match="rows of file name and label are wanted") as refusal:
        read_labels(tmp_path / name)
    assert words in str(refusal.value)
    assert all(form in str(refusal.value) for form in ("VGGSound", "AudioSet", "Kinetics"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.mp4,dog\na.mp4,loud\nb.mp4,cat\nc.mp4,\n", {"a.mp4", "b.mp4"}),
        ("twice,1,cat,train\ntwice,9,dog,test\nonce,3,dog,test\n", {"twice_000001", "twice_000009", "once_000003"}),
        ("label,youtube_id,time_start,time_end\nflute,0wR5,417,427\n", {"0wR5_000417"}),
        ("videos\\a.MP4,dog\nvideos/a.mp4,loud\n", {"a.mp4"}),
    ],
    ids=["rows", "VGGSound", "Kinetics", "Windows"],
)
def test_each_video_or_segment_of_a_table_is_counted_once(tmp_path, text, names) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert read_labels(tmp_path / "a.csv").own_names == names


@pytest.mark.parametrize(
    ("text", "expected", "unread"),
    [
        (
            '-JB_abc,300,"dog, barking",test\nonce,x,cat,test\ntwice,1,cat,train\ntwice,9,dog,test\n',
            {"-JB_abc": ("dog, barking",), "twice_000001": ("cat",), "twice_000009": ("dog",), "twice": None},
            1,
        ),
        (
            "# Segments csv created Sun Mar  5\n# YTID, start_seconds, end_seconds, positive_labels\n"
            '--PJH, 30.000, 40.000, "/m/09x0r,/t/dd00088"\nlost, 30.000\n',
            {"--PJH": ("/m/09x0r", "/t/dd00088"), "--PJH_000030": ("/m/09x0r", "/t/dd00088"), "lost": None},
            1,
        ),
        (
            "label,youtube_id,time_start,time_end,split,is_cc\n"
            "playing flute,0wR5,417,427,train,0\nclapping,,1,2,train,0\n",
            {"0wR5_000417_000427": ("playing flute",), "0wR5": ("playing flute",), "youtube_id": None},
            1,
        ),
    ],
    ids=["VGGSound", "AudioSet", "Kinetics"],
)
def test_tables_are_read_as_published_and_rows_that_cannot_be_are_counted(tmp_path, text, expected, unread) -> None:
    (tmp_path / "a.csv").write_text(text)
    found = read_labels(tmp_path / "a.csv")
    assert {name: found.get(name) for name in expected} == expected
    assert found.unread == unread


def test_clips_match_a_published_table_by_identifier_and_its_unread_rows_are_said(shards, tmp_path) -> None:
    clips = shards.clips("validation")
    stems = [str(shards.info(clip)["name"]).partition(".")[0] for clip in clips]
    (tmp_path / "a.csv").write_text(
        "".join(f"{stem},{n},{'ab'[n % 2]},test\n" for n, stem in enumerate(stems)) + "x,y,z,test\n"
    )
    known = labeled(shards, clips, read_labels(tmp_path / "a.csv"))
    assert len(known.clips) == len(clips) and known.classes == ("a", "b") and known.unread == 1


def test_vggsounds_own_test_labels_are_read(shared_data) -> None:
    found = read_labels(shared_data / "annotations" / "vggsound_test.csv")
    assert len(found) == 15_446 and found["glLQrEijrKg_000300.mp4"] == ("playing hammond organ",) and not found.unread
    with pytest.raises(ValueError, match="line 1 has 3 columns"):
        read_labels(shared_data / "annotations" / "class_labels_indices.csv")


def test_the_order_of_a_clips_labels_does_not_matter(shards, tmp_path) -> None:
    clips = shards.clips("validation")[:3]
    names = [shards.info(clip)["name"] for clip in clips]
    given = [("a", "b"), ("b", "a"), ("a", "b", "c")]
    sets = labeled(shards, clips, dict(zip(names, given, strict=True))).sets
    assert sets[0].tolist() == sets[1].tolist()

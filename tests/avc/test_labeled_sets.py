"""Labeled data sets: classes, folds, and layouts that are not what was said."""

from collections import Counter

import pytest

from avc.data.labeled_sets import PICTURES, SOUNDS, dcase2013, esc10, esc50, labeled_folder, urbansound8k


def touch(root, *names: str):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_esc10_has_5_folds_of_8_recordings_of_each_class(shared_data) -> None:
    found = esc10(shared_data / "esc10")
    assert len(found.files) == 400 and len(found.classes) == 10 and found.tested_folds == (1, 2, 3, 4, 5)
    assert set(Counter((file.label, file.fold) for file in found.files).values()) == {8}
    assert all(file.path.name.startswith(f"{file.fold}-") for file in found.files)
    assert all(file.path.parent.name == found.classes[file.label] for file in found.files)


def test_the_table_of_esc50_decides_classes_and_folds(tmp_path) -> None:
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for target in range(50):
        lines += [f"{fold}-{target}-A-{target}.wav,{fold},{target},c{target},{target < 10},x,A" for fold in range(1, 6)]
    touch(tmp_path, "meta/esc50.csv")
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(lines))
    assert len(esc50(tmp_path).files) == 250 and len(esc50(tmp_path).classes) == 50
    assert len(esc10(tmp_path).files) == 50 and len(esc10(tmp_path).classes) == 10
    assert all(file.path.parent == tmp_path / "audio" for file in esc10(tmp_path).files)


def test_dcase_is_trained_on_one_part_and_tested_on_the_other(tmp_path) -> None:
    names = [f"{kind}{number:02}.wav" for kind in ("bus", "park") for number in range(1, 11)]
    touch(tmp_path, *(f"{part}/{name}" for part in ("scenes_stereo", "scenes_stereo_testset") for name in names))
    found = dcase2013(tmp_path)
    assert found.classes == ("bus", "park") and found.tested_folds == (0,)
    assert {file.path.parent.name for file in found.files if file.fold == 0} == {"scenes_stereo_testset"}
    assert Counter(file.fold for file in found.files) == {0: 20, 1: 4, 2: 4, 3: 4, 4: 4, 5: 4}


def test_urbansound8k_has_the_folds_of_its_table(tmp_path) -> None:
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    lines += [
        f"{fold}-{kind}.wav,1,0.0,4.0,1,{fold},0,{kind}" for fold in range(1, 11) for kind in ("siren", "drilling")
    ]
    table = touch(tmp_path, "metadata/UrbanSound8K.csv") / "metadata" / "UrbanSound8K.csv"
    table.write_text("\n".join(lines))
    found = urbansound8k(tmp_path)
    assert found.classes == ("drilling", "siren") and found.tested_folds == tuple(range(1, 11))
    assert all(file.path.parent == tmp_path / "audio" / f"fold{file.fold}" for file in found.files)
    table.write_text("file,fold\nx.wav,1\n")
    with pytest.raises(ValueError, match=r"is not UrbanSound8K's table .* columns slice_file_name, fold, class are"):
        urbansound8k(tmp_path)


def test_a_folder_of_classes_is_dealt_evenly_and_always_alike(tmp_path) -> None:
    touch(
        tmp_path, *(f"{kind}/{number}.wav" for kind in ("a", "b") for number in range(10)), "a/notes.txt", "a/._1.wav"
    )
    (tmp_path / "empty").mkdir()
    found = labeled_folder(tmp_path, SOUNDS)
    assert found.other == 1
    assert found.classes == ("a", "b") and len(found.files) == 20
    assert set(Counter((file.label, file.fold) for file in found.files).values()) == {2}
    assert found == labeled_folder(tmp_path, SOUNDS)


def test_pictures_in_train_and_val_are_tested_on_val_alone(tmp_path) -> None:
    touch(tmp_path, *(f"train/{kind}/{number}.JPEG" for kind in ("n01", "n02") for number in range(5)))
    touch(tmp_path, "val/n01/a.JPEG", "val/n02/b.JPEG")
    found = labeled_folder(tmp_path, PICTURES)
    assert found.tested_folds == (0,)
    assert sorted(file.path.name for file in found.files if file.fold == 0) == ["a.JPEG", "b.JPEG"]
    touch(tmp_path, "val/n03/c.JPEG")
    with pytest.raises(ValueError, match=r"differ in the classes .*n03"):
        labeled_folder(tmp_path, PICTURES)


def test_other_layouts_are_refused_in_words(tmp_path) -> None:
    touch(tmp_path, *(f"{kind}/{fold}-1-A.wav" for kind in ("a", "b") for fold in range(1, 6)))
    with pytest.raises(ValueError, match="is not esc10: it has 2 classes and not 10"):
        esc10(tmp_path)
    with pytest.raises(ValueError, match="has no recordings in scenes_stereo/"):
        dcase2013(tmp_path)
    with pytest.raises(ValueError, match="there is no folder"):
        labeled_folder(tmp_path / "absent", SOUNDS)
    with pytest.raises(ValueError, match=r"has 0 folders with files that end in \.jpg"):
        labeled_folder(tmp_path, PICTURES)
    touch(tmp_path, "c/1.mid")
    with pytest.raises(ValueError, match=r"the files of .*c end in none of \.wav.*, such as 1\.mid"):
        labeled_folder(tmp_path, SOUNDS)
    (tmp_path / "c" / "1.mid").unlink()
    touch(tmp_path, "meta/esc50.csv").joinpath("meta", "esc50.csv").write_text("file,fold\nx.wav,1\n")
    with pytest.raises(ValueError, match=r"esc50\.csv is not ESC-50's table"):
        esc50(tmp_path)
    (tmp_path / "meta" / "esc50.csv").unlink()
    (tmp_path / "a" / "1-1-A.wav").rename(tmp_path / "a" / "dog.wav")
    with pytest.raises(ValueError, match="does not begin with its fold"):
        esc10(tmp_path)
    (tmp_path / "b" / "1-1-A.wav").unlink()
    with pytest.raises(ValueError, match=r"class b in .* has 4 files; it needs 5"):
        labeled_folder(tmp_path, SOUNDS)

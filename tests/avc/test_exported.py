"""An exported teacher computes what it computed before, and nothing else in its file is ever run."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from avc.teachers.exported import open_program
from tests.teaching import TinyTeacher, export_teacher

CPU = torch.device("cpu")


class Bomb:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TinyTeacher]:
    model = TinyTeacher(5, seed=1)
    return export_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pt2", model), model


def rewritten(source: Path, to: Path, change: Callable[[str, bytes], bytes], **more: bytes) -> Path:
    """A copy of the archive with members changed, and more of them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(to, "w") as new:
        top = old.namelist()[0].partition("/")[0]
        for info in old.infolist():
            name = info.filename.partition("/")[2]
            new.writestr(info.filename, change(name, old.read(info)))
        for name, data in more.items():
            new.writestr(f"{top}/{name.replace('__', '/')}", data)
    return to


def in_program(old: str, new: str) -> Callable[[str, bytes], bytes]:
    """A change of the program's text, which must be there."""

    def change(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        assert old.encode() in data, old
        return data.replace(old.encode(), new.encode())

    return change


def test_an_exported_program_gives_what_the_network_gave(teacher) -> None:
    path, model = teacher
    program = open_program(path, CPU)
    assert (program.size, program.classes, program.batch) == (32, 5, None)
    pictures = torch.randn(7, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(pictures), model(pictures))


def test_a_program_for_one_batch_size_is_fed_that_size(tmp_path) -> None:
    model = TinyTeacher(5, seed=2)
    program = open_program(export_teacher(tmp_path / "fixed.pt2", model, batch=4), CPU)
    assert program.batch == 4
    pictures = torch.randn(7, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(program(pictures), model(pictures))


def test_a_pickle_in_place_of_the_sample_inputs_runs_nothing(teacher, tmp_path) -> None:
    stream = io.BytesIO()
    torch.save((Bomb(tmp_path / "ran"),), stream)
    bomb = stream.getvalue()
    path = rewritten(teacher[0], tmp_path / "bomb.pt2", lambda name, data: bomb if "sample_inputs" in name else data)
    with pytest.raises(ValueError, match=r"is refused: its sample inputs are not tensors .* nothing of it was run"):
        open_program(path, CPU)
    assert not (tmp_path / "ran").exists()
    with suppress(Exception):
        torch.export.load(path)
    assert (tmp_path / "ran").exists(), "torch's own loader would have run it: the test is of something"


def test_a_pickled_weight_runs_nothing(teacher, tmp_path) -> None:
    def change(name: str, data: bytes) -> bytes:
        if name == "data/weights/model_weights_config.json":
            config = json.loads(data)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return pickle.dumps(Bomb(tmp_path / "ran")) if name == "data/weights/weight_0" else data

    with pytest.raises(ValueError, match="points to a pickle"):
        open_program(rewritten(teacher[0], tmp_path / "bomb.pt2", change), CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "member", ["data__constants__custom_obj_0", "data__constants__opaque_0", "data__aotinductor__model__x.so"]
)
def test_what_no_network_of_tensors_needs_is_refused(teacher, tmp_path, member) -> None:
    data = pickle.dumps(Bomb(tmp_path / "ran"))
    path = rewritten(teacher[0], tmp_path / "more.pt2", lambda _, data: data, **{member: data})
    with pytest.raises(ValueError, match="which no network of plain tensors needs"):
        open_program(path, CPU)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("torch.ops.aten.conv2d.default", "torch.hub.load", "none of the operators that networks of images"),
        ("torch.ops.aten.conv2d.default", "torch.ops.aten.from_file.default", "none of the operators that networks"),
        ('"name": "x"', "\"name\": \"x=__import__('os').system('true')\"", "is not what a network of tensor operators"),
    ],
)
def test_functions_and_names_that_are_more_than_that_are_refused(teacher, tmp_path, old, new, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        open_program(rewritten(teacher[0], tmp_path / "changed.pt2", in_program(old, new)), CPU)


def test_a_size_that_is_an_expression_is_refused_before_it_is_evaluated(teacher, tmp_path) -> None:
    with zipfile.ZipFile(teacher[0]) as archive:
        top = archive.namelist()[0].partition("/")[0]
        text = archive.read(f"{top}/models/model.json").decode()
    start = text.index('"expr_str": "') + len('"expr_str": "')
    symbol = text[start : text.index('"', start)]
    ran = tmp_path / "ran"
    attack = f"__import__('pathlib').Path('{ran}').touch()"
    path = rewritten(
        teacher[0],
        tmp_path / "changed.pt2",
        in_program(f'"expr_str": "{symbol}"', f'"expr_str": "{attack}"'),
    )
    with pytest.raises(ValueError, match="its expr_str "):
        open_program(path, CPU)
    assert not ran.exists()


def test_other_files_are_refused_in_words(teacher, tmp_path) -> None:
    (tmp_path / "text.pt2").write_text("no zip")
    with pytest.raises(ValueError, match=r"text\.pt2 is no exported torch program"):
        open_program(tmp_path / "text.pt2", CPU)
    with pytest.raises(ValueError, match="there is no file"):
        open_program(tmp_path / "absent.pt2", CPU)
    other = torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),))
    torch.export.save(other, tmp_path / "linear.pt2")
    with pytest.raises(ValueError, match="is a program of another kind"):
        open_program(tmp_path / "linear.pt2", CPU)

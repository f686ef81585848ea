"""Settings that were made to do harm: one paragraph, whatever a file holds."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from avc.config import load_config, parse_config
from avc.settings import Config
from launch.slurm.cluster_file import load_cluster

pytestmark = pytest.mark.usefixtures("bounded")


DEEP = {
    "a nested list": "[" * 100_000,
    "nested sections": "{a: " * 100_000,
    "a setting nested deep": "training: {steps: " + "[" * 50_000 + "]" * 50_000 + "}",
    "names that repeat": "a: &a [x,x]\n"
    + "".join(f"{c}: &{c} [*{b},*{b}]\n" for b, c in pairwise("abcdefghijklmnopqrstuvw")),
    "a value that repeats": "run: &a {x: 1}\ntraining: {steps: &b [1], device: [*b, *b]}",
    "a list within itself": "training: {steps: &a [*a]}",
    "a number of 5,000 digits": "training: {steps: " + "9" * 5000 + "}",
    "a hexadecimal number of 20,000 bits": "training: {steps: 0x" + "f" * 5000 + "}",
    "a date that is none": "training: {steps: 2001-99-99}",
    "many unknown names": "".join(f"x{number}: 1\n" for number in range(5000)),
    "a long unknown name": "x" * 100_000 + ": 1",
    "a key that is a list": "? [a]\n: 1",
    "a program": "training: {steps: !!python/object/apply:os.system [touch harm]}",
    "two megabytes": "# " + "x" * 2_000_000,
    "not UTF-8": b"\xff\xfe",
    "a folder of nobody": "run: {dir: ~nobody-at-all/run}",
    "a path with a NUL": 'data: {shards: "a\\0b"}',
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("read", [load_config, load_cluster])
def test_a_file_of_settings_is_refused_in_one_paragraph_whatever_it_holds(tmp_path, kind, read) -> None:
    path, text = tmp_path / "settings.yaml", DEEP[kind]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(str(path))) as refusal:
        read(path)
    assert len(str(refusal.value)) < 3000
    assert not Path("harm").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "0x" + "f" * 5000, "1e30", "1" + "0" * 30, "0", "-1"])
def test_a_setting_that_is_given_on_the_command_line_is_refused_by_its_name(text) -> None:
    with pytest.raises(ValueError, match=r"`training\.steps` is ") as refusal:
        parse_config({}, [f"training.steps={text}"])
    assert len(str(refusal.value)) < 1000


def test_every_number_among_the_settings_has_an_upper_bound() -> None:
    for section, field in Config.model_fields.items():
        for name, setting in field.annotation.model_fields.items():
            for value in (10**30, 2**63, float("inf")):
                if setting.annotation in (int, float):
                    number = value if setting.annotation is float or isinstance(value, float) else int(value)
                    with pytest.raises(ValueError, match=f"`{section}.{name}`"):
                        parse_config({section: {name: number}})

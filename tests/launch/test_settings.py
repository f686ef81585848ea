"""`avc settings` teaches every setting, and a configuration is found by its name."""

import re

import pytest
from typer.testing import CliRunner

from avc.config import settings_of
from avc.networks import NETWORKS
from launch.cli import app
from launch.commands.settings import SET_FIRST
from launch.train import CONFIGS, find_config


def test_it_lists_the_networks_and_the_settings_of_one() -> None:
    listed = CliRunner().invoke(app, ["settings"], catch_exceptions=False).stdout
    assert all(name in listed for name in NETWORKS)
    shown = CliRunner().invoke(app, ["settings", "soundnet8"], catch_exceptions=False).stdout
    assert "model.name=soundnet8" in shown and "optim.lr=0.0001  (> 0" in shown
    assert "model.objects=1000" in shown and "negatives" not in shown


def test_a_configuration_is_found_by_its_name_and_by_its_path(tmp_path, monkeypatch) -> None:
    assert find_config("ave") == CONFIGS / "ave.yaml"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ave").write_text("{}")
    (tmp_path / "l3").mkdir()
    assert find_config("l3") == CONFIGS / "l3.yaml"  # a run's folder of that name is no file of settings
    assert find_config("ave").name == "ave" and find_config("own/ave.yaml").name == "ave.yaml"
    with pytest.raises(ValueError, match=r"no configuration nothing: give the path of a YAML file, or one of .*ave,"):
        find_config("nothing")


def test_what_people_set_first_stands_first_and_each_setting_once() -> None:
    shown = CliRunner().invoke(app, ["settings", "ave"], catch_exceptions=False).stdout
    names = re.findall(r"^([a-z_]+\.[a-z_]+)=", shown, re.MULTILINE)
    assert tuple(names[: len(SET_FIRST)]) == SET_FIRST
    assert sorted(names) == sorted(settings_of("ave"))

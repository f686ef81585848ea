"""`avc settings` teaches every setting, and a configuration is found by its name."""

import pytest
from typer.testing import CliRunner

from avc.networks import NETWORKS
from launch.cli import app
from launch.config_file import CONFIGS, find_config


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
    assert find_config("ave").name == "ave" and find_config("own/ave.yaml").name == "ave.yaml"
    with pytest.raises(ValueError, match=r"no configuration nothing: give the path of a YAML file, or one of .*ave,"):
        find_config("nothing")

"""Settings are typed and strict, and say what is wrong with them."""

from itertools import takewhile
from pathlib import Path

import pytest
from pydantic import ValidationError

from avc.config import dump_config, load_config, parse_config, settings_of
from avc.networks import NETWORKS
from avc.settings import Config, PairConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_an_unknown_name_is_refused_with_the_nearest_right_one() -> None:
    with pytest.raises(ValueError, match=r"there is no setting `optim.learning_rat`"):
        parse_config({"optim": {"learning_rat": 1.0}})
    with pytest.raises(ValueError, match=r"no setting `data.shard`; did you mean `data.shards`\?"):
        parse_config({}, ["data.shard=/x"])
    with pytest.raises(ValueError, match=r"no setting `optin`; did you mean `optim`\?"):
        parse_config({}, ["optin.lr=1"])


def test_a_wrong_type_or_value_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"`run.dir` is empty$"):
        parse_config({}, ["run.dir="])
    with pytest.raises(ValueError, match=r"`optim.lr` is 'fast'"):
        parse_config({"optim": {"lr": "fast"}})
    with pytest.raises(ValueError, match=r"`training.steps` is 1.5"):
        parse_config({"training": {"steps": 1.5}})
    with pytest.raises(ValueError, match=r"there is no network 'vgg' \(`model.name`\)"):
        parse_config({"model": {"name": "vgg"}})
    with pytest.raises(ValueError, match=r"`data.shuffle_sound` is 1"):
        parse_config({"data": {"shuffle_sound": 1}})


@pytest.mark.parametrize(
    ("negatives", "data", "words"),
    [
        ({"grid": "free"}, {}, "grid: free needs negatives.source: independent"),
        ({"min_ticks": 50}, {}, r"min_ticks: 50 must be more than twice data.max_misalignment_ticks \(25\)"),
        ({"max_ticks": 50}, {}, r"no more than negatives.max_ticks \(50\)"),
        ({}, {"shuffle_sound": True}, "shuffle_sound needs negatives.source: independent or shared"),
    ],
)
def test_sync_negatives_that_would_not_be_negatives_are_refused(negatives, data, words) -> None:
    with pytest.raises(ValueError, match=words):
        parse_config({"negatives": {"source": "sync"} | negatives, "data": data})


def test_shared_negatives_off_the_grid_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match=r"free needs negatives\.source: independent"):
        parse_config({"negatives": {"source": "shared", "grid": "free"}})


def test_visits_of_no_window_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.visits needs data\.shuffle_shards"):
        parse_config({"data": {"visits": 14}})
    parse_config({"data": {"visits": 14, "shuffle_shards": 25}})


def test_overrides_are_yaml_and_win_over_the_file(tmp_path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("optim:\n  lr: 1e-3\n  batch_pairs: 64\n")
    config = load_config(path, ["optim.batch_pairs=128", "data.shards=~/shards", "training.compile=true"])
    assert config.optim.lr == 1e-3  # which YAML 1.1 would read as a string
    assert config.optim.batch_pairs == 128
    assert config.data.shards == Path.home() / "shards"
    assert config.training.compile is True


def test_the_dumped_configuration_reads_back_equal(tmp_path) -> None:
    config = parse_config({"model": {"name": "l3", "stride": False}, "optim": {"lr": 3e-5}})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml") == config


def test_settings_cannot_change_after_they_were_read() -> None:
    with pytest.raises(ValidationError):
        Config().optim.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("bad", ["- a list", "optim: [", "optim: 3"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, bad) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(bad)
    with pytest.raises(ValueError, match=r"c\.yaml"):
        load_config(path)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no configuration file"):
        load_config("nowhere.yaml")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_ships_is_valid_and_opens_with_its_command(path) -> None:
    load_config(path)
    head = list(takewhile(lambda line: line.startswith("#"), path.read_text().splitlines()))
    assert len(head) >= 4
    for word in ("command", "hardware", "time", "score"):
        assert any(word in line.lower() for line in head), f"{path.name} does not say its {word}"


@pytest.mark.parametrize("name", ["l3", "l3_one_gpu", "l3_fast_one_gpu", "supervised"])
def test_l3_nets_pairs_overlap_and_its_learning_rate_does_not_decay(name) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert isinstance(config, PairConfig)
    assert config.data.max_misalignment_ticks == 12
    assert (config.optim.lr, config.optim.lr_decay) == (1e-4, 1)


@pytest.mark.parametrize(
    ("network", "override", "words"),
    [
        (
            "soundnet8",
            "data.shuffle_sound=true",
            r"`data.shuffle_sound` means nothing to soundnet8: its settings of `data`",
        ),
        ("soundnet5", "negatives.source=shared", r"means nothing to soundnet5: it has no section `negatives`"),
        ("l3", "data.labels=x.csv", r"means nothing to l3: .*`avc settings l3` lists all"),
        ("ave", "model.pooling=logmeanexp", r"`model.pooling` means nothing to ave: its settings of `model`"),
        ("ave_mf", "model.trunk=resnet18", r"`model.trunk` means nothing to ave_mf"),
        ("autoencoder", "model.objects=7", r"`model.objects` means nothing to autoencoder: .* model.width"),
    ],
)
def test_a_setting_that_the_network_does_not_have_is_refused_by_name(network, override, words) -> None:
    with pytest.raises(ValueError, match=words):
        parse_config({"model": {"name": network}}, [override])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_setting_of_every_network_has_a_sentence(name) -> None:
    settings = settings_of(name)
    assert {"run.dir", "optim.lr", "model.width"} <= settings.keys()
    assert all(field.description for field in settings.values())


def test_sets_are_named_as_they_stand_in_the_file() -> None:
    (first, second) = parse_config({"data": {"shards": ["/a", {"path": "/b", "weight": 2}]}}).data.sets
    assert (str(first.path), first.weight, str(second.path), second.weight) == ("/a", 1, "/b", 2)
    with pytest.raises(ValueError, match=r"no setting `data.shards.1.wieght`"):
        parse_config({"data": {"shards": [{"path": "/a"}, {"path": "/b", "wieght": 1}]}})
    with pytest.raises(ValueError, match=r"`data.shards.0.weight` is 0"):
        parse_config({"data": {"shards": [{"path": "/a", "weight": 0}]}})


def test_what_is_no_more_does_not_matter_to_a_run_that_was_trained_with_it(tmp_path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(Config()) + "negatives: {hard_from_step: 450, block: 8}\n")
    assert load_config(path, of_run=True) == parse_config({"negatives": {"block": 8}})
    with pytest.raises(ValueError, match=r"there is no setting `negatives\.hard_from_step`"):
        load_config(path)

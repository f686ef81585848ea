"""What is watched of embeddings while a network is trained."""

import math

import pytest
import torch

from avc.config import parse_config
from avc.tasks.evaluators import alignment, rank_me, recalls, ridge_accuracy, uniformity
from tests.avc.launching import Training, metrics, train_here, write_config


def test_rankme_is_the_number_of_directions_that_are_used_alike() -> None:
    x = torch.zeros(64, 16)
    x[:, :5] = torch.linalg.qr(torch.randn(64, 5)).Q
    assert rank_me(x) == pytest.approx(5, rel=1e-3)
    assert rank_me(torch.ones(64, 16)) == pytest.approx(1, rel=1e-3)


def test_alignment_and_uniformity_are_the_papers() -> None:
    one, other = torch.eye(4)[:2], torch.eye(4)[[0, 2]]
    assert alignment(one, other) == pytest.approx(1.0)  # 0 and 2, squared distances
    # Four orthogonal directions: every squared distance is 2, t is 2.
    assert uniformity(torch.eye(4)) == pytest.approx(-4.0)
    assert uniformity(torch.eye(4)[[0, 0, 0]]) == pytest.approx(0.0)


def test_recall_counts_the_queries_whose_partner_is_among_the_nearest() -> None:
    queries = torch.eye(4)
    items = torch.eye(4)[[1, 0, 2, 3]]
    assert recalls([1], queries, items).mean() == 0.5
    assert recalls([4], queries, items).mean() == 1.0


def test_recall_of_many_queries_is_that_of_all_at_once() -> None:
    torch.manual_seed(0)
    items = torch.nn.functional.normalize(torch.randn(600, 8), dim=1)
    queries = torch.nn.functional.normalize(items + 0.3 * torch.randn(600, 8), dim=1)
    nearest = (queries @ items.T).topk(5, dim=1).indices
    expected = (nearest == torch.arange(600)[:, None]).any(dim=1)
    assert torch.equal(recalls([5], queries, items)[:, 0], expected.double())
    assert not recalls([1, 5], queries * torch.nan, items).any(), "a diverged network finds nothing"


def test_embeddings_that_are_all_alike_recall_no_more_than_chance() -> None:
    alike = torch.eye(4)[:1].expand(50, 4)
    assert recalls([1], alike, alike).mean() == pytest.approx(1 / 50)
    assert recalls([10], alike, alike).mean() == pytest.approx(0.2)


def test_the_probe_tells_what_is_linearly_separable_and_nothing_else() -> None:
    torch.manual_seed(0)
    label = torch.arange(200) // 4 % 5  # so that every fourth row has all classes
    assert ridge_accuracy(torch.randn(200, 8) * 0.1 + torch.eye(5, 8)[label], label) > 0.95
    assert ridge_accuracy(torch.randn(200, 8), label) < 0.5


def test_the_log_has_what_is_asked_for_alike_on_one_rank_and_on_two(small_world, tmp_path) -> None:
    labels = small_world.parent / "world" / "labels.jsonl"
    validation = {"every_steps": 2, "evaluators": ["pairs", "rankme", "retrieval", "probe"], "labels": str(labels)}
    training = {"steps": 2, "sync_batchnorm": True}  # or the running statistics would be those of half of the pairs
    optim = {"lr": 1e-6, "micro_batch_pairs": 32}
    config = write_config(tmp_path, small_world, training=training, optim=optim, validation=validation)
    train_here(config, tmp_path / "one")
    Training(config, tmp_path / "two", world_size=2).finish()
    one, two = (metrics(tmp_path / name)[-1] for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert 1 < one["rankme_image"] <= 16 and 0 <= one["probe_audio"] <= 1
    assert one["image_to_audio_recall_at_10"] >= one["image_to_audio_recall_at_1"] >= 0
    for name in ("rankme_image", "rankme_audio", "alignment", "uniformity_audio"):
        assert math.isclose(one[name], two[name], rel_tol=1e-2), name


@pytest.mark.parametrize(
    ("validation", "words"),
    [({"evaluators": ["rankme"]}, "must have pairs"), ({"evaluators": ["pairs", "probe"]}, "need each other")],
)
def test_what_cannot_be_watched_is_refused_in_words(validation, words) -> None:
    with pytest.raises(ValueError, match=words):
        parse_config({"validation": validation})

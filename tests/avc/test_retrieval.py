"""nDCG by hand and beside scikit-learn's, CCA, and the four directions on real clips."""

import math
import subprocess
import sys

import numpy as np
import pytest
import sklearn.cross_decomposition
import torch
from sklearn.metrics import ndcg_score

from avc.config import parse_config
from avc.data.labels import labeled, read_labels
from avc.data.ontology import flat_relevance
from avc.encoders.load import load
from avc.encoders.sources import drawn_views, embed_clips
from avc.encoders.trained import Trained, trained
from avc.evaluation.cca import fit_cca
from avc.evaluation.retrieval import Scorer, evaluate_retrieval, recall, summary
from avc.models import build
from shards.read import Shards
from tests.avc.own_encoders import ENCODERS


def network_of(name: str, seed: int = 0) -> Trained:
    torch.manual_seed(0)
    settings = {"model": {"name": name, "width": 0.0625}, "data": {"image_size": 28, "num_workers": 0}}
    config = parse_config(settings | {"run": {"seed": seed}})
    return trained(build(config.model), config)


def ndcg(queries, items, *, query_sets, item_sets, leave_self_out=False, **worth):
    return Scorer(query_sets, item_sets, **worth).ndcg(queries, items, leave_self_out=leave_self_out)


@pytest.fixture(scope="module")
def shards(small_world) -> Shards:
    return Shards(small_world)


@pytest.fixture(scope="module")
def labels(small_world):
    return read_labels(small_world.parent / "world" / "labels.jsonl")


def test_ndcg_is_that_of_an_example_worked_by_hand() -> None:
    # Nearest first, the query finds items 1, 0, 2, of relevance 0, 3 and 2; the best order would be 3, 2, 0.
    query, items = np.float32([[1, 0]]), np.float32([[3, 1], [5, 0], [0, 1]])
    relevance = np.float64([[3, 3, 0, 2], [3, 3, 0, 0], [0, 0, 3, 0], [2, 0, 0, 3]])
    sets = {"query_sets": np.array([[0]]), "item_sets": np.array([[1], [2], [3]])}
    linear = (0 + 3 / math.log2(3) + 2 / 2) / (3 + 2 / math.log2(3))
    exponential = (0 + 7 / math.log2(3) + 3 / 2) / (7 + 3 / math.log2(3))
    assert ndcg(query, items, relevance=relevance, gain="linear", **sets) == pytest.approx([linear])
    assert ndcg(query, items, relevance=relevance, gain="exponential", **sets) == pytest.approx([exponential])
    first_two = (3 / math.log2(3)) / (3 + 2 / math.log2(3))
    assert ndcg(query, items, relevance=relevance, gain="linear", depth=2, **sets) == pytest.approx([first_two])


@pytest.mark.parametrize("gain", ["linear", "exponential"])
@pytest.mark.parametrize("leave_self_out", [False, True])
def test_ndcg_agrees_with_scikit_learns_on_several_labels_each(gain, leave_self_out) -> None:
    rng = np.random.default_rng(0)
    features, others = rng.standard_normal((2, 150, 8), dtype=np.float32)
    items = features if leave_self_out else others
    sets = rng.integers(0, 12, (150, 3))
    distance = rng.integers(1, 20, (12, 12))
    relevance = 20.0 - np.where(np.eye(12), 0, np.minimum(distance, distance.T))
    ours = ndcg(
        features,
        items,
        query_sets=sets,
        item_sets=sets,
        relevance=relevance,
        gain=gain,
        leave_self_out=leave_self_out,
    )
    between = relevance[sets[:, None, :, None], sets[None, :, None, :]].max(axis=(2, 3))
    gains = between if gain == "linear" else 2**between - 1
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, items)]
    similarity = unit[0] @ unit[1].T
    for i in range(150):
        kept = np.arange(150) != i if leave_self_out else np.full(150, True)
        theirs = ndcg_score(gains[i : i + 1, kept], similarity[i : i + 1, kept], k=30)
        assert ours[i] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("leave_self_out", [False, True])
def test_items_equally_near_share_their_places_as_in_scikit_learn(leave_self_out) -> None:
    # Scores .9, .5, .5, .5, .2, .1 of items of relevance 3, 2, 3, 0, 1, 2: three orders of the tied ones, one value.
    score = np.float32([0.9, 0.5, 0.5, 0.5, 0.2, 0.1])
    items = np.stack([score, np.sqrt(1 - score**2)], axis=1)
    classes = np.array([3, 2, 3, 0, 1, 2])
    relevance = np.zeros((5, 5))
    relevance[4] = [0, 1, 2, 3, 4]
    if leave_self_out:
        items, classes = np.vstack([items, [[1, 0]]]), np.append(classes, 4)
    values = set()
    for turn in range(3):
        order = np.array([0, *np.roll([1, 2, 3], turn), *range(4, len(items))])
        queries, query_sets = np.float32([[1, 0]]), np.array([[4]])
        if leave_self_out:
            queries, query_sets = items[order], classes[order][:, None]
        found = ndcg(
            queries,
            items[order],
            query_sets=query_sets,
            item_sets=classes[order][:, None],
            relevance=relevance,
            gain="linear",
            depth=4,
            leave_self_out=leave_self_out,
        )
        values.add(float(found[-1]))
    assert len(values) == 1
    assert values.pop() == pytest.approx(ndcg_score([classes[:6]], [score], k=4)) == pytest.approx(0.8295, abs=5e-5)


def test_a_network_that_embeds_all_alike_scores_the_mean_of_all_orders() -> None:
    alike = np.ones((40, 4), np.float32)
    sets = np.repeat([0, 1], 20)[:, None]  # in order of class: the first 30 of any order that is found are no sample
    scores = ndcg(alike[:1], alike, query_sets=sets[:1], item_sets=sets, relevance=flat_relevance(2), depth=10)
    assert scores == pytest.approx([0.5])


def test_a_query_with_nothing_to_find_is_not_a_score() -> None:
    x = np.eye(3, dtype=np.float32)
    sets = np.array([[0], [0], [1]])
    scores = ndcg(x, x, query_sets=sets, item_sets=sets, relevance=flat_relevance(2), leave_self_out=True)
    assert np.isnan(scores).tolist() == [False, False, True]
    assert summary(scores).queries == 2
    with pytest.raises(ValueError, match="no query has a relevant item"):
        summary(scores[2:])


def test_perfect_features_score_one_in_every_direction_and_random_ones_the_share_of_their_class() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 5, 400)
    perfect = np.eye(5, dtype=np.float32)[kinds]
    judge = Scorer(kinds[:, None], relevance=flat_relevance(5), gain="exponential")
    row = judge.four_directions("perfect", "perfect", perfect, perfect.copy())
    assert [score.mean for score in (row.im_im, row.im_aud, row.aud_im, row.aud_aud)] == pytest.approx([1] * 4)
    noise = rng.standard_normal((2, 400, 64), dtype=np.float32)
    row = judge.four_directions("random", "random", *noise)
    assert row.im_aud.mean == pytest.approx(0.2, abs=0.02)
    assert row.im_im.low < 0.2 < row.im_im.high


def test_cca_finds_the_correlations_that_scikit_learn_finds() -> None:
    rng = np.random.default_rng(2)
    shared = rng.standard_normal((500, 3))
    x = np.float32(np.hstack([shared + rng.normal(0, [0.3, 0.6, 1.2], (500, 3)), rng.standard_normal((500, 4))]))
    y = np.float32(np.hstack([shared, rng.standard_normal((500, 2))]) @ rng.standard_normal((5, 5)))
    ours = fit_cca(x, y, components=3)
    theirs = sklearn.cross_decomposition.CCA(n_components=3, max_iter=5000, tol=1e-10).fit(x, y)
    a, b = theirs.transform(x, y)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    assert ours.correlations == pytest.approx(expected, abs=1e-4)
    u, v = ours.of_x(x), ours.of_y(y)
    assert [np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)] == pytest.approx(expected, abs=1e-4)
    assert np.cov(u.T) == pytest.approx(np.diag(np.square(expected)), abs=1e-3)


def test_directions_of_noise_hide_the_few_that_correlate_unless_each_is_weighted_by_its_correlation() -> None:
    rng = np.random.default_rng(4)
    shared = rng.standard_normal((4300, 8))
    x, y = (
        np.float32(np.hstack([shared + rng.normal(0, 0.2, (4300, 8)), rng.standard_normal((4300, 120))])) for _ in "xy"
    )
    cca = fit_cca(x[:4000], y[:4000])
    u, v = cca.of_x(x[4000:]), cca.of_y(y[4000:])

    def recall(queries: np.ndarray, items: np.ndarray) -> float:
        """Share of queries whose partner is among the ten nearest of 300 by cosine."""
        a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (queries, items))
        better = (a @ b.T > (a * b).sum(axis=1, keepdims=True)).sum(axis=1)
        return float((better < 10).mean())

    assert recall(u, v) > 0.8
    assert recall(u / cca.correlations, v / cca.correlations) < 0.3


def test_cca_survives_features_that_are_always_zero() -> None:
    rng = np.random.default_rng(3)
    x = np.float32(rng.standard_normal((60, 5)))
    x[:, 2] = 0
    cca = fit_cca(x, x.copy())
    assert cca.correlations == pytest.approx(np.ones(4), abs=1e-6)
    assert np.isfinite(cca.of_x(x)).all()


def test_a_view_is_a_frame_of_the_clip_and_the_sound_around_it(shards) -> None:
    network = network_of("ave")
    clips = shards.clips("validation")
    views = embed_clips(network, shards, clips, passes=2)
    assert views.clip.tolist() == np.repeat(clips, 2).tolist()
    clip, tick = int(views.clip[5]), int(views.tick[5])
    sound = torch.from_numpy(shards.sound(clip, tick * 1920 - 24_000))[None]
    torch.testing.assert_close(torch.from_numpy(views.audio[5:6]), network.embed_audio(sound))
    assert views.image.shape == (32, 128)


@pytest.mark.parametrize(("name", "rows"), [("ave", ["AVE-Net"]), ("l3", ["L3-Net", "L3-Net + CCA"])])
def test_every_network_has_its_rows_and_the_random_one_beside_them(shards, labels, name, rows) -> None:
    known = labeled(shards, shards.clips("validation"), labels)
    relevance = flat_relevance(len(known.classes))
    measured = evaluate_retrieval(network_of(name), shards, known, relevance=relevance, gain="linear")
    assert [row.name.partition(" (")[0] for row in measured] == [*rows, "random"]
    assert [row.key for row in measured] == [*("network", "network_cca")[: len(rows)], "random"]
    assert all(0 < row.aud_im.mean <= 1 for row in measured)


def test_another_network_s_images_of_the_very_frames_are_scored_alone_and_with_the_networks_sounds(
    shards, labels, tmp_path
) -> None:
    (tmp_path / "mine.py").write_text(ENCODERS)
    eye, network = load(f"{tmp_path / 'mine.py'}:Eye"), network_of("ave", seed=7)
    known = labeled(shards, shards.clips("validation"), labels)
    worth = {"relevance": flat_relevance(len(known.classes)), "gain": "linear"}
    rows = {row.key: row for row in evaluate_retrieval(network, shards, known, **worth, beside=eye)}
    assert [*rows] == ["given", "network", "given_cca", "random"] and rows["given"].name == "Eye"
    views = zip(*drawn_views(network, shards, known.clips), strict=True)
    pictures = [torch.from_numpy(shards.picture(int(clip), int(tick)))[None] for clip, tick in views]
    seen = torch.cat([eye.embed_image(picture) for picture in pictures]).numpy()
    assert rows["given"].im_im == Scorer(known.sets, **worth).score(seen, seen)
    assert rows["given"].im_aud is None and rows["given"].im_aud_recall == ()
    assert rows["given_cca"].aud_im is not None and rows["given_cca"].aud_im != rows["network"].aud_im
    for name, words in (("Ear", "only hears, it has no vision tower"), ("avol", "no embedding of a single picture")):
        beside = load(f"{tmp_path / 'mine.py'}:{name}") if name == "Ear" else network_of(name)
        with pytest.raises(ValueError, match=words):
            evaluate_retrieval(network, shards, known, **worth, beside=beside)


def test_a_drawn_frame_is_the_one_that_is_embedded(shards) -> None:
    clips = shards.clips("validation")
    views = embed_clips(network_of("ave"), shards, clips, passes=5)
    clip, tick = drawn_views(network_of("l3"), shards, clips, passes=5)
    np.testing.assert_array_equal(clip, views.clip)
    np.testing.assert_array_equal(tick, views.tick)


def test_recall_counts_the_clips_whose_other_modality_is_among_the_nearest() -> None:
    image, audio = np.eye(20, dtype=np.float32), np.eye(20, dtype=np.float32)
    audio[[0, 1]] = audio[[1, 0]]
    first, fifth, tenth = recall(image, 3 * audio)
    assert (first.k, first.mean) == (1, 0.9) and first.low < 0.9 < first.high
    # The partners of two are as far as 18 others, one is nearer: places 2 to 20 are equally likely.
    assert fifth.mean == pytest.approx(0.9 + 0.1 * 4 / 19) and tenth.mean == pytest.approx(0.9 + 0.1 * 9 / 19)


def test_a_hundred_thousand_items_fit_in_3_gb() -> None:
    # 600 of the queries: memory does not depend on how many there are, only time does.
    code = """
import numpy as np
from avc.data.ontology import flat_relevance
from avc.evaluation.retrieval import Scorer
rng = np.random.default_rng(0)
items = rng.standard_normal((100_000, 128), dtype=np.float32)
sets = rng.integers(0, 500, (100_000, 2))
scores = Scorer(sets[:600], sets, relevance=flat_relevance(500)).ndcg(items[:600], items)
assert scores.shape == (600,)
# Not ru_maxrss, which a new process takes over from the one that started it.
print(*[line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert 1e8 < int(done.stdout) * 1024 < 3e9

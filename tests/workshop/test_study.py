"""The study: what its findings say, that nothing is computed twice, and its page."""

import json
import math
import re
from dataclasses import dataclass, replace

import pytest
from pydantic import TypeAdapter

import avc.evaluation.shortcut
import workshop.study.runs
import workshop.study.study
from avc.evaluation.localization import Localization
from avc.evaluation.map_metrics import Hits, Overlap, Sanity
from avc.evaluation.retrieval import Row, Score
from avc.evaluation.shortcut import Audit, Distribution, Probe
from workshop.study.estimates import Estimate, over_seeds, worst
from workshop.study.findings import Audits, _localization, findings
from workshop.study.parts import once
from workshop.study.runs import RUNS, Measured
from workshop.study.study import AUDITS, FIGURES, PAGE, PARTS, RESULTS, study

L3 = {"network": (0.6, 0.16, 0.15, 0.7), "network_cca": (0.5, 0.3, 0.3, 0.6)}


def test_the_interval_over_seeds_is_students() -> None:
    one = over_seeds([1.0, 2.0, 6.0])
    half = 4.30265273 * math.sqrt(7 / 3)
    assert one.mean == 3
    assert one.interval_95 == pytest.approx((3 - half, 3 + half))
    assert over_seeds([0.5]).interval_95 is None


def test_a_claim_agrees_by_its_interval_on_average_by_its_mean() -> None:
    assert Estimate(0.2, (0.16, 0.24)).within(0.15, 1.0) == "agrees"
    assert Estimate(0.2, (0.1, 0.3)).within(0.15, 1.0) == "agrees on average"
    assert Estimate(0.2, None).within(0.15, 1.0) == "agrees on average"
    assert Estimate(0.1, (0.0, 0.2)).within(0.15, 1.0) == "not here"
    assert Estimate(0.95, (0.87, 1.03)).text(percent=True) == "95.0 (87.0 to 100.0) %"
    assert Estimate(0.5, (-0.1, 1.1)).text(sign=True) == "+0.500 (-0.100 to +1.100)"
    assert worst(["agrees", "not here", "agrees on average"]) == "not here"


def measured(accuracy: float, rows: dict[str, tuple[float, ...]]) -> Measured:
    scores = {key: [Score(value, value, value, 0, 9) for value in values] for key, values in rows.items()}
    table = tuple(Row(key, key, *four) for key, four in scores.items())
    return Measured(accuracy=accuracy, ceiling=0.9, pairs=100, retrieval=table, localization=None)


def localized(maximum: float) -> Measured:
    hits = Hits(100, maximum, (0.0, 1.0), 0.2, 0.1, displacement_pixels=(-8.0, 3.0), displacement_std_pixels=(5.0, 5.0))
    overlaps = (Overlap("own_range", 0.25, 0.4, 0.5, 0.3),)
    found = Localization(hits, hits, overlaps, 0.7, (Sanity("silence", falls=0.9, auc=0.8, mean=0.3),), unknown=0)
    return replace(measured(0.8, {}), localization=found)


def audits(sound: float) -> Audits:
    def one(accuracy: float, difference: float) -> Audit:
        interval = (accuracy - 0.01, accuracy + 0.01)
        probes = (Probe("sound", 100, 10, accuracy, interval), Probe("frame", 100, 10, 0.5, (0.49, 0.51)))
        return Audit("frame", (Distribution("the sound's offset from the grid", difference),), 10, probes)

    return {
        ("ticking", "free"): one(sound, 0.9),
        ("ticking", "frame"): one(0.5, 0.0),
        ("plain", "frame"): one(0.5, 0.0),
    }


def test_the_finding_about_the_map_says_what_share_of_frames_it_overlaps() -> None:
    [found, lower] = _localization([localized(0.6)] * 3, "AVOL-Net")
    assert "consensus IoU from 0.5 for 25.0 (25.0 to 25.0) %, center 50.0 (50.0 to 50.0) %" in found.measured
    assert "no evidence of localization" in lower.claim and "silent" not in lower.claim


STORED = """{"all": {"frames": 9, "maximum": 0.6, "interval_95": [0.2, 0.9], "center": 0.2, "random": 0.1,
"displacement_pixels": [-18.0, -13.0], "displacement_std_pixels": [9.0, 8.0]}, "with_silent_object": null, "overlaps":
[{"key": "own_range", "success": 0.0, "auc": 0.2, "center_success": 0.1, "center_auc": 0.2}],
"mean": 0.7, "sanity": [{"key": "silence", "falls": 0.9, "auc": 0.8, "mean": 0.3}], "unknown": 0}"""


def test_what_was_measured_before_there_were_thresholds_is_read() -> None:
    read = TypeAdapter(Localization).validate_json(STORED)
    assert read.all.displacement_pixels == (-18, -13)
    assert (read.thresholds, read.interaction) == ((), None)


def verdicts(*, ave: float, hits: float, free: float, sound: float) -> list[str]:
    random = {"random": (0.15, 0.15, 0.15, 0.15)}
    by_run = {
        "l3": [measured(0.8, L3 | random)] * 3,
        "ave": [measured(0.8, {"network": (0.7, ave, ave, 0.8)} | random)] * 3,
        "avol": [localized(hits)] * 3,
        "avol_logmeanexp": [localized(hits)] * 3,
        "avol_large": [localized(hits)] * 3,
        "ave_mf": [measured(0.82, {})] * 3,
        "frame": [measured(0.75, {"network": (0.5, 0.4, 0.4, 0.5)})] * 3,
        "free": [measured(free, {"network": (0.5, 0.3, 0.3, 0.5)})] * 3,
    }
    return [one.verdict for one in findings(by_run, audits(sound))]


def test_findings_follow_the_figures() -> None:
    good = verdicts(ave=0.6, hits=0.6, free=0.95, sound=0.95)
    assert set(good) == {"agrees"}
    bad = verdicts(ave=0.25, hits=0.4, free=0.76, sound=0.6)
    changed = [number for number, (a, b) in enumerate(zip(good, bad, strict=True)) if a != b]
    assert [bad[number] for number in changed] == ["not here"] * 7  # above L3-Net, CCA, hits thrice, false gain, probe


@dataclass(frozen=True)
class Figure:
    value: float
    pair: tuple[int, int]


def test_a_finished_part_is_read_and_not_made_again(tmp_path) -> None:
    file = tmp_path / "parts" / "one.json"
    made = once(file, Figure, {"steps": 3}, lambda: Figure(0.1, (1, 2)))
    assert once(file, Figure, {"steps": 3}, lambda: pytest.fail("made again")) == made == Figure(0.1, (1, 2))
    with pytest.raises(ValueError, match=r"one.json was measured with another steps"):
        once(file, Figure, {"steps": 4}, lambda: Figure(0.2, (1, 2)))


def test_the_study_measures_every_row_once_and_writes_one_page_that_loads_nothing(tmp_path, monkeypatch) -> None:
    quick = ("training.steps=2", "model.width=0.0625", "data.image_size=28", "data.num_workers=0")
    runs = tuple(replace(run, settings=(*run.settings, *quick)) for run in RUNS)
    monkeypatch.setattr(workshop.study.study, "RUNS", runs)
    monkeypatch.setattr(workshop.study.runs, "FRAMES", 1)
    monkeypatch.setattr(avc.evaluation.shortcut, "PROBE_PAIRS", 64)
    results = study(tmp_path, clips=80, kinds=8, seed=1, seeds=1, workers=2)
    assert len(list((tmp_path / PARTS).iterdir())) == len(RUNS) + len(AUDITS)
    assert json.loads((tmp_path / RESULTS).read_text())["findings"] == results["findings"]
    assert all(results["runs"][run.key] for run in RUNS)
    assert set(results["retrieval"]["AVE-Net, contrastive"]) == {"im_im", "im_aud", "aud_im", "aud_aud"}
    html = (tmp_path / PAGE).read_text()
    assert html.count("<img ") == 7
    assert "<tr><td>AVE-Net, contrastive</td>" in html
    assert len(list((tmp_path / FIGURES).iterdir())) == 7
    assert re.findall(r'(?:src|href)="(?!data:image/png;base64,)', html) == []
    assert "://" not in html

    monkeypatch.setattr(workshop.study.study, "train_and_measure", lambda *_, **__: pytest.fail("trained again"))
    again = study(tmp_path, clips=80, kinds=8, seed=1, seeds=1, workers=2)
    assert again["findings"] == results["findings"]

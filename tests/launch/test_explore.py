"""`avc explore`: what the folder holds is what the shards and the network say, and the page works in a real browser."""

from __future__ import annotations

import base64
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import save_file

from avc.config import dump_config, load_config
from avc.encoders.load import load
from avc.runs.attempt import CONFIG, WEIGHTS
from launch.explore.moments import along, embedder, map_of
from launch.explore.serve import Server
from launch.explore.uploads import Decoder
from launch.explore.write import quantized, write_script
from shards.format import second_start
from shards.read import Shards
from tests.avc.launching import write_config
from tests.avc.networks import fresh
from tests.command_line import avc
from tests.launch.browsing import MOVES, WATCH, until

SHIFTS = (-960, -312, -2, -1, 0, 1, 2, 312, 960)  # samples; Opus has blocks of 960 and begins 312 early
HOSTILE = '</script><img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def folder(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An explorer of AVE-Net and AVOL-Net, untrained, on 40 clips; one label is markup."""
    folder = tmp_path_factory.mktemp("explorer")
    for name in ("ave", "avol"):
        config = load_config(write_config(folder, small_world, model={"name": name, "width": 0.0625}))
        (folder / name).mkdir()
        (folder / name / CONFIG).write_text(dump_config(config))
        torch.manual_seed(1)
        save_file(fresh(name, width=0.0625).state_dict(), folder / name / WEIGHTS, metadata={"model": name})
    rows = [json.loads(line) for line in (small_world.parent / "world" / "labels.jsonl").read_text().splitlines()]
    renamed = {rows[0]["kind"]: HOSTILE}
    labels = [{"file": row["file"], "kind": renamed.get(row["kind"], row["kind"])} for row in rows]
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in labels))
    done = explored(folder, small_world)
    assert done.returncode == 0, done.stderr
    assert "index.html: 40 clips" in done.stdout
    return folder


def explored(folder: Path, shards: Path, *more: object) -> Any:
    runs = [folder / "ave", folder / "avol", "--shards", shards, "--labels", folder / "labels.jsonl"]
    return avc("explore", *runs, "--out", folder / "out", "--split", "all", "--device", "cpu", *more)


def taken(path: Path) -> Any:
    """The value that a script of the page hands over."""
    match = re.fullmatch(r'explorer\.take\("([\w-]+)",(.*)\)\n', path.read_text(encoding="ascii"))
    assert match is not None and match[1] == path.stem
    return json.loads(match[2])


def moments(folder: Path, shards: Shards) -> list[tuple[int, int]]:
    """Clip and tick of each moment, by the names and seconds that the page shows."""
    about = taken(folder / "out" / "data" / "about.js")
    clip_of = {shards.info(clip)["name"]: clip for clip in range(len(shards))}
    return [(clip_of[name], round(25 * at)) for name, at in zip(about["names"], about["seconds"], strict=True)]


def test_each_sound_begins_at_its_slot_and_is_that_of_its_moment(folder, small_world) -> None:
    shards = Shards(small_world)
    with av.open(str(folder / "out" / "data" / "sounds-0.webm")) as container:
        blocks = [block.to_ndarray() for block in container.decode(audio=0)]
    # Packed in each block's own form: float, one channel.
    sound = np.concatenate(blocks, axis=1)[0]
    for number, (clip, tick) in enumerate(moments(folder, shards)):
        start = round(number * 1.5 * 48_000)
        own = shards.sound(clip, second_start(tick)).astype(np.float64)
        alike = {shift: np.corrcoef(own[1000:-1000], sound[start + 1000 + shift :][:46_000])[0, 1] for shift in SHIFTS}
        assert max(alike, key=lambda shift: alike[shift]) == 0 and alike[0] > 0.6, (number, alike)
        assert np.abs(sound[start + 52_000 : start + 68_000]).max() < 0.01


def test_each_cell_of_the_sheet_shows_the_frame_of_its_moment(folder, small_world) -> None:
    shards = Shards(small_world)
    about = taken(folder / "out" / "data" / "about.js")
    width, height = about["cell"]
    sizes = np.frombuffer(base64.b64decode(about["sizes"]), np.uint8).reshape(-1, 2)
    with Image.open(folder / "out" / "data" / "frames-0.webp") as image:
        sheet = np.asarray(image.convert("RGB"), dtype=float)
    for number, (clip, tick) in enumerate(moments(folder, shards)):
        row, column = divmod(number, about["columns"])
        w, h = sizes[number].tolist()
        top, left = row * height + (height - h) // 2, column * width + (width - w) // 2
        frame = np.asarray(Image.fromarray(shards.picture(clip, tick)).resize((w, h)), dtype=float)
        assert np.abs(sheet[top : top + h, left : left + w] - frame).mean() < 12, number


def test_heat_is_that_of_the_network_under_its_own_sound_another_and_none(folder, small_world) -> None:
    shards, network = Shards(small_world), load(folder / "avol")
    places = moments(folder, shards)
    for number, heat in enumerate(taken(folder / "out" / "data" / "heat-1-0.js")[:3]):
        (clip, tick), (other, other_tick) = places[number], places[(number + 20) % 40]
        sounds = [shards.sound(clip, second_start(tick)), shards.sound(other, second_start(other_tick))]
        sounds.append(np.zeros(48_000, np.int16))
        frames = torch.from_numpy(np.repeat(shards.picture(clip, tick)[None], 3, axis=0))
        maps = network.localize(frames, torch.from_numpy(np.stack(sounds))).numpy()
        packed = np.frombuffer(base64.b64decode(heat["maps"]), np.uint8).reshape(3, *heat["size"][::-1])
        assert np.abs(packed / 255 - maps).max() < 0.01


def test_a_byte_a_dimension_keeps_the_order_of_neighbors() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(20, 128))
    vectors = 3 + centers[rng.integers(0, 20, 2000)] + 0.5 * rng.normal(size=(2000, 128))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    small, mean, scale = quantized(vectors)
    assert np.abs(mean + scale * small - vectors).max() <= scale / 2 + 1e-6
    exact, stored = vectors @ vectors[:50].T, (mean + scale * small) @ vectors[:50].T
    kept = [len(set(np.argsort(-exact[:, i])[:10]) & set(np.argsort(-stored[:, i])[:10])) / 10 for i in range(50)]
    assert np.mean(kept) > 0.85  # of dense groups, hard to tell apart


def test_clips_beyond_those_that_tsne_lays_out_go_to_their_neighbors(monkeypatch) -> None:
    monkeypatch.setattr("launch.explore.moments.FITTED", 60)
    rng = np.random.default_rng(0)
    group = np.arange(300) % 3
    features = (10 * np.eye(3)[group] + rng.normal(0, 0.3, (300, 3))).astype(np.float32)
    points = map_of(features, features)
    assert points.shape == (300, 2) and points.min() == 0 and points.max() == 1
    centers = np.stack([points[group == i].mean(axis=0) for i in range(3)])
    nearest = np.argmin(((points[:, None] - centers) ** 2).sum(axis=2), axis=1)
    assert (nearest == group).mean() > 0.98
    order = along(points)
    assert sorted(order.tolist()) == list(range(300)) and (np.diff(group[order]) != 0).sum() < 40
    assert map_of(features[:2], features[:2]).shape == (2, 2)


def test_the_page_names_only_files_beside_it_and_holds_no_markup_of_labels(folder) -> None:
    out = folder / "out"
    text = (out / "index.html").read_text()
    for address in re.findall(r'(?:src|href)="([^"]*)"', text):
        assert (out / address).is_file(), address
    assert HOSTILE not in text and "<img" not in text
    assert "connect-src 'none'" in text and "unsafe" not in text
    scripts = "".join(path.read_text() for path in out.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?://", scripts)
    assert HOSTILE in taken(out / "data" / "about.js")["classes"]


def test_a_folder_with_other_data_is_left_alone_and_an_explorer_is_renewed(folder, small_world, tmp_path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "own.txt").write_text("mine")
    done = avc("explore", folder / "ave", "--shards", small_world, "--out", tmp_path, "--device", "cpu")
    assert done.returncode == 2 and "is not an explorer's" in done.stderr
    assert (tmp_path / "data" / "own.txt").read_text() == "mine"
    shutil.copytree(folder / "out", tmp_path / "out")
    (tmp_path / "out" / "data" / "frames-9.webp").write_text("of an earlier, larger set")
    again = ["--shards", small_world, "--out", tmp_path / "out", "--clips", 4, "--device", "cpu"]
    assert avc("explore", folder / "ave", *again).returncode == 0
    assert not (tmp_path / "out" / "data" / "frames-9.webp").exists()
    assert len(taken(tmp_path / "out" / "data" / "about.js")["names"]) == 4


# In a browser


def stored(folder: Path, run: int, kind: str) -> np.ndarray:
    """The embeddings that the page has of all clips."""
    about = taken(folder / "out" / "data" / "about.js")["runs"][run][kind]
    small = np.frombuffer(base64.b64decode(taken(folder / "out" / "data" / f"vectors-{run}-{kind}-0.js")), np.int8)
    return np.array(about["mean"]) + about["scale"] * small.reshape(40, -1).astype(float)


def names(page: Any, kind: str) -> list[str]:
    """Names on the cards of frames ("image") or sounds ("audio"), of the first run."""
    found: list[str] = page.locator(".run >> nth=0").locator(f".card.{kind} .name").all_inner_texts()
    return found


HOTTEST = """() => [...document.querySelectorAll('.heats canvas')].map(canvas => Math.max(...canvas.getContext('2d')
    .getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 3)))"""


def test_the_page_from_the_disk_searches_both_ways_plays_filters_and_compares(folder, page) -> None:
    about = taken(folder / "out" / "data" / "about.js")
    page.goto((folder / "out" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.evaluate(WATCH)
    assert page.locator("#found .card").count() == 18 and "40 of 40 clips" in page.inner_text("#found")

    # What is nearest is what the stored embeddings say, in both directions.
    page.click(".card.image .look >> nth=3")
    page.wait_for_selector(".run >> nth=1")
    clip = int(page.evaluate("location.hash.split('=')[1]"))
    rows = {kind: stored(folder, 0, kind) for kind in ("image", "audio")}
    expected = np.argsort(-(rows["audio"] @ rows["image"][clip]), kind="stable")[:9]
    assert names(page, "audio") == [about["names"][i] for i in expected]

    # AVOL-Net's heat over the frame under three sounds, as hot as the network says.
    until(page, "document.querySelectorAll('.heats canvas').length === 3")
    most = taken(folder / "out" / "data" / "heat-1-0.js")[clip]["most"]
    other = about["names"][about["runs"][1]["others"][clip]]
    words = ("its own sound", f"the sound of {other}", "no sound")
    captions = [f"{word} {value:.2f}" for word, value in zip(words, most, strict=True)]
    assert [" ".join(text.split()) for text in page.locator(".heats figcaption").all_inner_texts()] == captions
    hottest = page.evaluate(HOTTEST)
    assert hottest == pytest.approx([0.7 * 255 * value for value in most], abs=1.5)

    page.click(".run >> nth=0 >> .card.audio .look >> nth=2")
    asked = int(expected[2])
    page.wait_for_selector("text=Nearest to this sound")
    until(page, f"location.hash === '#audio={asked}'")
    begun = 1.5 * asked
    until(page, MOVES, begun)
    expected = np.argsort(-(rows["image"] @ rows["audio"][asked]), kind="stable")[:9]
    until(page, f"document.querySelector('.run .card.image .name').textContent === {about['names'][expected[0]]!r}")
    assert names(page, "image") == [about["names"][i] for i in expected]
    until(page, "window.player.paused")
    assert page.evaluate("window.player.currentTime") - begun < 1.45  # in the silence after its second

    # Filters; a label that is markup is text.
    page.select_option("#label", label=HOSTILE)
    until(page, "document.querySelectorAll('.run .card').length < 30")
    assert set(page.locator(".run .card .labels").all_inner_texts()) <= {HOSTILE, f"✓ {HOSTILE}"}
    page.select_option("#label", label="all")
    page.fill("#name", "no such name")
    page.wait_for_selector("text=No clip passes the filters.")
    page.fill("#name", "")

    # One run alone, and the back button.
    page.wait_for_selector(".run >> nth=1")
    page.select_option("#run", "1")
    until(page, "document.querySelectorAll('.run').length === 1")
    assert "AVOL-Net" in page.inner_text(".run h2")
    page.go_back()
    page.wait_for_selector("text=Nearest to this frame")


def test_the_map_shows_and_plays_with_the_mouse_and_by_keys_also_on_a_telephone(folder, page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto((folder / "out" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.evaluate(WATCH)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.check("#hover")
    about = taken(folder / "out" / "data" / "about.js")
    x, y = np.frombuffer(base64.b64decode(about["runs"][0]["map"]), "<u2").reshape(-1, 2)[7] / 65535
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    side = min(box["width"], box["height"]) - 28
    page.mouse.move(box["x"] + box["width"] / 2 + (x - 0.5) * side, box["y"] + box["height"] / 2 + (y - 0.5) * side)
    page.wait_for_selector("#tip:not([hidden])")
    assert about["names"][7] in page.inner_text("#tip")
    until(page, MOVES, 1.5 * 7)
    page.mouse.down()
    page.mouse.up()
    until(page, "location.hash === '#image=7'")
    page.wait_for_selector(".run")
    page.mouse.move(1, 1)
    page.keyboard.press("Escape")
    page.wait_for_selector("text=40 of 40 clips")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#tip:not([hidden])")
    page.keyboard.press("Enter")
    page.wait_for_selector(".run")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Escape")
    page.wait_for_selector("text=40 of 40 clips")


def test_the_keyboard_alone_reaches_a_frame_searches_with_it_and_plays_what_is_found(folder, page) -> None:
    page.goto((folder / "out" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.evaluate(WATCH)

    def tab(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
                return
        raise AssertionError(f"{selector} is not reached")

    tab("#found .look")
    page.keyboard.press("Enter")
    page.wait_for_selector(".run >> nth=1")
    tab(".run .card.audio .play")
    page.keyboard.press("Space")
    until(page, MOVES, 1.5 * int(page.evaluate("document.activeElement.dataset.sound")))


NAMES = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)>",
    "<style>*{display:none}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content=0;url=//evil.example>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "</title><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "]]>",
    '" onmouseover=alert(1) x="',
    "' onfocus='alert(1)' autofocus='",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "//evil.example/x.png",
    "http://evil.example/x.png",
    "file:///etc/passwd",
    "../../etc/passwd",
    "..\\..\\boot.ini",
    "/etc/passwd",
    "C:\\con",
    "${alert(1)}",
    "{{constructor.constructor('alert(1)')()}}",
    "{{ token }}{{ policy }}",
    '");alert(1);//',
    '");background:url(//evil.example)',
    "#image=3",
    "%3Cscript%3Ealert(1)%3C/script%3E",
    "&lt;b&gt; &amp; &#60;",
    "__proto__",
    "constructor",
    "\u2028alert(1)\u2029",
    "a\u202efdp.exe",
    "\ufeff\u200b\u200d",
    "a\0b\x1b[31m",
    "\ud800 alone",
    "x" * 4000,
    "",
]


def test_hostile_names_of_files_and_labels_are_text_on_the_page_and_nothing_else(folder, page, tmp_path) -> None:
    shutil.copytree(folder / "out", tmp_path / "out")
    about = taken(tmp_path / "out" / "data" / "about.js")
    about |= {
        "names": NAMES,
        "classes": NAMES,
        "labels": [[i] for i in range(40)],
        "title": NAMES[0],
        "about": NAMES[1],
    }
    write_script(tmp_path / "out" / "data" / "about.js", "about", about)
    page.goto((tmp_path / "out" / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    page.click("#found .small")  # more
    page.click("#found .small")
    shown = page.evaluate("[...document.querySelectorAll('#found .name')].map(each => each.textContent)")
    assert sorted(shown) == sorted(NAMES)
    begins = "name => document.querySelector('#moment .name')?.textContent.startsWith(`${name} at `)"
    for clip in (0, 27):
        page.evaluate("clip => { location.hash = `#image=${clip}` }", clip)
        until(page, begins, NAMES[clip])
    assert page.locator("main :is(img, script, iframe, svg, style, base, meta, link)").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1300


def test_every_button_and_picture_has_a_name(folder, page) -> None:
    page.goto((folder / "out" / "index.html").as_uri() + "#image=5")
    page.wait_for_selector(".run .card")
    nameless = """() => [...document.querySelectorAll('button, [role=img], input, select, canvas')].filter(e =>
        !e.closest('[aria-hidden=true], [hidden]') && !(e.getAttribute('aria-label') || e.innerText.trim() ||
        e.labels?.[0]?.innerText.trim() || e.getAttribute('aria-describedby'))).map(e => e.outerHTML)"""
    assert page.evaluate(nameless) == []


@pytest.fixture(scope="module")
def served(folder, small_world) -> Iterator[Server]:
    embedders = [embedder(load(folder / name), folder / name, Shards(small_world)) for name in ("ave", "avol")]
    with Decoder() as decoder, Server(folder / "out", embedders, title="t", port=0, decoder=decoder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


# What a browser does when a file is dropped on the page.
DROP = """([name, base64]) => { const files = new DataTransfer();
files.items.add(new File([Uint8Array.from(atob(base64), c => c.charCodeAt(0))], name, { type: 'image/png' }));
document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true })); }"""


def test_the_served_page_finds_what_is_nearest_to_a_picture_a_sound_and_a_recording(
    folder, small_world, served, page, tmp_path
) -> None:
    shards = Shards(small_world)
    clip, tick = moments(folder, shards)[9]
    Image.fromarray(shards.picture(clip, tick)).save(tmp_path / "own.png")
    soundfile.write(tmp_path / "own.wav", shards.sound(clip, second_start(tick)), 48_000)
    page.goto(served.url)
    page.wait_for_selector("body[data-ready]")
    page.evaluate(WATCH)
    every = taken(folder / "out" / "data" / "about.js")["names"]
    picture = torch.from_numpy(shards.picture(clip, tick))[None]
    second = torch.from_numpy(shards.sound(clip, second_start(tick)))[None]
    vectors = (served.embedders[0].picture(picture)[0], served.embedders[0].second(second)[0])

    def finds(words: str, vector: np.ndarray) -> str:
        page.wait_for_selector(f"text={words}")
        for kind in ("image", "audio"):
            nearest: str = every[int(np.argmax(stored(folder, 0, kind) @ vector))]
            until(page, f"document.querySelector('.run .card.{kind} .name')?.textContent === {nearest!r}")
        return nearest

    page.set_input_files("#file", tmp_path / "own.wav")
    finds("Your sound", vectors[1])
    page.evaluate(DROP, ["own.png", base64.b64encode((tmp_path / "own.png").read_bytes()).decode()])
    first = finds("Your picture", vectors[0])
    page.click(".run .card.audio .play >> nth=0")
    until(page, MOVES, 1.5 * every.index(first))
    page.click("#record")
    page.wait_for_selector("text=Stop recording")
    page.wait_for_timeout(1500)  # of the fake microphone's beeps
    page.click("#record")
    page.wait_for_selector("text=Record a sound")
    until(page, "document.getElementById('message').textContent === ''")
    assert page.inner_text("#moment h2") == "Your sound"


def test_a_file_that_cannot_be_used_is_refused_in_words_on_the_page_which_works_on(served, browser) -> None:
    page = browser.new_page()  # the browser's console names the answer, 422
    page.goto(served.url)
    page.wait_for_selector("body[data-ready]")
    page.evaluate(DROP, [f"{HOSTILE}.png", base64.b64encode(b"<script>alert(1)</script>").decode()])
    page.wait_for_selector("#message:has-text('That cannot be used')")
    page.click(".card .look >> nth=0")
    page.wait_for_selector(".run .card")
    page.close()

"""What media libraries do with valid files, as docs/facts.md says with versions, and what is made of it here."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import cv2
import librosa
import numpy as np
import pytest
import scipy.signal
import simplejpeg
import soundfile
import soxr
from PIL import Image

from avc.data.media import read_mono
from shards.format import PackSettings
from shards.media import read
from shards.media.scaling import Scaler
from shards.media.sound import _resample
from shards.media.streams import stream_sound
from tests.shards.rendering import frame_of, luma_of, moving, write

RATE = 48_000
FRAGMENTS = "frag_keyframe+empty_moov+default_base_moof"


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def encoded(
    path: Path,
    codec: str,
    sound: np.ndarray,
    *,
    rate: int = RATE,
    layout: str = "mono",
    coder: dict | None = None,
    **options: str,
) -> Path:
    """Mono sound as `codec`, alone in its container."""
    with av.open(str(path), "w", options=options) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout, options=coder)
        stream.bit_rate = 12_200 if "amr" in codec else 128_000
        frame = av.AudioFrame.from_ndarray(sound[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in av.AudioResampler(stream.format, layout, rate).resample(frame):
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return path


def decoded(path: Path) -> np.ndarray:
    """All samples of a file, one after the other, as PyAV gives them."""
    with av.open(str(path)) as file:
        mixer = av.AudioResampler("flt", "mono")
        pieces = [piece.to_ndarray()[0] for frame in file.decode(audio=0) for piece in mixer.resample(frame)]
    return np.concatenate(pieces)


def lag(sound: np.ndarray, original: np.ndarray) -> int:
    """Samples by which the first is later than the second."""
    return int(np.argmax(scipy.signal.correlate(sound, original))) - len(original) + 1


@pytest.mark.parametrize(
    ("name", "codec", "rate", "options", "late"),
    [
        ("tag.mp3", "libmp3lame", 44_100, {}, 0),
        ("none.mp3", "libmp3lame", 44_100, {"write_xing": "0"}, 1105),
        ("film.avi", "libmp3lame", 44_100, {}, 1105),
        ("film.mkv", "libmp3lame", 44_100, {}, 0),
        ("whole.mp4", "aac", 44_100, {}, 0),
        ("fragments.mp4", "aac", 44_100, {"movflags": FRAGMENTS}, 1024),
        ("delayed.mp4", "aac", 44_100, {"movflags": f"{FRAGMENTS}+delay_moov"}, 0),
        ("film.ts", "mp2", RATE, {}, 481),
        ("film.ts", "ac3", RATE, {}, 256),
        ("film.ts", "eac3", RATE, {}, 256),
        ("film.mkv", "mp2", RATE, {}, 0),
        ("film.mkv", "ac3", RATE, {}, 0),
        ("film.mkv", "eac3", RATE, {}, 0),
        ("sound.aac", "aac", 44_100, {}, 1024),
        ("film.flv", "aac", 44_100, {}, 1024),
        ("film.ts", "aac", 44_100, {}, 1024),
        ("sound.ogg", "libopus", RATE, {}, 0),
        ("film.webm", "libopus", RATE, {}, 0),
        ("whole.mp4", "libopus", RATE, {}, 0),
        ("film.ts", "libopus", RATE, {}, 312),
        ("phone.3gp", "libopencore_amrnb", 8000, {}, -10),
    ],
)
def test_an_encoder_s_delay_stays_in_the_sound_where_its_container_cannot_say_it(
    name: str, codec: str, rate: int, options: dict[str, str], late: int, tmp_path: Path
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this build of libav has no {codec}")
    original = noise(2 * rate)
    path = encoded(tmp_path / name, codec, original, rate=rate, **options)
    assert abs(lag(decoded(path), original) - late) <= 1
    read_here = np.concatenate([piece for piece, _ in stream_sound(path)])
    # By stamps, which are whole milliseconds in Matroska and FLV.
    assert abs(lag(read_here, original) - late) <= (24 if path.suffix in (".mkv", ".webm", ".flv") else 1)


@pytest.mark.parametrize("form", ["vorbis.ogg", "vorbis.webm", "libsndfile.ogg"])
def test_vorbis_begins_where_it_began_by_either_encoder(form: str, tmp_path: Path) -> None:
    original, path = noise(2 * RATE), tmp_path / form
    if form.startswith("libsndfile"):
        soundfile.write(path, original, RATE, format="OGG", subtype="VORBIS")
    else:
        encoded(path, "vorbis", original, rate=RATE, layout="stereo", coder={"strict": "experimental"})
    assert lag(decoded(path), original) == 0
    read_here = np.concatenate([piece for piece, _ in stream_sound(path)])
    assert lag(read_here, original) == 0 and len(read_here) == len(original)


def test_the_first_2048_samples_of_wma_do_not_come_out_and_packing_leaves_their_place_silent(tmp_path: Path) -> None:
    original = noise(2 * RATE)
    path = write(tmp_path / "film.asf", moving(50), video="wmv2", sound=original[None], audio="wmav2")
    assert lag(decoded(path), original) == -2048
    sound = read(path, PackSettings(side=32)).sound / 32768
    assert abs(lag(sound, original)) <= 48  # ASF stamps whole milliseconds
    assert np.abs(sound[:2000]).max() < 0.01 < 0.1 < np.abs(sound[2100:4000]).max()


@pytest.mark.parametrize("codec", ["wmav1", "wmav2"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_wma_without_pictures_begins_where_its_sound_began(codec: str, rate: int, tmp_path: Path) -> None:
    original = noise(2 * rate)
    sound = np.concatenate(
        [piece for piece, _ in stream_sound(encoded(tmp_path / "a.wma", codec, original, rate=rate))]
    )
    assert abs(lag(sound, original)) <= rate // 1000


def test_matroska_stamps_pictures_with_the_nearest_millisecond_and_halves_go_up(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mkv", moving(100), rate=Fraction(30_000, 1001))
    with av.open(str(path)) as file:
        stamps = [frame.pts * frame.time_base for frame in file.decode(video=0)]
    exact = [Fraction(1001 * number, 30_000) for number in range(100)]
    assert stamps == [Fraction(int(time * 1000 + Fraction(1, 2)), 1000) for time in exact]
    assert max(map(abs, np.subtract(stamps, exact))) == Fraction(1, 2000)
    assert int(stamps[6] / Fraction(1, 25)) == 5 and stamps[6] < exact[6]  # on a tick's edge: shown a tick sooner


@pytest.mark.parametrize("codec", ["mp2", "ac3"])
def test_beside_pictures_stamps_of_a_transport_stream_hold_the_delay_and_packing_obeys_them(codec, tmp_path) -> None:
    original = noise(2 * RATE)
    path = write(tmp_path / "film.ts", moving(50), video="mpeg2video", sound=original[None], audio=codec)
    assert abs(lag(read(path, PackSettings(side=32)).sound / 32768, original)) <= 1


def test_an_m4a_ends_with_its_last_packet_before_ffmpeg_9_and_with_its_edit_list_since(tmp_path) -> None:
    path = encoded(tmp_path / "sound.m4a", "aac", noise(88_200), rate=44_100)
    ends = 88_200 if av.library_versions["libavformat"] >= (63,) else 89_088
    assert len(decoded(path)) == ends
    assert sum(len(piece) for piece, _ in stream_sound(path)) == ends


def test_resamplers_differ_by_a_sample_in_length() -> None:
    lengths = {}
    for samples in (1, 441, 44_100, 44_101):
        sound = noise(samples)
        lengths[samples] = [
            len(_resample(sound, 44_100)),
            len(soxr.resample(sound, 44_100, RATE)),
            len(scipy.signal.resample_poly(sound, 160, 147)),
            len(librosa.resample(sound, orig_sr=44_100, target_sr=RATE)),
        ]
    assert lengths == {
        **{1: [2, 1, 2, 2], 441: [480, 480, 480, 481]},
        **{44_100: [48_000, 48_000, 48_000, 48_001], 44_101: [48_002, 48_001, 48_002, 48_002]},
    }


def test_swscale_lowers_chroma_by_half_a_level_where_it_goes_from_limited_to_full_range() -> None:
    rng = np.random.default_rng(0)
    planes = [rng.integers(40, 200, shape).astype(np.uint8) for shape in ((240, 320), (120, 160), (120, 160))]
    frame = frame_of(planes, "yuv420p", colorspace=5, color_range=1)
    wanted = (planes[1].astype(float) - 128) * 255 / 224 + 128
    swscaled = frame.reformat(format="yuvj420p", src_color_range=1, dst_color_range=2).to_ndarray()[240:300]
    assert -0.7 < (swscaled.reshape(120, 160) - wanted).mean() < -0.3
    assert abs((Scaler(320, 240)(frame)[1] - wanted).mean()) < 0.05


def test_a_transport_stream_over_the_33_bit_wrap_begins_before_zero_and_is_packed_as_any_other(tmp_path) -> None:
    clips = []
    for begins in (10, 2**33 / 90_000 - 1):
        path = tmp_path / f"{begins:.0f}.ts"
        with av.open(str(path), "w", options={"output_ts_offset": str(begins), "muxdelay": "0"}) as output:
            write_numbered(output)
        with av.open(str(path)) as file:
            stamps = [float(frame.pts * frame.time_base) for frame in file.decode(video=0)]
        assert np.allclose(np.diff(stamps), 0.04)
        clips.append(read(path, PackSettings(side=32)))
    assert stamps[0] < 0 < stamps[-1]
    assert clips[0].pictures == clips[1].pictures
    assert np.array_equal(clips[0].sound, clips[1].sound)


def write_numbered(output: av.container.OutputContainer, *, count: int = 100, **options: str) -> None:
    """Gray pictures, the n-th of level 16 + 2 n, and noise."""
    shown = output.add_stream("libx264", rate=25, options={"crf": "10"} | options)
    shown.width = shown.height = 64
    shown.pix_fmt, shown.codec_context.thread_count = "yuv420p", 1
    heard = output.add_stream("mp2", rate=RATE, layout="mono")
    frame = av.AudioFrame.from_ndarray(
        (noise(count * 1920) * 32768).astype(np.int16)[None], format="s16", layout="mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    output.mux(heard.encode(frame))
    output.mux(heard.encode(None))
    for number in range(count):
        level = np.full((64, 64), 16 + 2 * number, np.uint8)
        picture = frame_of([level, *[np.full((32, 32), 128, np.uint8)] * 2], "yuv420p")
        picture.pts, picture.time_base = number, Fraction(1, 25)
        output.mux(shown.encode(picture))
    output.mux(shown.encode(None))


def test_after_a_seek_libav_leaves_out_the_pictures_that_lead_an_open_group_and_packing_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "open.mp4"
    with av.open(str(path), "w") as output:
        write_numbered(
            output, **{"x264-params": "open-gop=1:keyint=24:bframes=3:b-adapt=0:scenecut=0", "profile": "main"}
        )

    def number(luma: np.ndarray) -> int:
        return round((float(luma.mean()) - 16) / 2)

    with av.open(str(path)) as file:
        file.seek(round(1.92 * av.time_base))
        shown = [number(frame.to_ndarray()[:64]) for frame, _ in zip(file.decode(video=0), range(3), strict=False)]
        assert shown == [48, 49, 50]
        file.seek(0)
        assert [number(frame.to_ndarray()[:64]) for frame in file.decode(video=0)] == list(range(100))
        file.seek(round(1.92 * av.time_base))
        order = [round(float(packet.pts * packet.time_base) * 25) for packet in file.demux(video=0) if packet.size]
        assert {45, 46, 47} <= set(order[:5])  # they come behind the key picture, and are not decoded
    monkeypatch.setattr("shards.media.SEEK_FROM_SECONDS", 0)
    for first in (45, 46, 47, 48):
        clip = read(path, PackSettings(side=64, start_seconds=first / 25, seconds=1.2))
        levels = [(float(luma_of(jpeg).mean()) * 219 / 255) / 2 for jpeg in clip.pictures[:4]]
        assert np.allclose(levels, np.arange(first, first + 4), atol=0.4)


def test_decoders_of_jpeg_agree_to_the_bit_but_for_ffmpeg_s() -> None:
    rng = np.random.default_rng(0)
    gray = np.asarray(Image.linear_gradient("L").resize((340, 256)))[..., None]
    picture = (gray + rng.normal(0, 12, (256, 340, 3))).clip(0, 255).astype(np.uint8)
    content = simplejpeg.encode_jpeg(picture, quality=90, colorsubsampling="420")
    ours = simplejpeg.decode_jpeg(content)
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), ours)
    assert bgr is not None and np.array_equal(bgr[..., ::-1], ours)
    with av.open(io.BytesIO(content), format="mjpeg") as file:
        theirs = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert 5 < np.abs(theirs.astype(int) - ours).max() < 25


def test_libsndfile_reads_the_first_part_of_a_chained_ogg_and_libav_all(tmp_path) -> None:
    parts = [encoded(tmp_path / f"{n}.ogg", "libopus", noise(RATE)).read_bytes() for n in range(2)]
    path = tmp_path / "chained.ogg"
    path.write_bytes(b"".join(parts))
    assert soundfile.info(path).frames == RATE
    assert len(decoded(path)) == 2 * RATE
    read_here = read_mono(path, RATE)
    assert sum(len(piece) for piece, _ in stream_sound(path)) == len(read_here) == 2 * RATE
    for second in (read_here[:RATE], read_here[RATE:]):  # whatever decoders leave out at its beginning, 6.5 ms
        assert abs(lag(second, noise(RATE))) <= 1


def test_flac_from_a_pipe_says_no_length_and_is_read_whole(tmp_path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        seek = property()  # PyAV asks whether there is one

    pipe = Pipe()
    with av.open(pipe, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((noise(RATE) * 32768).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    path = tmp_path / "piped.flac"
    path.write_bytes(pipe.getvalue())
    assert soundfile.info(path).frames == 2**63 - 1
    assert sum(len(piece) for piece, _ in stream_sound(path)) == len(read_mono(path, RATE)) == RATE

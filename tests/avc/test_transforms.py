"""From uint8 and int16 to the networks' inputs."""

import librosa
import numpy as np
import pytest
import torch

from avc.data.preprocessing import audio_to_input, images_to_input, log_spectrogram
from avc.encoders.towers import Spectrogram
from avc.models.trunks.means import Means
from avc.settings import PairData

SETTINGS = PairData(image_size=32)


def test_the_log_spectrogram_is_librosas() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, size=48_000).astype(np.float32)
    sound += np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000).astype(np.float32) * 0.3
    margin = np.zeros(16, dtype=np.float32)
    spectrum = librosa.stft(
        np.concatenate([margin, sound, margin]), n_fft=512, hop_length=240, win_length=480, window="hann", center=False
    )
    expected = np.log1p(np.abs(spectrum) / 1e-4)
    ours = log_spectrogram(torch.from_numpy(sound)[None])[0].numpy()
    assert ours.shape == (257, 199)
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_a_tone_lights_the_bin_of_its_frequency() -> None:
    tone = torch.sin(2 * torch.pi * 3_000 * torch.arange(48_000) / 48_000)[None]
    assert (log_spectrogram(tone)[0].argmax(dim=0) == round(3_000 / (48_000 / 512))).all()


def test_digital_silence_is_zero_and_every_value_is_finite() -> None:
    silence = torch.zeros(1, 48_000, dtype=torch.int16)
    assert (audio_to_input(silence, None, SETTINGS) == 0).all()
    loudest = torch.full((1, 48_000), -32_768, dtype=torch.int16)
    assert torch.isfinite(audio_to_input(loudest, None, SETTINGS)).all()


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_convolutions_of_spectrograms_run_channels_last_on_means_to_the_bit(pool: int) -> None:
    x = Spectrogram()(torch.rand(2, 48_000) - 0.5)
    means, convolution = Means(pool)(x), torch.nn.Conv2d(1, 4, kernel_size=3)
    planes = torch.nn.functional.avg_pool2d(x.contiguous(), pool)  # in strides that fit both layouts
    assert torch.equal(means, planes)
    assert convolution(means).is_contiguous(memory_format=torch.channels_last)
    assert not convolution(planes).is_contiguous(memory_format=torch.channels_last)


def test_volume_changes_by_up_to_its_bound_and_the_same_over_the_second() -> None:
    torch.manual_seed(0)
    sound = torch.randint(-3_000, 3_000, (3, 48_000), dtype=torch.int16)
    plain = torch.expm1(audio_to_input(sound, None, SETTINGS))
    numbers = torch.tensor([[0.0], [0.5], [1.0]])
    ratio = torch.expm1(audio_to_input(sound, numbers, SETTINGS)) / plain
    for row, gain in zip(ratio, (0.9, 1.0, 1.1), strict=True):
        torch.testing.assert_close(row, torch.full_like(row, gain), rtol=1e-3, atol=0)


def test_pictures_keep_their_colours_without_augmentation() -> None:
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    x = images_to_input(pictures, None, SETTINGS)
    torch.testing.assert_close((x / 4 + 0.5) * 255, pictures.permute(0, 3, 1, 2).float(), atol=1e-3, rtol=0)


def test_the_flip_turns_the_picture_left_to_right_in_half_of_the_draws() -> None:
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    numbers = torch.full((2, 5), 0.5)
    numbers[0, 2] = 0.49
    plain, augmented = images_to_input(pictures, None, SETTINGS), images_to_input(pictures, numbers, SETTINGS)
    torch.testing.assert_close(augmented[0], plain[0])
    torch.testing.assert_close(augmented[1], plain[1].flip(-1))


def test_brightness_and_saturation_change_by_their_bounds() -> None:
    picture = torch.tensor([100, 150, 50], dtype=torch.uint8).expand(1, 32, 32, 3)

    def color(brightness: float, saturation: float) -> torch.Tensor:
        numbers = torch.tensor([[0.0, 0.0, 0.0, brightness, saturation]])
        return (images_to_input(picture, numbers, SETTINGS)[0, :, 0, 0] / 4 + 0.5) * 255

    plain = torch.tensor([100.0, 150.0, 50.0])
    gray = (plain * torch.tensor([0.299, 0.587, 0.114])).sum()
    torch.testing.assert_close(color(1.0, 0.5), plain * 1.2)
    torch.testing.assert_close(color(0.0, 0.5), plain * 0.8)
    torch.testing.assert_close(color(0.5, 1.0), gray + (plain - gray) * 1.2)
    torch.testing.assert_close(color(0.5, 0.0), gray + (plain - gray) * 0.8)


@pytest.mark.parametrize("size", [16, 24, 32])
def test_pictures_come_out_at_the_networks_size(size) -> None:
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert images_to_input(pictures, None, PairData(image_size=size)).shape == (2, 3, size, size)

"""The autoencoder has SoundNet's first layers and gives back what it heard, where it heard it."""

import pytest
import torch

from tests.avc.networks import fresh


@pytest.mark.parametrize("samples", [500, 22_050, 110_251])
def test_the_autoencoder_gives_back_as_many_samples_as_it_was_given(samples) -> None:
    assert fresh("autoencoder").eval()(torch.randn(2, samples)).shape == (2, samples)


def test_too_short_a_sound_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"10 samples \(0.00 s\) are too short for conv4 of autoencoder"):
        fresh("autoencoder")(torch.zeros(1, 10))


def test_the_autoencoder_begins_with_the_layers_of_soundnet() -> None:
    ours, theirs = fresh("autoencoder").encoder.state_dict(), fresh("soundnet8").layers.state_dict()
    assert len(ours) == 4 * (2 + 5)
    assert all(ours[name].shape == theirs[name].shape for name in ours)
    sound = torch.randn(1, 22_050)
    assert fresh("autoencoder").eval().features(sound).shape == fresh("soundnet8").eval().features(sound, "conv4").shape


def test_what_the_autoencoder_gives_back_lies_where_it_was_heard() -> None:
    """A click moves the output around it, and nothing a second away."""
    torch.manual_seed(0)
    network = fresh("autoencoder").eval()
    sound = torch.zeros(1, 88_200)
    clicked = sound.clone()
    clicked[0, 44_100] = 256
    changed = (network(clicked) - network(sound))[0].abs().detach()
    middle = (changed * torch.arange(88_200)).sum() / changed.sum()
    assert abs(middle - 44_100) < 1_000 and changed[:22_050].max() == changed[66_150:].max() == 0


def test_it_can_learn_to_give_back_tones() -> None:
    torch.manual_seed(0)
    network = fresh("autoencoder", width=0.5)
    pitch, time = torch.linspace(80, 300, 8), torch.arange(5_512) / 22_050
    sound = 50 * torch.sin(2 * torch.pi * pitch[:, None] * time)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(40):
        error = (network(sound) - sound).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.5 * sound.square().mean()

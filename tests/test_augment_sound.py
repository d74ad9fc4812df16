"""Changed sound: against closed forms in float64, and what must stay at its picture."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from raw_talking import talking
from torch import Tensor
from torch.utils.data import default_collate

from fctfg.data.augmentation.sound import (
    SoundAugment,
    SoundChange,
    change_sound,
    change_speed,
    coloured_noise,
    reflections,
    speech_power,
    speed_frames,
)
from fctfg.models.spec_augment import SpecAugment
from fctfg.ops.hash_noise import hash_normal

RATE, FRAME = 16_000, 640  # samples a second, samples a video frame
CHANCES = ("speed", "reverberation", "noise", "gain")
NEVER = SoundAugment(**{f"{name}_chance": 0.0 for name in CHANCES})
ALWAYS = SoundAugment(**{f"{name}_chance": 1.0 for name in CHANCES})


def drawn(settings: SoundAugment, batch: int, seed: int = 0) -> SoundChange:
    """A collated batch of changes."""
    return default_collate([settings.draw(np.random.default_rng([seed, i])) for i in range(batch)])


def only(batch: int = 1, **values: float | list[float]) -> SoundChange:
    """No change but for the given values."""
    tensors = {name: torch.as_tensor(value, dtype=torch.float32).expand(batch) for name, value in values.items()}
    return drawn(NEVER, batch)._replace(**tensors)


def tone(hertz: float, size: int = RATE, origin: int = 0) -> Tensor:
    """Float64 [size], a sine of amplitude 1 with its phase 0 at sample `origin`."""
    return torch.sin(2 * math.pi * hertz * (torch.arange(size, dtype=torch.float64) - origin) / RATE)


def speech() -> Tensor:
    """Float32 [1, 20480] of the demo corpus."""
    return torch.from_numpy(talking(0)[1])


def decibel(ratio: Tensor | float) -> float:
    return 10 * math.log10(float(ratio))


# ------------------------------------------------------------------------------------------------------------ drawing


def test_a_change_follows_from_the_generator_alone() -> None:
    one, same, other = drawn(ALWAYS, 6), drawn(ALWAYS, 6), drawn(ALWAYS, 6, seed=1)
    for name, value in one._asdict().items():
        assert value.shape == (6,)
        assert value.dtype == (torch.int64 if name == "seed" else torch.float32)
        assert torch.equal(value, getattr(same, name))
        assert not torch.equal(value, getattr(other, name))


@pytest.mark.parametrize("name", CHANCES)
def test_no_effect_moves_with_another_ones_settings(name: str) -> None:
    full, without = drawn(ALWAYS, 4), drawn(replace(ALWAYS, **{f"{name}_chance": 0.0}), 4)
    for field, value in full._asdict().items():
        assert torch.equal(value, getattr(without, field)) == (field != name)


def test_effects_happen_as_often_as_asked_and_as_far() -> None:
    chances = dict(zip(CHANCES, (0.15, 0.35, 0.55, 0.75), strict=True))
    settings = SoundAugment(**{f"{name}_chance": chance for name, chance in chances.items()}, pink=0.25)
    count = 4000
    change = drawn(settings, count)
    happened = {
        "speed": change.speed != 1,
        "reverberation": change.reverberation != 0,
        "noise": change.noise != 0,
        "gain": change.gain != 1,
    }
    for name, chance in (*chances.items(), ("colour", 0.25)):
        share = happened.get(name, change.colour).double().mean()
        assert abs(share - chance) < 4 * math.sqrt(chance * (1 - chance) / count)
    table = torch.stack([happened[name].double() for name in CHANCES])
    assert (torch.corrcoef(table) - torch.eye(4)).abs().max() < 5 / math.sqrt(count)

    for values, limit in ((change.speed, 1.05), (change.gain, 10 ** (6 / 20))):
        logarithms = values.double().log()  # as often less as more
        assert 0.98 * math.log(limit) < logarithms.abs().max() < math.log(limit) + 1e-6
        assert logarithms.mean().abs() < 4 * logarithms.std() / math.sqrt(count)
    for values, low, high in (
        (change.rt60, settings.rt60_min, settings.rt60_max),
        (-20 * change.reverberation[happened["reverberation"]].log10(), settings.direct_min, settings.direct_max),
        (-20 * change.noise[happened["noise"]].log10(), settings.snr_min, settings.snr_max),
    ):
        assert low - 1e-4 < values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() < high + 1e-4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed_chance": -0.1}, "data.sound.speed_chance is -0.1, but must be between 0 and 1"),
        ({"speed": 0.9}, "data.sound.speed is 0.9, but must be between 1 and 1.5"),
        ({"rt60_min": 0.0}, "data.sound.rt60_min is 0.0, but must be between 0.02 and 5"),
        ({"rt60_min": 0.9}, "data.sound.rt60_max is 0.6, but must be between 0.9 and 5"),
        ({"snr_max": 5.0}, "data.sound.snr_max is 5.0, but must be between 10 and 60"),
        ({"direct_min": math.inf}, "data.sound.direct_min is inf"),
        ({"gain": -1.0}, "data.sound.gain is -1.0, but must be between 0 and 40"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoundAugment(**settings)


# -------------------------------------------------------------------------------------------------------------- whole


def test_no_change_is_equal_to_the_bit() -> None:
    wave = speech().repeat(3, 1)
    change = drawn(NEVER, 3)
    assert torch.equal(change_sound(wave, change, 6400), wave)
    mixed = SoundChange(*(torch.cat([a[:1], b[1:]]) for a, b in zip(change, drawn(ALWAYS, 3), strict=True)))
    changed = change_sound(wave, mixed, 6400)  # and beside samples that do change
    assert torch.equal(changed[0], wave[0])
    assert not torch.equal(changed[1], wave[1])


def test_a_sample_does_not_depend_on_its_batch() -> None:
    wave = torch.cat([speech().roll(1000 * i, 1) for i in range(4)])
    change, anchor = drawn(ALWAYS, 4), torch.tensor([0, 640, 6400, 12800])
    together = change_sound(wave, change, anchor)
    for i in range(4):
        alone = change_sound(wave[i : i + 1], SoundChange(*(value[i : i + 1] for value in change)), int(anchor[i]))
        torch.testing.assert_close(alone[0], together[i], atol=1e-6, rtol=1e-5)


def test_silence_stays_silence() -> None:
    assert torch.equal(change_sound(torch.zeros(8, 4000), drawn(ALWAYS, 8), 2000), torch.zeros(8, 4000))


def test_loudness_changes_all_that_is_heard_and_nothing_is_clipped() -> None:
    change = drawn(ALWAYS, 1)
    quiet, loud = (change_sound(speech(), change._replace(gain=torch.tensor([gain])), 6400) for gain in (1.0, 4.0))
    torch.testing.assert_close(loud, 4 * quiet)
    assert change_sound(speech() / speech().abs().max(), only(gain=2.0), 0).max() > 1.5


def test_other_shapes_are_refused() -> None:
    for shape in ((4000,), (2, 4000), (1, 1, 4000)):
        with pytest.raises(ValueError, match=r"wave must be \[B, S\]"):
            change_sound(torch.zeros(shape), only(1), 0)


# -------------------------------------------------------------------------------------------------------------- speed


@pytest.mark.parametrize("speed", [0.95, 0.99, 1.0003, 1.05])
def test_a_tone_becomes_the_tone_of_another_pitch(speed: float) -> None:
    anchor, inside = 5000, slice(1000, -1000)
    factor = torch.tensor([speed])
    for hertz in (60, 440, 3000, 6000):
        changed = change_speed(tone(hertz, origin=anchor).float()[None], factor, anchor)[0]
        expected = tone(hertz * float(factor), origin=anchor)
        assert (changed - expected)[inside].abs().max() < 1e-3  # -60 dB


def test_nothing_folds_back() -> None:
    """7 kHz at 1.5 times the speed would be 10.5 kHz, and is heard nowhere."""
    changed = change_speed(tone(7000).float()[None], torch.tensor([1.5]), 0)[0]
    assert changed[100:10_000].abs().max() < 1e-3


def test_beyond_the_ends_there_is_silence() -> None:
    wave, anchor = torch.ones(2, 4000), torch.tensor([0, 3999])
    changed = change_speed(wave, torch.tensor([1.25, 1.25]), anchor)
    assert torch.equal(changed[0, 3220:], torch.zeros(780))  # 4000 / 1.25 = 3200 samples, and the kernel's end
    torch.testing.assert_close(changed[0, 20:3180], torch.ones(3160), atol=2e-3, rtol=0)
    assert torch.equal(changed[1].flip(0)[3220:], torch.zeros(780))


def test_frames_follow_the_sound() -> None:
    assert speed_frames(7, 40, only(speed=1.0))[0].tolist() == list(range(7, 47))
    fast, slow = speed_frames(torch.tensor([7, 100]), 41, only(2, speed=[1.05, 1 / 1.05])).tolist()
    assert (fast[0], fast[-1]) == (7, 49)
    assert (slow[0], slow[-1]) == (100, 138)
    sample = SoundAugment(speed_chance=1.0).draw(np.random.default_rng(0))
    single = speed_frames(3, 25, sample)
    assert single.shape == (25,)
    assert torch.equal(single, speed_frames(3, 25, SoundChange(*(value[None] for value in sample)))[0])
    exact = 3 + np.arange(25) * float(sample.speed)
    assert np.abs(single.numpy() - exact).max() <= 0.5


@pytest.mark.parametrize("start", [5, 12])
def test_a_click_stays_on_its_frame(start: int) -> None:
    """In frame f there is a flash, and with it a click; in the sample they are less than half a frame apart.

    Of 17 samples at different speeds in rooms, with noise and another loudness, each is checked with clicks at some of
    its frames.
    """
    speeds = torch.linspace(0.95, 1.05, 17)
    change = drawn(ALWAYS, 17)._replace(speed=speeds)
    frames = speed_frames(torch.full((17,), start), 16, change)  # [B, 16], what the pictures of the sample show
    for k in (0, 4, 15):
        wave = torch.zeros(17, 30 * FRAME)
        wave[torch.arange(17), frames[:, k] * FRAME] = 0.9
        changed = change_sound(wave, change, start * FRAME)
        clicks = changed.abs().argmax(1)
        expected = start * FRAME + (frames[:, k] - start) * FRAME / speeds.double()
        assert (clicks - expected).abs().max() <= 1
        heard = (clicks - start * FRAME) / FRAME  # in frames of the sample
        assert (heard - k).abs().max() <= 0.5 / 0.95 + 0.01
        if k == 0:
            assert torch.equal(clicks, torch.full((17,), start * FRAME))


# --------------------------------------------------------------------------------------------------------------- room


def test_reverberation_decays_in_the_time_asked_for() -> None:
    """Schroeder's integral of the squared impulse response, its slope between -5 and -35 dB."""
    times = torch.tensor([0.1, 0.2, 0.4, 0.8])
    for seed in range(4):
        white = hash_normal(torch.arange(4) + 10 * seed, (2 * RATE,))
        response = reflections(white, times, torch.full((4,), 0.5)).double()
        energy = response.square().flip(1).cumsum(1).flip(1)
        for curve, rt60 in zip(energy, times.tolist(), strict=True):
            level = 10 * (curve / curve[0]).log10().numpy()
            part = (level < -5) & (level > -35)
            slope = np.polyfit(np.arange(2 * RATE)[part] / RATE, level[part], 1)[0]
            assert abs(-60 / slope - rt60) < 0.08 * rt60


def test_reverberation_has_the_level_asked_for_and_comes_after_the_direct_sound() -> None:
    levels = torch.tensor([1.0, 0.3, 0.0])
    response = reflections(hash_normal(torch.arange(3), (8000,)), torch.full((3,), 0.3), levels)
    torch.testing.assert_close(response.norm(dim=1), levels)
    assert torch.equal(response[:, 0], torch.zeros(3))


def test_a_room_is_a_convolution_with_its_impulse_response() -> None:
    change = only(rt60=0.3, reverberation=0.7)
    wave = speech()
    response = reflections(hash_normal(change.seed, (2, wave.shape[1]))[:, 0], change.rt60, change.reverberation)[0]
    response[0] += 1
    expected = np.convolve(wave[0].double().numpy(), response.double().numpy())[: wave.shape[1]]
    np.testing.assert_allclose(change_sound(wave, change, 0)[0].numpy(), expected, atol=1e-5)


# -------------------------------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("colour", [0.0, 1.0])
@pytest.mark.parametrize("snr", [0.0, 15.0, 30.0])
def test_noise_has_the_ratio_asked_for_to_the_speech_without_its_pauses(snr: float, colour: float) -> None:
    wave = 0.2 * tone(500).float().repeat(3, 1)
    wave[1, 4000:] = 0  # a quarter is speech
    wave[2] *= 0.001
    change = only(3, noise=10 ** (-snr / 20), colour=colour)
    noise = (change_sound(wave, change, 0) - wave).double().square().mean(1)
    for power, amplitude in zip(noise, (0.2, 0.2, 0.0002), strict=True):
        assert abs(decibel(amplitude**2 / 2 / power) - snr) < 0.5


def test_speech_is_measured_without_pauses_whatever_its_loudness() -> None:
    wave = speech()
    frames = wave[0].double().numpy().reshape(-1, 320)
    power = np.sort((frames**2).mean(1))
    expected = power[power > power[-1] / 10**2.5].mean()
    padded = torch.cat([wave, torch.zeros(1, 20_000)], dim=1)
    for factor in (1e-3, 1.0, 3.0):
        for sound in (wave, padded):
            np.testing.assert_allclose(speech_power(factor * sound).item(), factor**2 * expected, rtol=1e-5)
    assert expected > 1.2 * (frames**2).mean()  # there are pauses


def test_noise_is_white_or_pink() -> None:
    """Power per octave: equal when pink, doubled from each to the next when white; none below 50 Hz; 1 in all."""
    white = hash_normal(torch.arange(8), (8 * RATE,))
    for colour, step in ((0.0, 10 * math.log10(2)), (1.0, 0.0)):
        noise = coloured_noise(white, torch.full((8,), colour)).double()
        torch.testing.assert_close(noise.square().mean(1), torch.ones(8, dtype=torch.float64), atol=1e-5, rtol=0)
        power = torch.fft.rfft(noise).abs().square().mean(0)
        hertz = torch.arange(len(power)) / 8
        assert power[hertz < 49].sum() < 1e-9 * power.sum()
        octaves = [decibel(power[(hertz >= low) & (hertz < 2 * low)].sum()) for low in (125, 250, 500, 1000, 2000)]
        np.testing.assert_allclose(np.diff(octaves), step, atol=0.4)


def test_noise_and_room_are_new_for_each_seed() -> None:
    wave = speech().repeat(3, 1)
    change = only(3, noise=0.3, colour=0, reverberation=0.5, rt60=0.2)._replace(seed=torch.tensor([1, 2, 1]))
    changed = change_sound(wave, change, 0)
    assert torch.equal(changed[0], changed[2])
    apart = torch.corrcoef(torch.stack([changed[0] - wave[0], changed[1] - wave[1]]))[0, 1]
    assert abs(apart) < 0.3


# -------------------------------------------------------------------------------------------------------- SpecAugment


def test_spectrogram_masks_follow_from_torchs_generator_alone() -> None:
    """A stage seeds it by seed, iteration and rank before every step, so that masks repeat, also in resumed runs."""
    augment, mel = SpecAugment().train(), torch.ones(16, 1, 80, 16)
    torch.manual_seed(3)
    first, second = augment(mel), augment(mel)
    state = torch.get_rng_state()
    third = augment(mel)
    torch.manual_seed(3)
    assert torch.equal(augment(mel), first)
    assert not torch.equal(first, second)
    torch.set_rng_state(state)
    assert torch.equal(augment(mel), third)

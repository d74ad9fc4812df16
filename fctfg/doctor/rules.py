"""From what was measured to what is wrong and what to do: one table.

The first rule that applies names the likely cause: a rule that would explain those below it stands above them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fctfg.doctor.evidence import Evidence
from fctfg.doctor.sound import Sound

Verdict = Literal["ok", "suspect", "bad"]


@dataclass(frozen=True)
class Rule:
    """What is wrong when something holds.

    Attributes:
        name: short.
        check: of `Evidence`, that shows it.
        verdict: on this check.
        holds: whether it is so; asked only if the check was made.
        cause: why the expert does not learn; fields of the evidence in braces.
        remedy: what to do.
    """

    name: str
    check: str
    verdict: Literal["suspect", "bad"]
    holds: Callable[[Evidence], bool]
    cause: str
    remedy: str

    def applies(self, evidence: Evidence) -> bool:
        """Whether the check was made, and shows it."""
        return getattr(evidence, self.check) is not None and self.holds(evidence)


LITTLE_HOURS = 20.0  # fewer are named as a cause where Wav2Lip's expert stayed at chance
FEW_PEOPLE = 10  # so are one speaker, and 8 or 9 videos
FEW_HELD_OUT = 5  # people, whose accuracy says little of others

LONG = 3.0  # s: nine in ten clips of this length with their own sound have a sure offset (docs/log.md)


def _near_enough(sound: Sound) -> float:
    """Share of offsets near 0 from which on clips without a sure offset have their own sound after all."""
    return 0.8 if sound.seconds >= LONG else 0.5


RULES = (
    Rule(
        "clock",
        "clock",
        "bad",
        lambda e: e.clock.worst > 0,
        "picture and sound are read {clock.worst} frames apart ({clock})",
        "no data of yours is to blame: reinstall PyAV as setup.cfg pins it, prepare again, and report it if it stays",
    ),
    Rule(
        "silence",
        "sound",
        "bad",
        lambda e: e.sound.silent > 0.5,
        "{sound.silent:.0%} of the clips are silent, and silence fits every mouth",
        "find out why the videos have no sound (a lost or second track?), or choose the others: fctfg data query DIR "
        '"silence <= 0.6" --save spoken, and train with --data.view spoken',
    ),
    Rule(
        "offset",
        "sound",
        "bad",
        lambda e: e.sound.late > 0.3 and e.sound.unsure < 0.8,
        "the sound is not in step with the lips: of the clips whose offset is sure, {sound.late:.0%} are more than one "
        "frame off, by {sound.offset:+.0f} frames in the middle (> 0: the sound is late)",
        "prepare again into another folder with --correct-offset, which moves the sound to the lips; or choose the "
        'others: fctfg data query DIR "abs(offset) <= 1 and confidence > 1" --save synced',
    ),
    Rule(
        "foreign sound",
        "sound",
        "bad",
        lambda e: e.sound.unsure > 0.5 and e.sound.near < _near_enough(e.sound),
        "the sound is somebody else's: {sound.unsure:.0%} of the clips agree with their lips no more than with another "
        "person's sound, and {sound.near:.0%} have an offset near 0 (a guess: 10%)",
        "look at some clips (fctfg data show DIR --clips): dubbed films, voice-overs, music or exchanged sound files "
        'teach nothing; choose the others: fctfg data query DIR "confidence > 1 and abs(offset) <= 1" --save synced',
    ),
    Rule(
        "music",
        "sound",
        "bad",
        lambda e: e.sound.music > 0.5,
        "{sound.music:.0%} of the clips with sound are music or noise rather than speech",
        'choose speech: fctfg data query DIR "speech >= 0.3" --save speech, and train with --data.view speech',
    ),
    Rule(
        "broken",
        "overfit",
        "bad",
        lambda e: e.overfit is not None and e.overfit.decided and not e.overfit.learnt,
        "the network cannot even learn {overfit.clips} clips by heart (accuracy {overfit.accuracy:.2f} on what it has "
        "seen), so more data or time will not help",
        "look at what it sees (fctfg data show DIR --frames --points): are there mouths, and are they where the points "
        "are? If so, repeat it with more --overfit-iterations and with the sizes of configs/base.yaml",
    ),
    Rule(
        "another clock",
        "shift",
        "bad",
        lambda e: e.shift is not None and abs(e.shift.peak) > 1 and e.shift.accuracy[e.shift.peak] < 0.4,
        "the expert takes a sound that is {shift.peak:+d} frames late for the right one: it was trained on data with "
        "another offset than these",
        "prepare data of a run with --correct-offset and train it anew; an imported expert needs data that are in step "
        "by its measure: fctfg prepare --sync-expert FILE --correct-offset",
    ),
    Rule(
        "learnt by heart",
        "training",
        "bad",
        lambda e: (
            e.training is not None and e.training.loss < 0.8 * e.training.chance and e.training.val_accuracy < 0.65
        ),
        "the run knows its training clips (loss {training.loss:.2f}, a guess {training.chance:.2f}) but not held-out "
        "people (accuracy {training.val_accuracy:.2f}): {amount.train.hours:.2g} h of {amount.train.identities} people "
        "are too few to generalise from",
        "add hours and above all people, keep model.init_args.augment on, or start from a published expert: "
        "--model.init_args.init_from.sync_expert=wav2lip-syncnet",
    ),
    Rule(
        "not begun",
        "training",
        "suspect",
        lambda e: e.training is not None and e.training.loss > 0.9 * e.training.chance,
        "the run still guesses on its own training clips (loss {training.loss:.2f}, a guess {training.chance:.2f}) "
        "after {training.iterations} iterations at learning rate {training.learning_rate:g}",
        "train on (Wav2Lip's expert left chance after 150,000 to 200,000 iterations), with a learning rate between "
        "1e-4 and 1e-3, or start from a published expert: --model.init_args.init_from.sync_expert=wav2lip-syncnet",
    ),
    Rule(
        "other data",
        "training",
        "suspect",
        lambda e: e.training is not None and not e.training.same_data,
        "the run was trained on another data set than this one, so that it may know the people who are held out here",
        "look at the data set that the run was trained on (data.root in its config.yaml)",
    ),
    Rule(
        "offset of some",
        "sound",
        "suspect",
        lambda e: 0.1 < e.sound.late <= 0.3,
        "{sound.late:.0%} of the clips whose offset is sure are more than one frame off",
        'choose the others: fctfg data query DIR "abs(offset) <= 1 and confidence > 1" --save synced',
    ),
    Rule(
        "unsure",
        "sound",
        "suspect",
        lambda e: e.sound.unsure > 0.5 and e.sound.near >= _near_enough(e.sound),
        "{sound.unsure:.0%} of the clips agree with their lips no more than with another person's sound, though most "
        "offsets are near 0: the clips are short, the mouths small or still",
        "prepare longer clips (3 s and more), and compare views: fctfg data query DIR",
    ),
    Rule(
        "silence of some",
        "sound",
        "suspect",
        lambda e: 0.2 < e.sound.silent <= 0.5,
        "{sound.silent:.0%} of the clips are silent",
        'choose the others: fctfg data query DIR "silence <= 0.6" --save spoken',
    ),
    Rule(
        "several people",
        "sound",
        "suspect",
        lambda e: e.sound.crowded > 0.3,
        "{sound.crowded:.0%} of the clips are from videos with several people, one of whom speaks at a time",
        'keep who speaks: fctfg data query DIR "confidence > 1" --save speakers',
    ),
    Rule(
        "no scores",
        "sound",
        "suspect",
        lambda e: e.sound.unknown > 0.5,
        "{sound.unknown:.0%} of the clips have no scores of offset, confidence and silence, so that nothing is known "
        "of their sound",
        "prepare the videos again with this version of fctfg",
    ),
    Rule(
        "lost sources",
        "sources",
        "suspect",
        lambda e: e.sources is not None and not e.sources.rates,
        "none of the videos of the data set is in the folder of --sources",
        "name the folder that fctfg prepare was given",
    ),
    Rule(
        "slow sources",
        "sources",
        "suspect",
        lambda e: e.sources is not None and e.sources.slow > 0.3,
        "{sources.slow:.0%} of the videos have fewer than 25 frames per second, so that pictures are repeated",
        "use recordings of 25 frames per second and more",
    ),
    Rule(
        "few people",
        "amount",
        "suspect",
        lambda e: e.amount.train.identities < FEW_PEOPLE,
        "there are only {amount.train.identities} people to learn from: an expert learns faces and "
        "voices by heart instead of lips",
        "add people, or start from a published expert: --model.init_args.init_from.sync_expert=wav2lip-syncnet",
    ),
    Rule(
        "few hours",
        "amount",
        "suspect",
        lambda e: e.amount.train.hours < LITTLE_HOURS,
        "there is only {amount.train.hours:.2g} h to learn from, where less than 20 h is known to leave an "
        "expert at chance",
        "add hours, or start from a published expert: --model.init_args.init_from.sync_expert=wav2lip-syncnet",
    ),
    Rule(
        "poor expert",
        "shift",
        "suspect",
        lambda e: e.shift is not None and e.shift.measurement.accuracy < 0.85,
        "the expert's accuracy on held-out people is {shift.measurement.accuracy:.2f} (a guess: 0.50), where stage 3 "
        "asks for 0.85",
        "if nothing else here explains it, train longer, until val/accuracy does not rise any more",
    ),
    Rule(
        "few held out",
        "shift",
        "suspect",
        lambda e: e.shift is not None and e.shift.measurement.people < FEW_HELD_OUT,
        "the expert's accuracy is of {shift.measurement.people} held-out people and {shift.measurement.clips} clips "
        "only; of others it may be far from {shift.measurement.accuracy:.2f}",
        "prepare more people for the split val, and measure with more --clips",
    ),
    Rule(
        "undecided",
        "overfit",
        "suspect",
        lambda e: e.overfit is not None and not e.overfit.decided,
        "{overfit.seconds:.0f} s were not enough to see whether the network can learn {overfit.clips} clips by heart",
        "give it more time (--overfit-seconds), or compute on a GPU (--device cuda)",
    ),
)


@dataclass(frozen=True)
class Finding:
    """What one rule has found.

    Attributes:
        rule: its name.
        check: that shows it.
        verdict: on the check.
        cause, remedy: in words.
    """

    rule: str
    check: str
    verdict: Literal["suspect", "bad"]
    cause: str
    remedy: str


def diagnose(evidence: Evidence) -> list[Finding]:
    """The rules that apply, the likeliest cause first: what is bad before what is suspect, then by the table."""
    found = [rule for rule in RULES if rule.applies(evidence)]
    found.sort(key=lambda rule: rule.verdict != "bad")
    fields = vars(evidence)
    return [Finding(r.name, r.check, r.verdict, r.cause.format(**fields), r.remedy) for r in found]


def verdicts(evidence: Evidence, findings: list[Finding]) -> dict[str, Verdict]:
    """The worst verdict on each check that was made."""
    result: dict[str, Verdict] = {name: "ok" for name, _ in evidence.made()}
    for finding in reversed(findings):
        result[finding.check] = finding.verdict
    return result

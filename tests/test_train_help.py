"""What `fctfg train` says of itself."""

import re

import pytest

from fctfg.cli import main
from fctfg.stages import STAGES

NAMES = [stage.__name__ for stage in STAGES]


def described_and_not(text: str) -> tuple[set[str], set[str]]:
    """Options with words between their metavar and their type, and options without."""
    options = set(re.findall(r"^  (--\S+) ", text, re.MULTILINE))
    bare = set(re.findall(r"^  (--\S+) \S+\s+\(", text, re.MULTILINE))
    return options - bare, bare


def test_help_names_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("usage: fctfg train --config")
    assert set(NAMES) <= set(re.findall(r"\w+", told[told.rindex("--model.help") :]))
    described, bare = described_and_not(told)
    assert {"--run", "--data.root", "--networks.generator.channel_base"} <= described
    assert not bare


@pytest.mark.parametrize("stage", NAMES)
def test_every_setting_of_a_stage_is_described(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model.help", stage]) == 0
    text = capsys.readouterr().out
    described, bare = described_and_not(text[text.index("Help for") :])
    assert {"--model.learning_rate", "--model.networks.audio_encoder.dim"} <= described
    assert not bare

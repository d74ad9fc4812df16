"""A diagnosis for people: as a table on the terminal, and as a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

import fctfg.report as page
from fctfg.doctor.shift import shift_plot
from fctfg.doctor.sync import Diagnosis

TITLES = {
    "amount": "how much there is",
    "sound": "sound and lips, by the reference expert",
    "sources": "frame rates of the videos",
    "clock": "click and flash",
    "training": "the run beside a guess",
    "overfit": "a few clips by heart",
    "shift": "accuracy against shift, held out",
}


def conclusion(diagnosis: Diagnosis) -> list[str]:
    """What is wrong and what to do, the likeliest cause first; one sentence each."""
    if not diagnosis.findings:
        return ["Nothing is wrong with what was looked at."]
    first, *others = diagnosis.findings
    lines = [f"Most likely: {first.cause}.", f"Do this: {first.remedy}."]
    return lines + [f"Also: {other.cause}. Then: {other.remedy}." for other in others]


def print_diagnosis(diagnosis: Diagnosis) -> None:
    """Print a table of the checks, the plot of the shifts, and the conclusion."""
    console = Console(markup=False, highlight=False, soft_wrap=False)
    table = Table("check", "verdict", "measured")
    for name, found in diagnosis.evidence.made():
        table.add_row(TITLES[name], diagnosis.verdicts[name], str(found))
    console.print(table)
    for note in diagnosis.notes:
        print(note)
    if diagnosis.evidence.shift is not None:
        print("\naccuracy of a window's own sound against one that is so many frames late; | is a guess")
        print(shift_plot(diagnosis.evidence.shift.accuracy))
    print()
    for line in conclusion(diagnosis):
        print(line)


def write_doctor_report(path: Path, diagnosis: Diagnosis) -> None:
    """Write the diagnosis as one HTML file that needs no network.

    Args:
        path: the file.
        diagnosis: what was found.

    Raises:
        FctfgError: it cannot be written.
    """
    evidence, verdicts = diagnosis.evidence, diagnosis.verdicts
    checks: list[page.Block] = []
    for name, found in evidence.made():
        checks += [page.Heading(f"{TITLES[name]}: {verdicts[name]}"), page.Text(str(found))]
    told: list[page.Block] = [
        page.Notice(line) if number < 2 else page.Text(line) for number, line in enumerate(conclusion(diagnosis))
    ]
    sections = [
        page.Section("Conclusion", told),
        page.Section("Checks", [*checks, *map(page.Text, diagnosis.notes)]),
    ]
    if offsets := evidence.sound.offsets:
        bars = [(f"{frames:+d}", float(count), f"{count} clips") for frames, count in sorted(offsets.items())]
        lead = page.Text("Offset of the sound, in frames (> 0: late), of the clips that are not silent.")
        sections.append(page.Section("Offsets by the reference expert", [lead, page.Bars(bars)]))
    if shift := evidence.shift:
        charts: list[page.Block] = [
            page.Chart(
                "accuracy against a sound that is so many frames late",
                [
                    ("accuracy", sorted(shift.accuracy.items())),
                    ("a guess", [(frames, 0.5) for frames in sorted(shift.accuracy)]),
                ],
            ),
            page.Chart("mean cosine with it", [("cosine", sorted(shift.likeness.items()))]),
        ]
        sections.append(page.Section("What the expert hears of a shift", charts))
    title = f"{diagnosis.data} (data set {diagnosis.dataset_hash[:12]})"
    if diagnosis.expert is not None:
        title += f", expert {diagnosis.expert}"
    page.write_report(path, "Sync doctor", title, sections)

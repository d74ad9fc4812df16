"""Figures that only all clips together have: distances of distributions, and who is taken for whom."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fctfg.evaluation.judges import Judges
from fctfg.evaluation.run import Done
from fctfg.evaluation.summary import Whole
from fctfg.metrics.features import window_features
from fctfg.metrics.frechet import Moments, frechet_distance
from fctfg.metrics.verification import auc, cosine_matrix, equal_error_rate, within_and_across

Vectors = npt.NDArray[np.float32]


def person_vectors(done: Sequence[Done], part: str) -> tuple[list[str], list[str], Vectors]:
    """One embedding for each clip: the mean over its frames.

    Args:
        done: what was measured.
        part: of `Measurement.embeddings`.

    Returns:
        (names of the clips, their people, [N, D]); clips without a face in that part are left out.
    """
    found = [
        (one.row.name, one.row.person, one.measured.embeddings[part].mean(0))
        for one in done
        if one.measured is not None and len(one.measured.embeddings.get(part, ()))
    ]
    if not found:
        return [], [], np.zeros((0, 1), np.float32)
    names, people, vectors = zip(*found, strict=True)
    return list(names), list(people), np.stack(vectors)


def whole_figures(done: Sequence[Done], judges: Judges) -> dict[str, Whole]:
    """Figures of the whole; those that cannot be told are left out.

    Args:
        done: what was measured.
        judges: that measured it.

    Returns:
        `FID[...]`, `FVD-like[...]`: results against drivers, over their first frames and stretches of 16.
        `canonical pose variance`: of the head poses of the canonical images over that of their portraits, if weights
        were asked, of the clips where both show a face. `verification AUC[...]` and `verification EER[...]`: whether a
        result is taken for the person whose portrait it was made of, if there are two people.
    """
    name, figures = judges.recogniser_name, dict[str, Whole]()
    measured = [one.measured for one in done if one.measured is not None and one.measured.features]
    if measured and judges.features is not None:
        for base, each in (("FID", lambda features: features), ("FVD-like", window_features)):
            both = [_moments([each(found.features[part]) for found in measured]) for part in ("made", "shown")]
            if min(one.count for one in both) > 1:
                figures[f"{base}[{judges.features.name}]"] = Whole(frechet_distance(*both), len(measured))
    parts = [f"{what} pose" for what in ("canonical", "portrait")]
    seen = [one for one in done if one.measured and all(len(one.measured.embeddings.get(part, ())) for part in parts)]
    if len(seen) > 1:
        canonical, portrait = (float(person_vectors(seen, part)[2].var(0).sum()) for part in parts)
        figures["canonical pose variance"] = Whole(canonical / portrait if portrait else np.nan, len(seen))
    _, made_people, made = person_vectors(done, "made")
    _, people, portraits = person_vectors(done, "source")
    if len(set(made_people)) > 1 and len(set(people)) > 1:
        similarity = cosine_matrix(made, portraits)
        same, different = within_and_across(similarity, np.array(made_people), np.array(people))
        figures[f"verification AUC[{name}]"] = Whole(auc(same, different), len(made))
        figures[f"verification EER[{name}]"] = Whole(equal_error_rate(same, different), len(made))
    return figures


def _moments(features: Sequence[Vectors]) -> Moments:
    found = Moments(features[0].shape[1])
    for each in features:
        found.update(each)
    return found

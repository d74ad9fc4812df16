"""temporary"""

from fctfg.data.scores.faces import mouth_opening
from fctfg.metrics.jaw import pearson


def motion_figures(landmarks, driving, side, footage, curves):
    curves["opening made"] = mouth_opening(landmarks)
    curves["opening shown"] = mouth_opening(driving)
    return {"opening correlation": pearson(curves["opening made"], curves["opening shown"])}

"""Where a head is turned to, from the 68 landmarks of iBUG 300-W."""

import numpy as np
import numpy.typing as npt

from fctfg.faces.boxes import Floats

# The points that expressions and speech move least: where the jaw begins at the ears, nose, corners of the eyes.
RIGID = (0, 1, 15, 16, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 39, 42, 45)
# Their places on a head that looks into the camera: x to the viewer's right, y down, z away from the camera, the outer
# corners of the eyes at distance 1. scripts/fit_face_template.py fits and prints them.
TEMPLATE = np.array(
    [
        [-0.821, -0.282, 0.624],
        [-0.810, -0.059, 0.605],
        [0.810, -0.059, 0.605],
        [0.821, -0.282, 0.624],
        [0.000, -0.251, -0.232],
        [0.000, -0.090, -0.281],
        [0.000, 0.068, -0.340],
        [0.000, 0.229, -0.398],
        [-0.159, 0.307, -0.215],
        [-0.083, 0.339, -0.250],
        [0.000, 0.366, -0.276],
        [0.083, 0.339, -0.250],
        [0.159, 0.307, -0.215],
        [-0.499, -0.251, 0.034],
        [-0.207, -0.214, -0.034],
        [0.207, -0.214, -0.034],
        [0.499, -0.251, 0.034],
    ]
)


def rotation_matrix(pose: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The rotation R = R_y(yaw) R_x(pitch) R_z(roll) of a head pose: it rolls first and yaws last.

    Args:
        pose: [T, 3] yaw, pitch, roll in degrees, signs as in `head_pose`.

    Returns:
        float64 [T, 3, 3], acting on columns (x to the viewer's right, y down, z away from the camera).
    """
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians(pose.astype(np.float64))).T for f in (np.cos, np.sin))
    return np.stack(
        [
            np.stack([cy * cr + sy * sp * sr, sy * sp * cr - cy * sr, -sy * cp], axis=-1),
            np.stack([cp * sr, cp * cr, sp], axis=-1),
            np.stack([sy * cr - cy * sp * sr, -sy * sr - cy * sp * cr, cy * cp], axis=-1),
        ],
        axis=1,
    )


def head_pose(landmarks: Floats, template: npt.NDArray[np.float64] = TEMPLATE) -> Floats:
    """Head pose by a scaled-orthographic fit of a rigid face template.

    With the template's points x and the landmarks p, both centred, the affine least-squares fit is

        A = P^T X (X^T X)^-1        [2, 3]

    and the rotation's first two rows are the closest ones to it, U V^T of A = U S V^T. The third is their cross
    product.

    The template is an average face, so the pose of a person has an offset that is constant for them: a short nose looks
    like a nose turned up. On rendered people that the template has not seen (3 people, 792 frames; `python
    scripts/fit_face_template.py`) the mean errors of yaw, pitch and roll are 1.8, 2.6 and 0.7 degrees, the correlations
    with the truth 0.98, 0.72 and 0.93; pitch varies by 3 degrees only there.

    Args:
        landmarks: float32 [T, 68, 2] (x, y) in pixels.
        template: [17, 3] places of the `RIGID` points, another one than the average face where it is known.

    Returns:
        float32 [T, 3]: yaw, pitch, roll in degrees; > 0 is to the viewer's right, up, clockwise as seen. Yaw is within
        ±90 (an orthographic picture of landmarks does not tell more).

    Raises:
        ValueError: `landmarks` has another shape.
    """
    if landmarks.ndim != 3 or landmarks.shape[1:] != (68, 2):
        raise ValueError(f"landmarks must be [T, 68, 2], got {list(landmarks.shape)}")
    points = landmarks.astype(np.float64)[:, RIGID]
    points -= points.mean(axis=1, keepdims=True)
    affine = np.einsum("tpi,jp->tij", points, np.linalg.pinv(template - template.mean(axis=0)))
    left, _, right = np.linalg.svd(affine, full_matrices=False)
    rows = left @ right  # [T, 2, 3]
    toward = np.cross(rows[:, 0], rows[:, 1])
    yaw = np.arctan2(-rows[:, 0, 2], toward[:, 2])
    pitch = np.arcsin(np.clip(rows[:, 1, 2], -1, 1))
    roll = np.arctan2(rows[:, 1, 0], rows[:, 1, 1])
    return np.degrees(np.stack([yaw, pitch, roll], axis=1)).astype(np.float32)

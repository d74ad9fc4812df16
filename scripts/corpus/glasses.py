"""Spectacles: two rims, a bridge and two temples, as flat ribbons."""

import numpy as np


def spectacles(face: np.ndarray, eyes: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points [G, 3] and triangles [M, 3] of glasses on the points `face` [P, 3] with eye centres [2, 3]."""
    width, height = rng.uniform(0.023, 0.027), rng.uniform(0.016, 0.023)
    power, bar = rng.choice([2.0, 3.5]), rng.uniform(0.0012, 0.0022)
    middle = face[np.abs(face[:, 0]) < 0.02]
    nose = middle[np.abs(middle[:, 2] - eyes[:, 2].mean()) < 0.01]
    front = nose[:, 1].min() - 0.004
    points: list[np.ndarray] = []
    faces: list[np.ndarray] = []

    def ribbon(inner: np.ndarray, outer: np.ndarray) -> None:
        start, n = sum(len(p) for p in points), len(inner)
        points.extend([inner, outer])
        i = np.arange(n - 1) + start
        faces.append(np.stack([i, i + 1, i + n], 1))
        faces.append(np.stack([i + 1, i + n + 1, i + n], 1))

    def bend(x: np.ndarray) -> np.ndarray:
        return np.sign(x) * np.abs(x) ** (2 / power)  # a superellipse: round for 2, squarish above

    up = np.array([0, 0, bar])
    turn = np.linspace(0, 2 * np.pi, 33)
    ring = np.stack([bend(np.cos(turn)), 0 * turn, bend(np.sin(turn))], 1)
    for eye in eyes:
        side = np.sign(eye[0])
        at = np.array([eye[0] + side * 0.002, front, eye[2] - 0.003])
        bow = np.array([0, 0.25, 0]) * (side * ring[:, :1] * width)
        ribbon(at + ring * [width, 1, height] + bow, at + ring * [width + 2 * bar, 1, height + 2 * bar] + bow)
        hinge = at + np.array([side * (width + bar), 0.006, height * 0.4])
        ear = np.array([side * 0.078, hinge[1] + 0.10, hinge[2] + 0.002])
        temple = np.stack([hinge, hinge + np.array([side * 0.004, 0.008, 0]), ear])
        ribbon(temple - up, temple + up)
    x = np.array([eyes[0, 0] + width - 0.002, eyes[1, 0] - width + 0.002])
    bridge = np.stack([x, np.full(2, front - 0.001), np.full(2, eyes[:, 2].mean() + 0.002)], 1)
    ribbon(bridge - up, bridge + up)
    return np.concatenate(points), np.concatenate(faces)

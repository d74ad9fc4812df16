"""Hair as one surface from the crown to the hairline or, when long, down to the shoulders."""

from dataclasses import dataclass

import numpy as np

from corpus.paint import smooth_noise, smoothstep

AROUND, DOWN = 72, 26  # grid


@dataclass(frozen=True)
class HairStyle:
    """Lengths in metres."""

    top: float  # thickness above the crown
    side: float  # thickness at the sides and the back
    forehead: float  # height of the hairline above the eyes
    fringe: float  # how far hair falls over the forehead
    length: float  # 0: cut short; otherwise how far it falls below the eyes
    opening: float  # half angle of the face's opening in long hair, radians
    parting: float  # -1..1: side to which the hair is combed
    curls: float  # amplitude of the surface's waves
    curl_size: float


@dataclass(frozen=True)
class HairMesh:
    """Corners equal points; `weight` is how far each moves with the head."""

    points: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    weight: np.ndarray


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles [M, 3] over a grid of points numbered row by row."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    return np.concatenate([np.stack([a, d, c], -1).reshape(-1, 3), np.stack([a, c, b], -1).reshape(-1, 3)])


def _radius(directions: np.ndarray, skull: np.ndarray) -> np.ndarray:
    """Distance of the skull's surface from its centre along unit directions [..., 3]; skull [N, 3] is centred."""
    length = np.linalg.norm(skull, axis=-1)
    cosine = directions @ (skull / length[:, None]).T
    share = np.exp(300.0 * (cosine - cosine.max(-1, keepdims=True)))
    return (share * length).sum(-1) / share.sum(-1)


def grow(style: HairStyle, skull: np.ndarray, eye_height: float, rng: np.random.Generator) -> HairMesh:
    """Hair over the points `skull` [N, 3] (head without ears) of one identity."""
    cap = skull[skull[:, 2] > eye_height + 0.02]
    centre = np.array([0.0, (cap[:, 1].min() + cap[:, 1].max()) / 2 + 0.012, eye_height + 0.015])
    around = np.linspace(-np.pi, np.pi, AROUND + 1)  # 0 = front
    side = np.abs(around)
    # height of the hairline above the eyes: forehead, temple, above the ear, nape
    knots = [0.0, 0.55, 0.95, 1.25, 1.60, 1.95, 2.4, np.pi]
    short = [style.forehead, style.forehead - 0.004, 0.030, -0.012, 0.016, -0.025, -0.070, -0.078]
    line = np.interp(side, knots, short)
    line -= style.fringe * smoothstep(0.95, 0.55, side) * (1 + 0.25 * style.parting * np.sin(around))
    line = np.convolve(np.pad(line, 2, mode="wrap"), np.ones(5) / 5, "valid")

    # polar angle at which each azimuth ends
    polar = np.linspace(0.02, 2.5, 48)
    grid = np.stack(
        [
            np.sin(polar)[None] * np.sin(around)[:, None],
            -np.sin(polar)[None] * np.cos(around)[:, None],
            np.broadcast_to(np.cos(polar)[None], (len(around), len(polar))),
        ],
        -1,
    )  # [A, 48, 3]
    radius = _radius(grid, skull - centre)
    height = centre[2] + grid[..., 2] * radius - eye_height
    end = np.array([np.interp(-target, -h, polar) for h, target in zip(height, line, strict=True)])

    s = np.linspace(0, 1, DOWN)
    angle = end[:, None] * s  # [A, D]
    direction = np.stack(
        [np.sin(angle) * np.sin(around)[:, None], -np.sin(angle) * np.cos(around)[:, None], np.cos(angle)], -1
    )
    reach = np.stack([np.interp(a, polar, r) for a, r in zip(angle, radius, strict=True)])
    thick = style.side + (style.top - style.side) * smoothstep(1.25, 0.35, angle)
    thick = thick * (1 + 0.35 * style.parting * np.sin(around)[:, None] * np.sin(angle))
    root = 0.35 if style.fringe > 0.01 else 0.15
    thick = 0.0025 + thick * (root + (1 - root) * smoothstep(1.0, 0.72, s)[None])
    if style.curls > 0:
        unit = direction * 0.1
        thick = thick + style.curls * smooth_noise(unit, style.curl_size, rng) * smoothstep(1.0, 0.8, s)[None]
    points = centre + direction * (reach + np.maximum(thick, 0.002))[..., None]

    if style.length > 0:
        # beyond the opening the surface leaves the head at the temples and falls
        falls = smoothstep(style.opening - 0.12, style.opening + 0.12, side)[:, None]
        bend = 1.30
        a = np.minimum(bend, 10.0) * np.minimum(s / 0.5, 1.0)
        a = np.broadcast_to(a[None], angle.shape)
        out = np.stack([np.sin(a) * np.sin(around)[:, None], -np.sin(a) * np.cos(around)[:, None], np.cos(a)], -1)
        reach = np.stack([np.interp(q, polar, r) for q, r in zip(a, radius, strict=True)])
        volume = style.side + (style.top - style.side) * smoothstep(1.25, 0.35, a)
        if style.curls > 0:
            volume = volume + style.curls * smooth_noise(out * 0.1, style.curl_size, rng)
        long = centre + out * (reach + 0.003 + volume)[..., None]
        fall = np.clip((s - 0.5) / 0.5, 0, 1)[None]
        bottom = eye_height - style.length * (1 + 0.08 * smooth_noise(around[:, None] * [1.0], 0.5, rng))
        start = long[:, DOWN // 2]
        long[..., 2] = np.where(
            fall > 0, start[:, None, 2] + fall * (bottom[:, None] - start[:, None, 2]), long[..., 2]
        )
        flare = 1 + 0.10 * np.sin(fall * np.pi) - 0.16 * fall**2
        if style.curls > 0:
            wave = np.stack([np.broadcast_to(around[:, None], a.shape) * 0.1, np.broadcast_to(fall * 0.2, a.shape)], -1)
            flare = flare + style.curls / 0.1 * 0.7 * smooth_noise(wave, style.curl_size, rng) * (fall > 0)
        for k in (0, 1):
            long[..., k] = np.where(fall > 0, centre[k] + (start[:, None, k] - centre[k]) * flare, long[..., k])
        points = points + (long - points) * falls[..., None]

    uv = np.stack(np.broadcast_arrays(((around + np.pi) / (2 * np.pi))[:, None] * 1.0, s[None]), -1)
    faces = _grid_faces(AROUND + 1, DOWN)
    flat = points.reshape(-1, 3)
    weight = smoothstep(eye_height - 0.26, eye_height - 0.10, flat[:, 2]) * 0.5 + 0.5
    return HairMesh(flat, uv.reshape(-1, 2), faces, weight)


def bun(skull: np.ndarray, rng: np.random.Generator) -> HairMesh:
    """A knot of hair on the crown of `skull` [N, 3]."""
    around, down = 13, 9
    t, p = np.meshgrid(np.linspace(0, 2 * np.pi, around), np.linspace(0, np.pi, down), indexing="ij")
    ball = np.stack([np.sin(p) * np.cos(t), np.sin(p) * np.sin(t), np.cos(p)], -1).reshape(-1, 3)
    where = skull[skull[:, 2].argmax()] + np.array([0, 0.01, 0.018])
    uv = np.stack([t / 6.3, p / 3.5], -1).reshape(-1, 2)  # stays clear of the ragged ends of the texture
    return HairMesh(where + ball * rng.uniform(0.024, 0.036), uv, _grid_faces(around, down), np.ones(len(ball)))

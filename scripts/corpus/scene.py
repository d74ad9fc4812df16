"""One clip's surroundings (light, camera, background) and the drawing of its frames."""

from dataclasses import dataclass

import cv2
import numpy as np

from corpus.body import Body, Material
from corpus.paint import linear, smooth_noise
from corpus.person import Person
from corpus.raster import (
    ATLAS,
    CLOTH,
    N_ATTRIBUTES,
    OCCLUSION,
    SHADOW,
    depth_map,
    develop,
    shade,
    vertex_normals,
    visible,
)

SAMPLES = 2  # per pixel and direction
SHADOW_SIZE = 192
DISTANCE = 1.15  # m from the camera to the face
WINDOW = 0.305  # m shown across the picture at the face's distance


@dataclass(frozen=True)
class Surroundings:
    """Light and view of one clip."""

    key: np.ndarray  # unit vector to the light
    key_colour: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    background: np.ndarray  # [S, S, 3] linear
    zoom: float


def _background(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size, size, 3] linear: plain, gradient, blotches, blurred shelves or a window."""
    v, u = np.mgrid[0:size, 0:size] / size
    first, second = rng.uniform(0.08, 0.92, size=(2, 3))
    grey = rng.uniform(0, 0.7)
    first, second = (c * (1 - grey) + c.mean() * grey for c in (first, second))
    kind = rng.choice(["plain", "gradient", "blotches", "shelves", "window"])
    if kind == "plain":
        image = np.ones((size, size, 3)) * first * (1 - 0.12 * np.hypot(u - 0.5, v - 0.5))[..., None]
    elif kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        t = np.clip(0.5 + (u - 0.5) * np.cos(angle) + (v - 0.5) * np.sin(angle), 0, 1)[..., None]
        image = first * (1 - t) + second * t
    elif kind == "blotches":
        t = 0.5 + 0.25 * smooth_noise(np.stack([u, v], -1), 0.12, rng)
        image = first + (second - first) * np.clip(t, 0, 1)[..., None]
    elif kind == "shelves":
        image = np.ones((size, size, 3)) * first * 0.6
        for row in np.arange(-0.05, 1.0, rng.uniform(0.18, 0.28)):
            x = 0.0
            while x < 1:
                w, h = rng.uniform(0.02, 0.06), rng.uniform(0.10, 0.17)
                colour = 0.7 * second + 0.3 * rng.uniform(0.05, 0.8, size=3)
                top, left = int((row + 0.2 - h) * size), int(x * size)
                image[max(top, 0) : max(int((row + 0.2) * size), 0), left : int((x + w) * size)] = colour
                x += w + 0.004
        image = cv2.GaussianBlur(image, (0, 0), size * 0.016)
    else:
        image = np.ones((size, size, 3)) * first * 0.7
        left, top = rng.uniform(-0.1, 0.7), rng.uniform(-0.2, 0.2)
        pane = (u > left) & (u < left + 0.4) & (v > top) & (v < top + 0.6)
        bars = (np.abs(u - left - 0.2) < 0.012) | (np.abs(v - top - 0.3) < 0.012)
        image[pane & ~bars] = 0.35 * second + 0.6
        image = cv2.GaussianBlur(image, (0, 0), size * 0.014)
    return linear(np.clip(image, 0, 1)).astype(np.float32)


def surroundings(size: int, rng: np.random.Generator) -> Surroundings:
    """Draw light, zoom and background of a clip with frames of `size` px."""
    azimuth, elevation = rng.uniform(-1.0, 1.0), rng.uniform(0.15, 0.7)
    key = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    warm = rng.normal() * 0.06
    strength = rng.uniform(0.55, 0.95)
    colour = np.array([1 + warm, 1.0, 1 - warm])
    cool = np.array([1 - warm, 1.0, 1 + warm])
    ambient = rng.uniform(0.34, 0.52)
    return Surroundings(
        key=key,
        key_colour=colour * strength,
        sky=cool * ambient,
        ground=colour * ambient * rng.uniform(0.4, 0.75),
        background=_background(size * SAMPLES, rng),
        zoom=rng.uniform(0.95, 1.06),
    )


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """[3, 3] of a head pose in degrees: yaw > 0 to the viewer's right, pitch > 0 up, roll > 0 clockwise as seen."""
    a, b, c = np.radians([yaw, -pitch, roll])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    return about_z @ about_x @ about_y


class Painter:
    """Draws frames of one person in one surrounding."""

    def __init__(self, body: Body, person: Person, place: Surroundings, size: int) -> None:
        """`size` is the side of the square frames in px."""
        self.body, self.person, self.place, self.size = body, person, place, size
        self._casts = person.mesh.material != Material.GLASSES
        self._attributes = np.zeros((len(person.mesh.vertex), N_ATTRIBUTES))
        self._attributes[:, ATLAS : ATLAS + 2] = person.mesh.atlas_xy
        self._attributes[:, OCCLUSION] = person.mesh.occlusion
        self._attributes[:, CLOTH] = person.collar
        sampled = size * SAMPLES
        self._depth = np.zeros((sampled, sampled), dtype=np.float32)
        self._front = np.zeros((sampled, sampled), dtype=np.int32)
        self._weights = np.zeros((sampled, sampled, 2), dtype=np.float32)
        self._canvas = np.zeros((sampled, sampled, 3), dtype=np.float32)
        self._shadow = np.zeros((SHADOW_SIZE, SHADOW_SIZE), dtype=np.float32)
        right = np.cross([0.0, 0.0, 1.0], place.key)
        right /= np.linalg.norm(right)
        self._light = np.stack([right, np.cross(place.key, right), -place.key])

    def draw(
        self, face: np.ndarray, yaw: float, pitch: float, roll: float, shift: np.ndarray
    ) -> tuple[np.ndarray, float, np.ndarray]:
        """One frame.

        Args:
            face: displacement of the body's points [P, 3] by the face actions, metres.
            yaw, pitch, roll: head pose in degrees.
            shift: [3] displacement of the whole person, metres.

        Returns:
            uint8 [size, size, 3] RGB, the inner-lip gap in px of the frame, and five points [5, 2] as (x, y) in px:
            eyes (viewer's left first), tip of the nose, corners of the mouth.
        """
        person, mesh, place = self.person, self.person.mesh, self.place
        points = mesh.rest.copy()
        points[: len(face)] += face
        weight = mesh.head_weight[:, None]
        turned = (points - person.pivot) @ rotation(yaw, pitch, roll).T + person.pivot
        points = points + weight * (turned - points) + shift

        canvas_size = self.size * SAMPLES
        away = DISTANCE + points[:, 1] - person.aim[1]
        scale = canvas_size / WINDOW * place.zoom * DISTANCE / away
        screen = np.stack(
            [
                canvas_size / 2 + (points[:, 0] - person.aim[0]) * scale,
                canvas_size * 0.53 - (points[:, 2] - person.aim[2]) * scale,
                away,
            ],
            1,
        )
        upper, lower = screen[self.body.lips[0]], screen[self.body.lips[1]]
        gap = float(np.linalg.norm(upper[:2] - lower[:2])) / SAMPLES

        body = self.body
        five = np.stack(
            [
                *(screen[side].mean(0) for side in body.eyes),
                screen[body.nose],
                screen[body.mouth_corners[0]],
                screen[body.mouth_corners[1]],
            ]
        )[:, :2]

        attributes = self._attributes
        attributes[:, :3] = vertex_normals(points, mesh.point_faces)[mesh.vertex]
        lit = (points - person.aim) @ self._light.T
        lit[:, :2] = lit[:, :2] * (SHADOW_SIZE / 0.45) + SHADOW_SIZE / 2
        attributes[:, SHADOW : SHADOW + 3] = lit[mesh.vertex]
        depth_map(attributes[:, SHADOW : SHADOW + 3], mesh.faces, self._casts, self._shadow)
        visible(
            screen[mesh.vertex], mesh.faces, mesh.material, person.table, person.atlas, attributes,
            self._depth, self._front, self._weights,
        )  # fmt: skip
        self._canvas[:] = place.background
        shade(
            self._canvas, self._front, self._weights, mesh.faces, mesh.material, person.table, attributes,
            person.atlas, person.cloth, self._shadow, place.key, place.key_colour, place.sky, place.ground,
        )  # fmt: skip
        return develop(self._canvas, SAMPLES), gap, five / SAMPLES

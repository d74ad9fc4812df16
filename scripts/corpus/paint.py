"""Textures of one identity: skin, eyes, teeth, hair, in one atlas of linear light."""

from dataclasses import dataclass

import anny.paths
import cv2
import numpy as np

from corpus.body import SKIN_WINDOW, Body, Material
from corpus.raster import CUT_OUT, N_ATTRIBUTES, SHININESS, SPECULAR, TWO_SIDED, WRAP, WRAP_RED, visible

SKIN = (512, 1024)  # width, height in px
ATLAS = (768, 1024)
# x, y, width, height of each material's texture within the atlas
SLOTS = {
    Material.SKIN: (0, 0, *SKIN),
    Material.EYE: (512, 0, 256, 256),
    Material.HAIR: (512, 256, 256, 256),
    Material.TEETH: (512, 512, 256, 128),
    Material.MOUTH: (512, 640, 64, 64),
    Material.TONGUE: (576, 640, 64, 64),
    Material.LASH: (640, 640, 64, 64),
    Material.GLASSES: (704, 640, 64, 64),
}


@dataclass(frozen=True)
class Looks:
    """Colours are sRGB in [0, 1]; strengths are in [0, 1] unless said otherwise."""

    skin: tuple[float, float, float]
    lips: tuple[float, float, float]
    lip_strength: float
    hair: tuple[float, float, float]
    iris: tuple[float, float, float]
    iris_size: float  # share of the visible eyeball's radius
    brow_height: float  # m above the eye centre
    brow_thickness: float  # m
    brow_arch: float  # m
    brow_strength: float
    blush: float
    shadow_under_eyes: float
    eye_shadow: tuple[float, float, float]
    eye_shadow_strength: float
    stubble: float
    moustache: float
    chin_beard: float
    freckles: int
    moles: int
    wrinkles: float
    mottling: float
    shine: float
    teeth: tuple[float, float, float]
    glasses: tuple[float, float, float]
    buzz: float  # hair painted on the scalp
    hair_noise: float


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB [0, 1] to linear light (plain 2.2 gamma, as the renderer encodes)."""
    return np.asarray(srgb, dtype=np.float64) ** 2.2


def smooth_noise(positions: np.ndarray, scale: float, rng: np.random.Generator, waves: int = 16) -> np.ndarray:
    """Smooth noise of about unit variance at positions [..., D]; `scale` is the size of a blob."""
    out = np.zeros(positions.shape[:-1])
    for _ in range(waves):
        direction = rng.normal(size=positions.shape[-1]) / scale
        out += np.sin(positions @ direction + rng.uniform(0, 2 * np.pi))
    return out / np.sqrt(waves / 2)


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 below low, 1 above high (or the reverse when low > high), smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Canvas:
    """What does not depend on the identity: where each texel of the skin lies on the template, and masks."""

    def __init__(self, body: Body) -> None:
        """Rasterise the template's positions into its UV map."""
        skin = body.faces[body.material == Material.SKIN]
        size = max(SKIN)
        xyz = np.concatenate([body.uv * SKIN, np.zeros((len(body.uv), 1))], 1)
        table = np.zeros((len(Material), 6))
        table[:, TWO_SIDED] = 1
        attributes = np.zeros((len(xyz), N_ATTRIBUTES))
        front, weights = np.zeros((size, size), dtype=np.int32), np.zeros((size, size, 2), dtype=np.float32)
        material, atlas = np.zeros(len(skin), dtype=np.int64), np.zeros((1, 1, 4), dtype=np.float32)
        visible(xyz, skin, material, table, atlas, attributes, np.zeros((size, size), np.float32), front, weights)
        front, weights = front[:, : SKIN[0]], weights[:, : SKIN[0]]
        corner = body.template[body.vertex][skin[front]]  # [H, W, 3 corners, xyz]
        share = np.concatenate([1 - weights.sum(-1, keepdims=True), weights], -1)
        self.position = (corner * share[..., None]).sum(2)
        self.known = front >= 0
        self.position[~self.known] = 0
        self.lips = self._mask("lips")
        self.eyelids = self._mask("eyelids")
        self.ears = self._mask("ears")
        self.eyes = body.eye_centres
        self.lip_height = float(body.template[list(body.lips), 2].mean())

    def _mask(self, name: str) -> np.ndarray:
        path = anny.paths.get_anny_root_dir() / f"data/mpfb2/textures/mpfb_{name}.jpg"
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        h, w = image.shape
        u, v = np.meshgrid((np.arange(SKIN[0]) + 0.5) / SKIN[0], (np.arange(SKIN[1]) + 0.5) / SKIN[1])
        x = (SKIN_WINDOW[0] + u * SKIN_WINDOW[2]) * w
        y = (SKIN_WINDOW[1] + v * SKIN_WINDOW[3]) * h
        return cv2.remap(image, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR) / 255.0


def _blend(image: np.ndarray, colour: np.ndarray | tuple[float, ...], mask: np.ndarray) -> np.ndarray:
    return image + (np.asarray(colour) - image) * mask[..., None]


def _skin(canvas: Canvas, looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """[1024, 512, 4]: linear colour and the local share of the specular reflection."""
    p = canvas.position
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    eye_x, eye_z = float(np.abs(canvas.eyes[:, 0]).mean()), float(canvas.eyes[:, 2].mean())
    mouth_z = canvas.lip_height
    frontal = smoothstep(-0.06, -0.10, y)
    image = np.ones((*p.shape[:2], 3)) * looks.skin

    image *= (
        1
        + looks.mottling
        * (
            0.014 * smooth_noise(p, 0.012, rng)
            + 0.012 * smooth_noise(p, 0.004, rng)
            + 0.02 * smooth_noise(p, 0.04, rng)
        )[..., None]
    )
    red = np.array([min(1.0, looks.skin[0] * 1.03), looks.skin[1] * 0.78, looks.skin[2] * 0.76])
    cheek = np.exp(-(((x - 0.043) / 0.017) ** 2) - ((z - (eye_z - 0.032)) / 0.014) ** 2) * frontal
    nose = np.exp(-((x / 0.013) ** 2) - ((z - (eye_z - 0.037)) / 0.012) ** 2) * frontal
    image = _blend(image, red, np.clip(looks.blush * (cheek + 0.7 * nose) + 0.35 * looks.blush * canvas.ears, 0, 1))
    under = np.exp(-(((x - eye_x) / 0.015) ** 2) - ((z - (eye_z - 0.016)) / 0.006) ** 2) * frontal
    image *= (1 - looks.shadow_under_eyes * 0.28 * under)[..., None]
    socket = np.exp(-(((x - eye_x + 0.004) / 0.018) ** 2) - ((z - (eye_z + 0.006)) / 0.010) ** 2) * frontal
    image *= (1 - 0.16 * socket)[..., None]
    lid = np.clip(canvas.eyelids, 0, 1)
    image = _blend(image, looks.eye_shadow, lid * looks.eye_shadow_strength)

    # wrinkles: forehead lines, crow's feet, from nose to mouth
    lines = np.maximum(0, np.sin((z - eye_z) * 700 + 0.8 * smooth_noise(p, 0.03, rng))) ** 6
    lines = lines * smoothstep(eye_z + 0.035, eye_z + 0.045, z) * smoothstep(eye_z + 0.085, eye_z + 0.07, z)
    fold = np.exp(-(((x - 0.018 - 0.55 * np.maximum(0, eye_z - 0.035 - z)) / 0.0022) ** 2))
    fold = fold * smoothstep(eye_z - 0.034, eye_z - 0.040, z) * smoothstep(mouth_z - 0.014, mouth_z - 0.004, z)
    image *= (1 - looks.wrinkles * frontal * np.clip(0.25 * lines + 0.38 * fold, 0, 0.6))[..., None]

    face = canvas.known & (y < -0.09) & (z > 0.63) & (z < eye_z + 0.06)
    spots = np.argwhere(face)
    for count, colour, low, high in (
        (looks.freckles, np.array(looks.skin) * [0.8, 0.66, 0.56], 0.0007, 0.0014),
        (looks.moles, np.array(looks.skin) * [0.45, 0.36, 0.32], 0.0014, 0.0026),
    ):
        for row, column in spots[rng.integers(len(spots), size=count)]:
            at, radius = p[row, column], rng.uniform(low, high)
            window = np.s_[max(row - 12, 0) : row + 13, max(column - 12, 0) : column + 13]
            distance = np.linalg.norm(p[window] - at, axis=-1)
            image[window] = _blend(image[window], colour, np.exp(-((distance / radius) ** 2)) * rng.uniform(0.5, 1))

    # beard: jaw, chin and upper lip, never on the lips
    lips = smoothstep(0.25, 0.75, canvas.lips)
    grain = 0.75 + 0.25 * smooth_noise(p, 0.0016, rng)
    lower = smoothstep(mouth_z + 0.026, mouth_z + 0.010, z - 0.55 * np.maximum(0, x - 0.030))
    jaw = lower * smoothstep(0.585, 0.615, z) * smoothstep(-0.035, -0.055, y) * (1 - 0.5 * canvas.ears)
    lip_zone = (
        np.exp(-((x / 0.026) ** 4))
        * smoothstep(mouth_z, mouth_z + 0.004, z)
        * smoothstep(mouth_z + 0.019, mouth_z + 0.014, z)
        * frontal
    )
    chin = (
        np.exp(-((x / 0.024) ** 4))
        * smoothstep(mouth_z - 0.008, mouth_z - 0.013, z)
        * smoothstep(0.59, 0.61, z)
        * frontal
    )
    beard = np.clip(looks.stubble * jaw + looks.moustache * lip_zone + looks.chin_beard * chin, 0, 0.93)
    image = _blend(image, np.array(looks.hair) * 0.85, np.clip(beard * grain, 0, 0.95) * (1 - lips))

    # brows: an arch over each eye
    along = (x - 0.011) / 0.044  # 0 at the nose, 1 at the temple
    arch = (
        eye_z
        + looks.brow_height
        + looks.brow_arch * (1 - ((along - 0.62) / 0.62) ** 2)
        - 0.004 * smoothstep(0.6, 1.05, along)
    )
    width = looks.brow_thickness * (1.0 - 0.65 * np.clip(along, 0, 1) ** 2)
    hairs = 0.85 + 0.15 * np.sin(p[..., 0] * 3500 + z * 2500)
    brow = (
        smoothstep(1.25, 0.7, np.abs(z - arch) / width) * smoothstep(-0.06, 0.06, along) * smoothstep(1.06, 0.94, along)
    )
    image = _blend(image, np.array(looks.hair) * 0.7, np.clip(brow * hairs * looks.brow_strength, 0, 1) * frontal)

    image = _blend(image, looks.lips, lips * looks.lip_strength)
    seam = np.exp(-(((z - mouth_z) / 0.0012) ** 2)) * lips
    image *= (1 - 0.45 * seam)[..., None]

    # scalp: under hair and for shaved heads
    edge = eye_z + 0.064 + 0.006 * smooth_noise(p, 0.02, rng)
    side = eye_z + 0.064 - 0.075 * smoothstep(-0.115, -0.06, y) - 0.05 * smoothstep(-0.06, 0.02, y)
    scalp = smoothstep(-0.006, 0.006, z - np.minimum(edge, side)) * (1 - canvas.ears)
    image = _blend(image, np.array(looks.hair) * 0.8, scalp * looks.buzz * np.clip(grain, 0, 1))
    # under the chin it is darker
    image *= (1 - 0.22 * smoothstep(0.64, 0.60, z) * smoothstep(0.02, -0.02, y))[..., None]

    gloss = looks.shine * (0.75 + 0.25 * smooth_noise(p, 0.01, rng)) * (1 - 0.6 * beard) * (1 - scalp * looks.buzz)
    gloss = gloss + lips * 0.9 * looks.shine + nose * 0.5 * looks.shine
    out = np.concatenate([linear(np.clip(image, 0.01, 1)), np.clip(gloss, 0, 2)[..., None]], -1)
    return _bleed(out, canvas.known)


def _bleed(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Carry colours over the borders of the known texels, so that filtering never meets an empty one."""
    out = image * known[..., None]
    weight = known.astype(np.float64)
    for _ in range(4):
        blurred = cv2.blur(out, (5, 5))
        share = cv2.blur(weight, (5, 5))
        fill = (weight == 0) & (share > 0)
        out[fill] = blurred[fill] / share[fill][:, None]
        weight[fill] = 1
    return out


def _eye(looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """[256, 256, 4]: sclera, iris with a dark ring, pupil; the eyeball's front fills 0.45 of the half width."""
    v, u = np.mgrid[0:256, 0:256] / 255.0 - 0.5
    r, angle = np.hypot(u, v) / 0.45, np.arctan2(v, u)
    white = np.array([0.97, 0.95, 0.93])
    image = np.ones((256, 256, 3)) * white
    image *= (1 - 0.15 * smoothstep(0.5, 0.9, r))[..., None] * np.array([1, 0.99, 0.98])
    iris = looks.iris_size
    rays = 0.85 + 0.15 * np.sin(angle * 37 + 3 * np.sin(angle * 11 + rng.uniform(0, 6)))
    colour = np.array(looks.iris) * (rays * (1.2 - 0.5 * smoothstep(0.5, 1.0, r / iris)))[..., None]
    image = image + (colour - image) * smoothstep(iris * 1.06, iris * 0.97, r)[..., None]
    image = _blend(image, (0.02, 0.02, 0.02), smoothstep(iris * 0.46, iris * 0.40, r))
    return np.concatenate([linear(np.clip(image, 0, 1)), np.ones((256, 256, 1))], -1)


def _teeth(looks: Looks) -> np.ndarray:
    """[128, 256, 4]: the upper row in the upper half, each with gum at the root."""
    v, u = np.mgrid[0:128, 0:256] / np.array([128.0, 256.0])[:, None, None]
    image = np.ones((128, 256, 3)) * looks.teeth
    gap = np.abs(np.sin((u - 0.5) * np.pi / 0.043))
    image *= (0.62 + 0.38 * smoothstep(0.0, 0.3, gap))[..., None]
    row = np.where(v < 0.5, v * 2, 2 - v * 2)  # 0 at the root, 1 at the edge
    return np.concatenate(
        [linear(_blend(image, (0.66, 0.33, 0.33), smoothstep(0.30, 0.18, row))), np.ones((128, 256, 1))], -1
    )


def _hair(looks: Looks, rng: np.random.Generator) -> np.ndarray:
    """[256, 256, 4]: strands run downward; the last rows are ragged (fourth channel, cut out below 0.5)."""
    v, _ = np.mgrid[0:256, 0:256] / 255.0
    strands = np.zeros((256, 256))
    for width, strength in ((2, 1.0), (5, 0.8), (13, 0.6), (29, 0.5)):
        noise = rng.normal(size=(256, 256))
        noise = cv2.GaussianBlur(np.pad(noise, ((0, 0), (64, 64)), mode="wrap"), (0, 0), sigmaX=width / 3, sigmaY=36)
        noise = noise[:, 64:-64]
        strands += strength * noise / noise.std()
    strands /= 1.5
    image = np.array(looks.hair) * (1 + looks.hair_noise * strands)[..., None]
    ragged = np.convolve(np.pad(rng.normal(size=256), 2, mode="wrap"), [0.1, 0.2, 0.4, 0.2, 0.1], "valid")
    end = 0.955 + 0.035 * ragged / ragged.std()
    return np.concatenate([linear(np.clip(image, 0.004, 1)), (v < end)[..., None].astype(np.float64)], -1)


def paint(canvas: Canvas, looks: Looks, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Atlas [1024, 768, 4] in linear light and the material table [8, 6] of the renderer."""
    width, height = ATLAS
    atlas = np.ones((height, width, 4))
    flat = {
        Material.MOUTH: (0.17, 0.05, 0.05),
        Material.TONGUE: (0.48, 0.19, 0.19),
        Material.LASH: (0.05, 0.04, 0.04),
        Material.GLASSES: looks.glasses,
    }
    textures = {
        Material.SKIN: _skin(canvas, looks, rng),
        Material.EYE: _eye(looks, rng),
        Material.HAIR: _hair(looks, rng),
        Material.TEETH: _teeth(looks),
    }
    for material, (x, y, w, h) in SLOTS.items():
        if material in flat:
            atlas[y : y + h, x : x + w, :3] = linear(np.array(flat[material]))
        else:
            atlas[y : y + h, x : x + w] = textures[material]
    table = np.zeros((len(Material), 6))
    table[:, SHININESS] = 20
    table[Material.SKIN, [SPECULAR, SHININESS, WRAP_RED, WRAP]] = 0.10, 14, 0.35, 0.15
    table[Material.EYE, [SPECULAR, SHININESS]] = 0.9, 90
    table[Material.TEETH, [SPECULAR, SHININESS, WRAP_RED, WRAP]] = 0.25, 30, 0.3, 0.3
    table[Material.TONGUE, [SPECULAR, SHININESS]] = 0.06, 20
    table[Material.HAIR, [SPECULAR, SHININESS, WRAP_RED, WRAP]] = 0.05, 10, 0.25, 0.25
    table[Material.GLASSES, [SPECULAR, SHININESS]] = 0.3, 30
    table[:, TWO_SIDED] = 1
    table[[Material.SKIN, Material.EYE], TWO_SIDED] = 0
    table[Material.HAIR, CUT_OUT] = 1
    return atlas.astype(np.float32), table


def atlas_position(uv: np.ndarray, material: np.ndarray) -> np.ndarray:
    """Texture coordinates [N, 2] of corners with materials [N] as pixels of the atlas, a texel off the borders."""
    slots = np.array([SLOTS[Material(m)] for m in range(len(Material))], dtype=np.float64)[material]
    return slots[:, :2] + np.clip(uv, 0, 1) * (slots[:, 2:] - 4) + 2

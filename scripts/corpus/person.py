"""One identity: everything that stays the same in all clips of a person, drawn from (seed, identity)."""

from dataclasses import dataclass, replace

import numpy as np

from corpus.assembly import Assembly, Mesh
from corpus.body import Body, Material
from corpus.glasses import spectacles
from corpus.hair import HairStyle, bun, grow
from corpus.paint import Canvas, Looks, paint, smoothstep

# sRGB, light to dark
SKIN_TONES = np.array(
    [
        [0.97, 0.84, 0.77],
        [0.93, 0.76, 0.66],
        [0.85, 0.66, 0.53],
        [0.75, 0.54, 0.41],
        [0.60, 0.41, 0.30],
        [0.45, 0.30, 0.22],
        [0.33, 0.215, 0.165],
    ]
)
HAIR_TONES = {
    "black": (0.07, 0.06, 0.06),
    "dark brown": (0.17, 0.11, 0.08),
    "brown": (0.31, 0.20, 0.13),
    "chestnut": (0.40, 0.22, 0.13),
    "red": (0.58, 0.27, 0.13),
    "dark blond": (0.54, 0.42, 0.27),
    "blond": (0.76, 0.63, 0.42),
    "grey": (0.55, 0.54, 0.53),
    "white": (0.80, 0.79, 0.77),
}
EYE_TONES = {
    "dark": (0.16, 0.10, 0.07),
    "brown": (0.32, 0.20, 0.11),
    "hazel": (0.42, 0.34, 0.18),
    "green": (0.33, 0.42, 0.28),
    "blue": (0.36, 0.50, 0.66),
    "grey": (0.48, 0.53, 0.56),
}
# local changes of anny that shape a face, with their spread; l- and r- pairs get the same value
SHAPE = {
    "head-": 0.28, "forehead-": 0.32, "chin-": 0.34, "cheek-": 0.38, "eye-": 0.30, "eyebrows-": 0.3, "nose-": 0.32,
    "mouth-": 0.30, "ear-": 0.5, "neck-": 0.3,
}  # fmt: skip
CALM = {  # would look wrong, or hide the gaze, at full strength
    "head-age-incr": 0.0, "mouth-trans-out": 0.0, "nose-trans-out": 0.0, "head-trans-out": 0.0, "head-angle-out": 0.1,
    "neck-trans-out": 0.0, "neck-trans-forward": 0.2, "head-trans-forward": 0.2, "eye-push1-out": 0.2,
    "eye-push2-out": 0.2, "mouth-trans-forward": 0.2, "ear-wing-incr": 0.3, "mouth-angles-up": 0.25,
    "head-trans-up": 0.2, "neck-trans-up": 0.2, "neck-scale-vert-incr": 0.3, "ear-flap-incr": 0.2,
    "eye-height1-incr": 0.2, "eye-height2-incr": 0.2, "eye-height3-incr": 0.2, "mouth-upperlip-ext-up": 0.2,
    "mouth-lowerlip-ext-up": 0.2, "nose-compression-uncompress": 0.2,
}  # fmt: skip
LIPSTICKS = np.array(
    [[0.72, 0.10, 0.14], [0.55, 0.10, 0.22], [0.80, 0.34, 0.36], [0.62, 0.25, 0.24], [0.78, 0.24, 0.40]]
)
FRAMES = np.array(
    [[0.05, 0.05, 0.05], [0.30, 0.17, 0.08], [0.45, 0.10, 0.10], [0.55, 0.52, 0.45], [0.12, 0.16, 0.32]]
)  # of glasses


@dataclass(frozen=True)
class Person:
    """Geometry and surface of one identity."""

    name: str
    female: bool
    age: float  # 0 = twenty, 1 = eighty
    style: str  # of the hair
    mesh: Mesh
    atlas: np.ndarray  # [1024, 768, 4]
    table: np.ndarray  # [8, 6] material table of the renderer
    collar: np.ndarray  # [N] how far a corner lies below the collar, m; cloth where positive
    cloth: np.ndarray  # [3, 3] two linear colours, (stripe width m, contrast, 0)
    pivot: np.ndarray  # [3] the head turns about it
    aim: np.ndarray  # [3] middle of the face


def _pick(rng: np.random.Generator, options: dict[str, float]) -> str:
    weights = np.array(list(options.values()))
    return str(rng.choice(list(options), p=weights / weights.sum()))


def _local_changes(body: Body, rng: np.random.Generator) -> dict[str, float]:
    values: dict[str, float] = {}
    for label in body.labels["local"]:
        plain = label[2:] if label[:2] in ("l-", "r-") else label
        group = next((g for g in SHAPE if plain.startswith(g)), None)
        if group is None:
            continue
        draw = float(np.clip(rng.normal(), -2.0, 2.0))
        if label.startswith("r-"):
            values[label] = values[f"l-{plain}"]
        else:
            mean = 0.15 if plain.startswith("eye-height") else 0.0  # narrow slits hide the gaze
            values[label] = float(np.clip(mean + draw * CALM.get(plain, SHAPE[group]), -0.9, 0.9))
    return values


def _hair_style(
    rng: np.random.Generator, female: bool, age: float, african: float
) -> tuple[str, HairStyle | None, float]:
    """Name, style (None: no hair to model) and how much hair is painted on the scalp."""
    if african > 0.5:
        options = (
            {"afro": 3, "curly long": 2, "straight long": 1, "bob": 1, "short curls": 2}
            if female
            else {"buzz": 4, "afro": 2, "short curls": 3, "bald": 1}
        )
    elif female:
        options = {
            "straight long": 3,
            "bob": 3,
            "curly long": 2,
            "fringe bob": 2,
            "fringe long": 2,
            "pixie": 2,
            "bun": 2,
        }
    else:
        options = {
            "short": 4,
            "side part": 4,
            "fringe short": 3,
            "buzz": 1.5,
            "bald": 0.6 + age,
            "quiff": 2,
            "short curls": 2,
            "chin long": 1,
        }
    name = _pick(rng, {k: float(v) for k, v in options.items()})
    base = HairStyle(
        top=rng.uniform(0.009, 0.017), side=rng.uniform(0.006, 0.011), forehead=rng.uniform(0.058, 0.072), fringe=0.0,
        length=0.0, opening=rng.uniform(0.85, 1.05), parting=rng.uniform(-1, 1), curls=0.0, curl_size=0.02,
    )  # fmt: skip
    if not female:
        base = replace(base, forehead=base.forehead + 0.012 * rng.uniform(0, 1) * age)
    u = rng.uniform
    styles = {
        "short": replace(base, side=u(0.004, 0.008)),
        "side part": replace(base, top=u(0.013, 0.020), parting=float(rng.choice([-1.4, 1.4]))),
        "fringe short": replace(base, fringe=u(0.018, 0.034), forehead=0.062),
        "quiff": replace(base, top=u(0.022, 0.032), side=u(0.003, 0.006), parting=u(-0.4, 0.4)),
        "pixie": replace(base, top=u(0.014, 0.022), side=u(0.009, 0.014), fringe=u(0.01, 0.03), parting=u(-1.8, 1.8)),
        "short curls": replace(base, top=u(0.016, 0.026), side=u(0.010, 0.016), curls=0.004, curl_size=0.010),
        "afro": replace(base, top=u(0.028, 0.05), side=u(0.025, 0.045), curls=0.004, curl_size=0.009, forehead=0.066),
        "straight long": replace(base, side=u(0.017, 0.024), length=u(0.16, 0.24)),
        "fringe long": replace(base, side=u(0.017, 0.024), length=u(0.15, 0.24), fringe=u(0.022, 0.036)),
        "curly long": replace(base, side=u(0.024, 0.036), length=u(0.12, 0.22), curls=0.005, curl_size=0.016),
        "bob": replace(base, side=u(0.018, 0.026), length=u(0.08, 0.115)),
        "fringe bob": replace(base, side=u(0.018, 0.026), length=u(0.07, 0.11), fringe=u(0.022, 0.036)),
        "chin long": replace(base, side=u(0.014, 0.02), length=u(0.07, 0.12), opening=1.1),
        "bun": replace(base, top=u(0.012, 0.018), side=u(0.005, 0.008)),
    }
    if name == "bald":
        return name, None, 0.0 if rng.uniform() < 0.5 else 0.25
    if name == "buzz":
        return name, None, rng.uniform(0.75, 0.95)
    return name, styles[name], 0.9


def _stubble(rng: np.random.Generator, female: bool, beard: int) -> float:
    """How dark the jaw is with beards of four kinds, or without (-1)."""
    if beard < 0:
        return 0.0 if female else rng.uniform(0, 0.12)
    return (0.0, rng.uniform(0.15, 0.4), rng.uniform(0.7, 0.95), 0.1)[beard]


def _looks(rng: np.random.Generator, female: bool, age: float, races: np.ndarray, painted: float) -> Looks:
    """Colours and marks; age 0 = twenty, 1 = eighty; races: african, asian, caucasian shares."""
    tone = float(np.clip(races @ [4.7, 1.6, 0.9] + rng.normal() * 0.75, 0, len(SKIN_TONES) - 1))
    skin = np.array([np.interp(tone, np.arange(len(SKIN_TONES)), SKIN_TONES[:, k]) for k in range(3)])
    skin = np.clip(skin * (1 + rng.normal(size=3) * [0.02, 0.025, 0.035]), 0.05, 0.99)
    pale = float(np.clip(1.6 - 0.5 * tone, 0, 1)) * races[2]
    hair = _pick(
        rng,
        {
            "black": 2 + 6 * (1 - races[2]),
            "dark brown": 3,
            "brown": 3 * races[2],
            "chestnut": 2 * races[2],
            "red": 1.6 * pale,
            "dark blond": 2.4 * pale,
            "blond": 2.6 * pale,
        },
    )
    if rng.uniform() < smoothstep(0.35, 0.85, np.array(age)):
        hair = "white" if rng.uniform() < age - 0.25 else "grey"
    hair_colour = np.clip(np.array(HAIR_TONES[hair]) * rng.uniform(0.85, 1.2), 0.03, 0.95)
    eyes = _pick(
        rng,
        {
            "dark": 1 + 6 * (1 - races[2]),
            "brown": 3,
            "hazel": 1.5 * races[2],
            "green": 1.2 * races[2],
            "blue": 3 * pale,
            "grey": 1.2 * pale,
        },
    )
    made_up = female and rng.uniform() < 0.6
    natural = np.clip(skin * [0.86, 0.62, 0.62] + [0.02, 0, 0.01], 0, 1)
    bearded = (not female) and rng.uniform() < 0.5
    kind = int(rng.integers(4)) if bearded else -1
    return Looks(
        skin=tuple(skin),
        lips=tuple(LIPSTICKS[rng.integers(len(LIPSTICKS))] if made_up else natural),
        lip_strength=rng.uniform(0.6, 0.9) if made_up else rng.uniform(0.55, 0.85),
        hair=tuple(hair_colour),
        iris=tuple(np.clip(np.array(EYE_TONES[eyes]) * rng.uniform(0.85, 1.2), 0, 1)),
        iris_size=rng.uniform(0.40, 0.46),
        brow_height=rng.uniform(0.0165, 0.0215),
        brow_thickness=rng.uniform(0.0026, 0.0038) if female else rng.uniform(0.0032, 0.0050),
        brow_arch=rng.uniform(0.0, 0.007),
        brow_strength=rng.uniform(0.75, 1.0),
        blush=rng.uniform(0.1, 0.75),
        shadow_under_eyes=rng.uniform(0, 0.9),
        eye_shadow=tuple(rng.uniform(0.15, 0.5, size=3)),
        eye_shadow_strength=rng.uniform(0.2, 0.6) if made_up else 0.0,
        stubble=_stubble(rng, female, kind),
        moustache=(0.8, 0.3, 0.85, 0.75, 0.0)[kind],
        chin_beard=(0.0, 0.3, 0.9, 0.85, 0.0)[kind],
        freckles=int(rng.choice([0, 0, 0, 60, 160]) * pale),
        moles=int(rng.integers(0, 5)),
        wrinkles=float(np.clip(age * 1.1 - 0.1 + rng.normal() * 0.1, 0, 1)),
        mottling=rng.uniform(0.4, 1.4) + 0.6 * age,
        shine=rng.uniform(0.4, 1.3),
        teeth=tuple(np.array([0.93, 0.90, 0.84]) * rng.uniform(0.85, 1.02) * [1, 1, rng.uniform(0.9, 1)]),
        glasses=tuple(FRAMES[rng.integers(len(FRAMES))]),
        buzz=painted,
        hair_noise=rng.uniform(0.14, 0.30),
    )


def _shape(body: Body, rng: np.random.Generator, female: bool, age: float, races: np.ndarray) -> np.ndarray:
    """Neutral points [P, 3]."""
    phenotype = {
        "gender": rng.uniform(0.82, 1.0) if female else rng.uniform(0.0, 0.18),
        "age": 0.66 + 0.34 * age,
        "muscle": rng.uniform(0.25, 0.75),
        "weight": rng.uniform(0.25, 0.85),
        "height": rng.uniform(0.3, 0.7),
        "proportions": rng.uniform(0.4, 0.9),
        "cupsize": 0.4,
        "firmness": 0.5,
        "african": races[0],
        "asian": races[1],
        "caucasian": races[2],
    }
    rest = body.shape(phenotype, _local_changes(body, rng))
    teeth, tongue = (np.unique(body.point_faces[body.material == m]) for m in (Material.TEETH, Material.TONGUE))
    upper = body.template[teeth, 2] > body.template[list(body.lips), 2].mean() + 0.0005
    rest[teeth, 2] += np.where(upper, -rng.uniform(0.0035, 0.006), -0.002)
    rest[tongue] += [0.0, 0.010, -0.008]  # lies behind the lower teeth
    return rest


def _skull(body: Body, canvas: Canvas, rest: np.ndarray, eye_height: float) -> np.ndarray:
    """Points [K, 3] of the head without its ears."""
    rows, columns = canvas.ears.shape
    at = (np.clip(body.uv, 0, 1 - 1e-9) * [columns, rows]).astype(int)
    ears = np.zeros(len(rest), dtype=bool)
    ears[body.vertex[canvas.ears[at[:, 1], at[:, 0]] > 0.2]] = True
    skin = np.unique(body.point_faces[body.material == Material.SKIN])
    skull = rest[skin[~ears[skin]]]
    return skull[skull[:, 2] > eye_height - 0.16]


def create(
    body: Body, canvas: Canvas, name: str, rng: np.random.Generator, female: bool | None = None, race: int | None = None
) -> Person:
    """Draw one identity.

    Args:
        body: The shared head.
        canvas: The shared texture geometry.
        name: The identity's name (its folder).
        rng: Source of everything random.
        female: Gender of the face and the voice; None draws it.
        race: Main share of anny's phenotype, 0 african, 1 asian, 2 caucasian (a quarter of the people are mixed);
            None draws it.
    """
    # drawn even when given, so that fixing one of them leaves everything else as it was
    drawn_female, age, drawn_race = rng.uniform() < 0.5, float(rng.beta(1.2, 1.9)), int(rng.integers(3))
    female, race = drawn_female if female is None else female, drawn_race if race is None else race
    races = 0.82 * np.eye(3)[race] + 0.18 * rng.dirichlet(np.ones(3) * 0.6)
    if rng.uniform() < 0.25:
        races = rng.dirichlet(np.ones(3))
    rest = _shape(body, rng, female, age, races)
    style_name, style, painted = _hair_style(rng, female, age, float(races[0]))
    atlas, table = paint(canvas, _looks(rng, female, age, races, painted), rng)

    eyes = np.stack([rest[side].mean(0) for side in body.eyes])
    eye_height = float(eyes[:, 2].mean())
    parts = Assembly(body, rest)
    if style is not None:
        skull = _skull(body, canvas, rest, eye_height)
        hair = [grow(style, skull, eye_height, rng)]
        if style_name == "bun":
            hair.append(bun(skull, rng))
        for piece in hair:
            parts.attach(piece.points, piece.uv, piece.faces, piece.weight, Material.HAIR)
    if rng.uniform() < 0.18:
        points, faces = spectacles(rest, eyes, rng)
        parts.attach(points, np.full((len(points), 2), 0.5), faces, np.ones(len(points)), Material.GLASSES)
    mesh = parts.mesh()

    template = body.template
    neckline = 0.572 + rng.uniform(-0.014, 0.014) + rng.uniform(0.1, 0.35) * (template[:, 1] + 0.06)
    aside = np.hypot(template[:, 0], template[:, 1] + 0.03) - rng.uniform(0.085, 0.105)
    collar = np.full(len(mesh.rest), -1.0)
    collar[: len(rest)] = np.maximum(neckline - template[:, 2], np.where(template[:, 2] < 0.59, aside, -1.0))
    cloth = np.zeros((3, 3))
    cloth[:2] = rng.uniform(0.04, 0.9, size=(2, 3)) ** 2.2
    cloth[2] = rng.uniform(0.008, 0.03), rng.choice([0.0, 0.0, 0.7]), 0.0
    neck = rest[(body.head_weight > 0.2) & (body.head_weight < 0.9)]
    lips = rest[list(body.lips)].mean(0)
    return Person(
        name=name,
        female=female,
        age=age,
        style=style_name,
        mesh=mesh,
        atlas=atlas,
        table=table,
        collar=collar[mesh.vertex],
        cloth=cloth,
        pivot=np.array([0.0, float(neck[:, 1].mean()), float(np.median(neck[:, 2])) + 0.02]),
        aim=np.array([0.0, lips[1], (lips[2] + 2 * eye_height) / 3 + 0.002]),
    )

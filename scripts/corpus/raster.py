"""A small z-buffer renderer: triangles, a texture atlas, one shadow-casting light, an ambient sky."""

import numba
import numpy as np

# Columns of a corner's attributes.
NORMAL, ATLAS, OCCLUSION, CLOTH, SHADOW = 0, 3, 5, 6, 7
N_ATTRIBUTES = 10  # normal 3, atlas x y, occlusion, depth below the collar (m), light-space x y z
# Columns of the material table.
SPECULAR, SHININESS, WRAP_RED, WRAP, TWO_SIDED, CUT_OUT = range(6)


@numba.njit(cache=True)
def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [P, 3] of points [P, 3] with counter-clockwise faces [M, 3]."""
    out = np.zeros_like(points)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(out.shape[0]):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        out[i] /= length
    return out


@numba.njit(cache=True)
def depth_map(xyz: np.ndarray, faces: np.ndarray, casts: np.ndarray, depth: np.ndarray) -> None:
    """Fill depth [S, S] with the nearest depth of orthographic corners xyz [N, 3] (px, px, depth); inf where empty."""
    size = depth.shape[0]
    depth[:] = np.inf
    for f in range(faces.shape[0]):
        if not casts[f]:
            continue
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = xyz[a, 0], xyz[a, 1], xyz[b, 0], xyz[b, 1], xyz[c, 0], xyz[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        left, right = max(int(min(x0, x1, x2)), 0), min(int(max(x0, x1, x2)) + 1, size - 1)
        top, bottom = max(int(min(y0, y1, y2)), 0), min(int(max(y0, y1, y2)) + 1, size - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
                w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
                if w1 < -1e-7 or w2 < -1e-7 or w1 + w2 > 1 + 1e-7:
                    continue
                d = xyz[a, 2] + w1 * (xyz[b, 2] - xyz[a, 2]) + w2 * (xyz[c, 2] - xyz[a, 2])
                if d < depth[y, x]:
                    depth[y, x] = d


@numba.njit(cache=True)
def visible(
    xyz: np.ndarray, faces: np.ndarray, material: np.ndarray, table: np.ndarray, atlas: np.ndarray,
    attributes: np.ndarray, depth: np.ndarray, front: np.ndarray, weights: np.ndarray,
) -> None:  # fmt: skip
    """Fill front [S, S] with the triangle nearest to the viewer (-1: none), depth [S, S] and weights [S, S, 2] with its
    depth and its two last barycentric weights.

    Triangles face the viewer when they run clockwise on the screen (y downward); others are dropped unless their
    material is two-sided. Materials with `CUT_OUT` are holes where the atlas's fourth channel is below 0.5.
    """
    size = depth.shape[0]
    depth[:] = np.inf
    front[:] = -1
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = xyz[a, 0], xyz[a, 1], xyz[b, 0], xyz[b, 1], xyz[c, 0], xyz[c, 1]
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        row = table[material[f]]
        if abs(area) < 1e-9 or (area > 0 and row[TWO_SIDED] == 0):
            continue
        left, right = max(int(np.ceil(min(x0, x1, x2))), 0), min(int(max(x0, x1, x2)), size - 1)
        top, bottom = max(int(np.ceil(min(y0, y1, y2))), 0), min(int(max(y0, y1, y2)), size - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                w1 = ((x - x0) * (y2 - y0) - (x2 - x0) * (y - y0)) / area
                w2 = ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) / area
                if w1 < -1e-7 or w2 < -1e-7 or w1 + w2 > 1 + 1e-7:
                    continue
                d = xyz[a, 2] + w1 * (xyz[b, 2] - xyz[a, 2]) + w2 * (xyz[c, 2] - xyz[a, 2])
                if d >= depth[y, x]:
                    continue
                if row[CUT_OUT] > 0:
                    w0 = 1 - w1 - w2
                    u = w0 * attributes[a, ATLAS] + w1 * attributes[b, ATLAS] + w2 * attributes[c, ATLAS]
                    v = w0 * attributes[a, ATLAS + 1] + w1 * attributes[b, ATLAS + 1] + w2 * attributes[c, ATLAS + 1]
                    if atlas[int(v), int(u), 3] < 0.5:
                        continue
                depth[y, x] = d
                front[y, x] = f
                weights[y, x, 0] = w1
                weights[y, x, 1] = w2


@numba.njit(cache=True)
def shade(
    canvas: np.ndarray, front: np.ndarray, weights: np.ndarray, faces: np.ndarray, material: np.ndarray,
    table: np.ndarray, attributes: np.ndarray, atlas: np.ndarray, cloth: np.ndarray, shadow: np.ndarray,
    key: np.ndarray, key_colour: np.ndarray, sky: np.ndarray, ground: np.ndarray,
) -> None:  # fmt: skip
    """Paint the visible triangles over canvas [S, S, 3] (linear light), in place.

    Args:
        cloth: [3, 3]: two linear colours of the stripes below the collar, then (stripe width m, contrast, 0).
        shadow: depth map from the light, its corners in attributes SHADOW.
        key: unit vector to the light; key_colour, sky, ground: linear RGB.
    """
    size = canvas.shape[0]
    value = np.zeros(N_ATTRIBUTES)
    shadow_size = shadow.shape[0]
    # half vector between the light and the viewer, who is at -y
    hx, hy, hz = key[0], key[1] - 1.0, key[2]
    norm = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
    hx, hy, hz = hx / norm, hy / norm, hz / norm
    for y in range(size):
        for x in range(size):
            f = front[y, x]
            if f < 0:
                continue
            w1, w2 = weights[y, x, 0], weights[y, x, 1]
            w0 = 1 - w1 - w2
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            for k in range(N_ATTRIBUTES):
                value[k] = w0 * attributes[a, k] + w1 * attributes[b, k] + w2 * attributes[c, k]
            row = table[material[f]]
            nx, ny, nz = value[0], value[1], value[2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            if row[TWO_SIDED] > 0 and ny > 0.0:
                nx, ny, nz = -nx, -ny, -nz
            specular = row[SPECULAR]
            wrap_red, wrap = row[WRAP_RED], row[WRAP]
            if material[f] == 0 and value[CLOTH] > 0.0:
                stripe = 0.5 + 0.5 * np.sin(value[CLOTH] * 6.2832 / cloth[2, 0])
                mix = cloth[2, 1] * (1.0 if stripe > 0.5 else 0.0)
                red = cloth[0, 0] * (1 - mix) + cloth[1, 0] * mix
                green = cloth[0, 1] * (1 - mix) + cloth[1, 1] * mix
                blue = cloth[0, 2] * (1 - mix) + cloth[1, 2] * mix
                edge = min(1.0, 0.6 + value[CLOTH] * 60.0)
                red, green, blue = red * edge, green * edge, blue * edge
                specular = 0.0
            else:
                u, v = value[ATLAS] - 0.5, value[ATLAS + 1] - 0.5
                u0, v0 = int(u), int(v)
                fu, fv = u - u0, v - v0
                p00, p01, p10, p11 = atlas[v0, u0], atlas[v0, u0 + 1], atlas[v0 + 1, u0], atlas[v0 + 1, u0 + 1]
                a00, a01, a10, a11 = (1 - fu) * (1 - fv), fu * (1 - fv), (1 - fu) * fv, fu * fv
                red = a00 * p00[0] + a01 * p01[0] + a10 * p10[0] + a11 * p11[0]
                green = a00 * p00[1] + a01 * p01[1] + a10 * p10[1] + a11 * p11[1]
                blue = a00 * p00[2] + a01 * p01[2] + a10 * p10[2] + a11 * p11[2]
                if material[f] == 0:
                    specular *= a00 * p00[3] + a01 * p01[3] + a10 * p10[3] + a11 * p11[3]
            lit = 0.0  # share of four neighbouring texels of the shadow map that see the light
            sx, sy = int(value[SHADOW] - 0.5), int(value[SHADOW + 1] - 0.5)
            for dy in range(2):
                for dx in range(2):
                    px, py = min(max(sx + dx, 0), shadow_size - 1), min(max(sy + dy, 0), shadow_size - 1)
                    if value[SHADOW + 2] < shadow[py, px] + 0.006:
                        lit += 0.25
            lit = 0.65 + 0.35 * lit if material[f] == 2 else 0.25 + 0.75 * lit
            cosine = nx * key[0] + ny * key[1] + nz * key[2]
            diffuse_red = max(0.0, (cosine + wrap_red) / (1 + wrap_red)) * lit
            diffuse = max(0.0, (cosine + wrap) / (1 + wrap)) * lit
            half = max(0.0, nx * hx + ny * hy + nz * hz)
            shine = specular * half ** row[SHININESS] * lit if cosine > 0 and specular > 0 else 0.0
            up = 0.5 + 0.5 * nz
            occlusion = value[OCCLUSION]
            for k in range(3):
                albedo = red if k == 0 else green if k == 1 else blue
                direct = (diffuse_red if k == 0 else diffuse) * key_colour[k]
                ambient = occlusion * (up * sky[k] + (1 - up) * ground[k])
                canvas[y, x, k] = albedo * (direct + ambient) + shine * key_colour[k]


_LEVELS = 4096
_ENCODED = (np.linspace(0, 1, _LEVELS) ** (1 / 2.2) * 255).astype(np.float32)


@numba.njit(cache=True)
def _average(canvas: np.ndarray, factor: int, encoded: np.ndarray) -> np.ndarray:
    size = canvas.shape[0] // factor
    top = encoded.shape[0] - 1
    out = np.zeros((size, size, 3), dtype=np.uint8)
    for y in range(size):
        for x in range(size):
            for k in range(3):
                total = 0.0
                for dy in range(factor):
                    for dx in range(factor):
                        light = min(max(canvas[y * factor + dy, x * factor + dx, k], 0.0), 1.0)
                        total += encoded[int(light * top + 0.5)]
                out[y, x, k] = np.uint8(total / factor**2 + 0.5)
    return out


def develop(canvas: np.ndarray, factor: int) -> np.ndarray:
    """Average factor x factor samples of canvas [S, S, 3] (linear) and encode as sRGB uint8 [S/f, S/f, 3]."""
    return _average(canvas, factor, _ENCODED)

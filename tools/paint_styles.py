"""Paint the four style artworks that ship with gan_style, wholly by code.

Each picture is drawn on a canvas SCALE times larger than it is saved, which smooths every mark;
lengths are in pixels of that canvas. Seeds are fixed: a rerun gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Array = NDArray[np.float64]
Draw = ImageDraw.ImageDraw
SCALE, CANVAS = 3, 3 * 512
QUALITY = {"flow": 90, "mosaic": 92, "hatching": 85, "pointillism": 86}  # just under 200 kB
STYLES_FOLDER = Path(__file__).resolve().parents[1] / "gan_style" / "assets" / "styles"
U, V = np.meshgrid(*[(np.arange(CANVAS) + 0.5) / CANVAS] * 2)  # each pixel's place, 0 to 1


def smooth_noise(rng: Generator, cells: int, octaves: int = 2) -> Array:
    """Return noise in 0..1 whose largest features are about CANVAS / cells wide."""
    total = np.zeros_like(U)
    for octave in range(octaves):
        coarse = rng.random([cells * 2**octave + 1] * 2).astype(np.float32)
        fine = Image.fromarray(coarse).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC)
        total += np.asarray(fine) / 2**octave
    return np.interp(total, [total.min(), total.max()], [0, 1])


def colours(codes: str) -> Array:
    """Turn 'rrggbb rrggbb ...' into an array of RGB rows."""
    return np.array([list(bytes.fromhex(code)) for code in codes.split()], dtype=np.float64)


def lookup(palette: Array, place: Array) -> Array:
    """Return the colours at the places (0..1) along a palette, blended between its rows."""
    stops = np.linspace(0, 1, len(palette))
    return np.stack([np.interp(place, stops, channel) for channel in palette.T], axis=-1)


def sample(field: Array | NDArray[np.int64], points: Array) -> Array:
    """Return the field's value at each (x, y) point; points outside take the nearest edge."""
    x, y = np.moveaxis(np.clip(points, 0, CANVAS - 1).astype(int), -1, 0)
    return np.asarray(field[y, x])


def rgb(colour: Array) -> str:
    """Return a colour as Pillow wants it: #rrggbb."""
    return "#" + np.clip(colour, 0, 255).astype(np.uint8).tobytes().hex()


def to_image(pixels: Array) -> Image.Image:
    """Turn a float canvas in 0..255 into an image."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def emboss(pixels: Array, relief: Image.Image, strength: float) -> Image.Image:
    """Light the canvas from the upper left as though the relief were thick paint or glass."""
    height = np.asarray(relief.filter(ImageFilter.GaussianBlur(SCALE * 0.6)), dtype=np.float64)
    down, right = np.gradient(height)
    return to_image(pixels + np.expand_dims(np.clip(-(down + right) * strength, -45, 55), -1))


OILS = colours("0a1145 152a8c 1f4fc0 1794b8 3cc4bd a8dcc0 f0b83c e8821a f8d460 fff6da")
EDDIES = (  # x, y, radius, spin
    *((0.30, 0.30, 0.20, 1.0), (0.76, 0.22, 0.13, -0.7), (0.64, 0.62, 0.19, 1.0)),
    *((0.16, 0.76, 0.14, -0.8), (0.92, 0.88, 0.14, 0.8), (0.04, 0.08, 0.12, -0.6)),
)


def current(rng: Generator) -> tuple[Array, Array]:
    """Return the heading of the swirling current and the tone of the paint along it."""
    stream, glow = 0.5 * V + 0.30 * smooth_noise(rng, 3), np.zeros_like(U)
    for x, y, radius, spin in EDDIES:
        distance = np.hypot(U - x, V - y) / radius
        stream += 1.5 * spin * radius * np.exp(-(distance**2))
        glow = np.maximum(glow, np.exp(-((distance / 0.62) ** 2)))
    down, right = np.gradient(stream)
    # Tone follows the streamlines, so that bands of paint wind around the eddies.
    tone = 0.29 + 0.27 * np.sin(stream * 46) + 0.66 * glow * (0.78 + 0.3 * np.sin(stream * 70))
    return np.arctan2(-right, down), tone


def brush(draws: list[Draw], rng: Generator, path: Array, width: float, pigment: Array) -> None:
    """Draw one tapered stroke as a bundle of bristles, on the paint and on its relief."""
    tangent = np.gradient(path, axis=0)
    normal = tangent[:, ::-1] * [-1, 1] / np.linalg.norm(tangent, axis=1, keepdims=True)
    side = normal * width * np.sin(np.pi * np.linspace(0.06, 0.97, len(path)))[:, None] ** 0.6
    bristles, thick = max(4, round(width / 5)), round(min(8.5, width * 0.42))
    for offset in rng.permutation(np.linspace(-0.5, 0.5, bristles)):
        # Bristles lift off at different moments, which frays the end of the stroke.
        keep = len(path) - int(rng.integers(0, len(path) // 4))
        line, load = (path + side * offset)[:keep].ravel().tolist(), rng.normal(0, 13)
        draws[0].line(line, rgb(pigment + load), thick)
        draws[1].line(line, round(128 + 5 * load), thick)


def paint_flow() -> Image.Image:
    """Paint a night current of ultramarine and ochre, from coarse strokes to fine ones."""
    rng = default_rng(11)
    heading, tone = current(rng)
    paint, relief = to_image(lookup(OILS, tone)), Image.new("L", (CANVAS, CANVAS), 128)
    draws = [ImageDraw.Draw(paint), ImageDraw.Draw(relief)]
    for count, width, steps in ((1500, 54, 16), (2600, 33, 14), (2600, 20, 12)):
        points, stride = [rng.uniform(-0.05, 1.05, (count, 2)) * CANVAS], width * 0.24 + 4
        for _ in range(steps):
            angle = sample(heading, points[-1])[:, None]
            points.append(points[-1] + stride * np.hstack([np.cos(angle), np.sin(angle)]))
        for path in np.stack(points, axis=1):
            pigment = lookup(OILS, sample(tone, path[steps // 2]) + rng.normal(0, 0.06))
            brush(draws, rng, path, width * rng.uniform(0.7, 1.2), pigment)
    return emboss(np.asarray(paint, dtype=np.float64), relief, 1.6)


SUN = np.array([0.60, 0.36])
GLASS = (  # sun, rays, sky, sea
    *(colours("ffd23f ffb000 ff8a1c fff0a0"), colours("d81e2c b0123f ff5a1f f5902a")),
    *(colours("1238b8 2a6be0 0f8fd0 4a2ab0 39b6e8"), colours("0a8f6a 12b58a 0b6f8c 7cc83a 085c4e")),
)


def glass_seeds(rng: Generator) -> Array:
    """Scatter cell centres that stand closer together near the sun than far from it."""
    seeds: list[Array] = []
    for point in rng.uniform(-0.06, 1.06, (9000, 2)):
        patch = 1 + 0.5 * np.sin(9 * point[0] + 4) * np.sin(8 * point[1] + 1)
        gap = 0.026 + 0.050 * min(1.0, float(np.hypot(*(point - SUN))) * 1.1) * patch
        if all(np.hypot(*(point - other)) > gap for other in seeds):
            seeds.append(point)
    return np.array(seeds)


def glass_parts(rng: Generator, seeds: Array) -> NDArray[np.int64]:
    """Say what each cell belongs to: 0 the sun, 1 its rays, 2 the sky, 3 the sea."""
    radius, turn = np.hypot(*(seeds - SUN).T), np.arctan2(*(seeds - SUN).T[::-1])
    part = np.where((np.sin(6 * turn + 7 * radius) > 0.1) & (radius < 0.66), 1, 2)
    part[seeds[:, 1] > 0.72 + 0.07 * np.sin(7 * seeds[:, 0])] = 3
    part[radius < 0.14] = 0
    return np.where(rng.random(len(seeds)) < 0.05, rng.integers(0, 4, len(seeds)), part)


def voronoi(seeds: Array, x: Array, y: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Return each pixel's cell, the next nearest cell, and the distance to their border."""
    (owner, rival), border = np.zeros((2, *x.shape), dtype=np.int64), np.zeros_like(x)
    columns = np.arange(CANVAS)
    for row in range(CANVAS):
        distance = (x[row, :, None] - seeds[:, 0]) ** 2 + (y[row, :, None] - seeds[:, 1]) ** 2
        owner[row] = first = distance.argmin(1)
        nearest = distance[columns, first]
        distance[columns, first] = np.inf
        rival[row] = second = distance.argmin(1)
        apart = np.linalg.norm(seeds[first] - seeds[second], axis=-1)
        border[row] = (distance[columns, second] - nearest) / (2 * apart)
    return owner, rival, border


def paint_mosaic() -> Image.Image:
    """Paint a stained-glass sun over the sea: jewel cells, dark leads, streaks in the glass."""
    rng = default_rng(5)
    # Bending the plane bends the borders, as a glazier's cuts do.
    x, y = (axis + 0.04 * (smooth_noise(rng, 6) - 0.5) for axis in (U, V))
    seeds = glass_seeds(rng)
    parts = glass_parts(rng, seeds)
    owner, rival, border = voronoi(seeds * CANVAS, x * CANVAS, y * CANVAS)
    jewels = np.array([rng.choice(GLASS[part]) * rng.uniform(0.75, 1.12) for part in parts])
    slope = ((np.dstack([x, y]) - seeds[owner]) * rng.uniform(-1, 1, seeds.shape)[owner]).sum(-1)
    light = 0.86 + 5.5 * slope + 0.10 * np.sin(60 * (smooth_noise(rng, 7) + slope))
    light += 0.30 * np.exp(-(((border / SCALE - 10) / 7) ** 2))
    pixels = jewels[owner] * light[..., None] + 55 * np.clip(light - 1, 0, 1)[..., None]
    # The heavier leads hold the sun, the rays, the sky and the sea apart.
    lead = SCALE * (0.9 + 1.8 * smooth_noise(rng, 9, 1) + 1.7 * (parts[owner] != parts[rival]))
    solid = np.clip((border - lead) / (2 * SCALE), 0, 1)[..., None]
    relief = to_image(np.clip(border / lead, 0, 1) * 120 + 22 * smooth_noise(rng, 160, 1))
    return emboss(pixels * solid + 16 * (1 - solid), relief, 0.6)


def hill_country(rng: Generator) -> tuple[NDArray[np.int64], Array]:
    """Return the region of every pixel (0 sky, 1 sun, 2.. hills) and how dark it should be."""
    disc = np.hypot(U - 0.67, V - 0.23) / 0.125
    region = (disc < 1).astype(np.int64)
    tone = np.where(disc < 1, 0.25 + 0.6 * disc**2, 0.14 + 0.66 * smooth_noise(rng, 4, 3) ** 1.3)
    for hill in range(6):
        wave = np.sin(U * (5.5 - 0.4 * hill) + 2.4 * hill + rng.uniform(-0.4, 0.4))
        depth = (V - 0.34 - 0.115 * hill - (0.05 + 0.012 * hill) * wave) / 0.17
        region[depth > 0] = 2 + hill
        shadow = 0.98 - 0.9 * np.clip(depth, 0, 1) + 0.35 * np.sin(9 * U + 2 * hill)
        tone = np.where(depth > 0, np.clip(shadow, 0.16, 1), tone)
    return region, tone


def hatch_lines(rng: Generator, angle: float, spacing: float, sway: Array) -> Array:
    """Return nearly parallel hand-drawn lines over the canvas, as (lines, points, 2)."""
    along = np.arange(-0.75 * CANVAS, 0.75 * CANVAS, 3 * SCALE)
    across = np.arange(-0.75 * CANVAS, 0.75 * CANVAS, spacing)[:, None]
    across = across + rng.normal(0, 0.18 * spacing, across.shape) * (1 + 2 * along / CANVAS)
    forward, sideways = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    lines = CANVAS / 2 + along[:, None] * forward + across[..., None] * sideways
    return np.asarray(lines + (sample(sway, lines)[..., None] - 0.5) * 30 * SCALE * sideways)


def paint_hatching() -> Image.Image:
    """Draw rolling hills under a red sun in hatches and cross-hatches of ink."""
    rng = default_rng(23)
    region, tone = hill_country(rng)
    sheet = to_image(colours("f3e6cc") + 14 * (smooth_noise(rng, 60)[..., None] - 0.5))
    draw, inks = ImageDraw.Draw(sheet), ["#18162a", "#cd3418"]
    sway, grain = smooth_noise(rng, 4), smooth_noise(rng, 70, 1)
    leanings = rng.permutation(np.linspace(0.2, np.pi, 8, endpoint=False))
    # Every further layer turns the pen and covers only what is darker still.
    for turn, threshold in ((0, 0.10), (1.0, 0.40), (-0.7, 0.62), (1.7, 0.80)):
        for part, leaning in enumerate(leanings):
            for line in hatch_lines(rng, leaning + turn, 5.9 * SCALE, sway):
                depth = sample(tone, line) + 0.3 * (sample(grain, line) - 0.5) - threshold
                weight = np.clip(0.9 + 1.7 * depth, 0.8, 2.1) * SCALE
                weight[(depth < 0) | (sample(region, line) != part)] = 0
                pen = np.minimum(weight[1:], weight[:-1]).round().astype(int)
                for i in np.flatnonzero(pen):
                    draw.line(line[i : i + 2].ravel().tolist(), inks[part == 1], int(pen[i]))
    return sheet


PURE = colours(
    "1b2a9c 2f5fe0 39a0f0 8ccdf5 12b3c4 0c7a5a 10a36a 5cc43c b8dc2e ffe23a ffb21e ff7a1e e8332a "
    "d81b6a f58ab4 7a2fb8 b48ae8 fff6df 3a1f6e 7a2a3a"
)


def evening_shore(rng: Generator) -> Array:
    """Return a smooth landscape: evening sky, a sail on glittering water, tree and meadow."""
    cloud, ripple = smooth_noise(rng, 5, 3), np.sin(130 * V + 9 * smooth_noise(rng, 6))
    sun = 1.25 * np.hypot(U - 0.66, V - 0.30) + 0.2 * cloud
    sky = lookup(colours("fffbd0 ffe060 ffb050 f58ab4 8a8ae8 39a0f0 2450c8"), sun)
    sail = (abs(U - 0.42) * 3 < V - 0.17) & (V < 0.53) & (U > 0.36)
    leaf = np.hypot((U - 0.12) / 0.21, (V - 0.33) / 0.34) + 0.8 * (cloud - 0.5)
    near = V - 0.77 - 0.08 * np.sin(3.4 * U + 0.4)
    for where, colour in (
        (0.40 + 0.05 * np.sin(8 * U + 2) < V, lookup(colours("d880c0 6a3cb0"), (V - 0.36) * 9)),
        (V > 0.47, lookup(colours("f8a860 48a8d8 1f55b8 1b2a9c"), V * 2.9 - 1.34 + 0.12 * ripple)),
        ((V > 0.47) & (abs(U - 0.66) < 0.16 * V - 0.045 + 0.03 * ripple), colours("ffd458")),
        (sail, lookup(colours("fff6df fff6df e8332a b0123f"), (U - 0.36) * 7)),
        (near > 0, lookup(colours("f0e040 8ccc30 10a36a 0c6a6a"), near * 3.6 + 0.8 * cloud - 0.32)),
        (leaf < 1, lookup(colours("2a2a80 0c6a5a 20a850 b8dc2e"), U * 2.8 + 1.1 * (cloud - 0.4))),
    ):
        sky = np.where(where[..., None], colour, sky)
    return sky


def dot_colours(rng: Generator, wanted: Array) -> Array:
    """Choose pure pigments that blend, seen from afar, to about the wanted colours."""
    mixed = wanted + rng.normal(0, 44, wanted.shape)
    # The neo-impressionists set complements side by side: each makes the other glow.
    opposed = rng.random(len(wanted)) < 0.09
    mixed[opposed] = (wanted.max(1, keepdims=True) * 1.15 - wanted * 0.9)[opposed]
    nearest = np.linalg.norm(mixed[:, None] - PURE, axis=-1).argmin(axis=1)
    return np.asarray(PURE[nearest] * 0.85 + wanted * 0.15 + rng.normal(0, 11, wanted.shape))


def paint_pointillism() -> Image.Image:
    """Paint an evening by the water in three sizes of dots."""
    rng = default_rng(31)
    scene = evening_shore(rng)
    draw = ImageDraw.Draw(canvas := to_image(scene * 0.7))
    for radius in (7.0 * SCALE, 5.2 * SCALE, 3.8 * SCALE):
        axis = np.arange(0, CANVAS + radius, radius * 1.9)
        centres = rng.permutation(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2))
        centres += rng.normal(0, radius * 0.35, centres.shape)
        for (x, y), fill in zip(centres, dot_colours(rng, sample(scene, centres)), strict=True):
            r = radius * rng.uniform(0.65, 1.1)
            # The darker rim parts a dot from its neighbours of the same colour.
            draw.ellipse((x - r, y - r, x + r, y + r), rgb(fill), rgb(fill * 0.8), width=2)
    return canvas


PAINTERS = (paint_flow, paint_mosaic, paint_hatching, paint_pointillism)
ARTWORKS = {painter.__name__.removeprefix("paint_"): painter for painter in PAINTERS}


def main(arguments: list[str] | None = None) -> None:
    """Paint the artworks asked for on the command line."""
    parser = argparse.ArgumentParser(description="Paint gan_style's four style artworks.")
    parser.add_argument("--output", type=Path, default=STYLES_FOLDER, help="folder to write to")
    parser.add_argument("--only", choices=ARTWORKS, metavar="NAME", help=", ".join(ARTWORKS))
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for name in [options.only] if options.only else ARTWORKS:
        path = options.output / f"{name}.jpg"
        # Full chroma resolution: halved, it would grey the small marks of pure colour.
        picture = ARTWORKS[name]().reduce(SCALE)
        picture.save(path, quality=QUALITY[name], subsampling=0, optimize=True)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

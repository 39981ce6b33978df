"""The pictures the flowers model learns from: photographs, how they are varied, and drawn ones.

Pictures are uint8 arrays [height, width, 3] in memory (five thousand of them take a gigabyte at
most). A `numpy.random.Generator` goes into everything random, so a seed repeats a run.
"""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

NEAREST, BILINEAR, BICUBIC, BOX, LANCZOS = (
    getattr(Image.Resampling, name) for name in ("NEAREST", "BILINEAR", "BICUBIC", "BOX", "LANCZOS")
)
FILTERS = (NEAREST, BILINEAR, BICUBIC, BOX, LANCZOS)
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def decode(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def stretched(picture, size):
    """The whole picture at the model's size, as the plugin resizes it."""
    return np.asarray(Image.fromarray(picture).resize((size, size), BILINEAR))


def varied(picture, size, least, dice):
    """One training view: another quality, turned, a random part of the picture, perhaps mirrored.

    A quarter of every flower but dandelion is 128 px wide, turned and smeared at its edges, and the
    photographs of other things are larger: sharpness and edges would give classes away. Every view
    may therefore be turned, lose resolution, be blurred or be compressed again before it is cut.
    """
    image = degraded(Image.fromarray(picture), dice)
    if dice.random() < 0.3:
        image = turned(image, dice.uniform(-45, 45))
    if dice.random() < 0.1:
        image = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    image = image.resize((size, size), BILINEAR, box=part(image.size, least, dice))
    if dice.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return erased(np.array(image), dice)


def degraded(image, dice):
    if dice.random() < 0.5:
        side = dice.uniform(72, 224)
        width, height = image.size
        # Photographs come stretched to a square and as they were taken: both shapes, for all.
        if dice.random() < 0.5:
            width = height = side
        scale = side / min(width, height)
        shape = max(16, round(width * scale)), max(16, round(height * scale))
        image = image.resize(shape, FILTERS[dice.integers(len(FILTERS))])
    if dice.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(dice.uniform(0.3, 1.6)))
    if dice.random() < 0.3:
        compressed = io.BytesIO()
        image.save(compressed, "JPEG", quality=int(dice.integers(25, 92)))
        image = Image.open(compressed)
    return image


def turned(image, degrees):
    """Turned around its middle; the corners that fall free show the edge smeared outwards."""
    width, height = image.size
    across, down = width // 4, height // 4
    wide = np.pad(np.asarray(image), ((down, down), (across, across), (0, 0)), mode="edge")
    wide = Image.fromarray(wide).rotate(degrees, BILINEAR)
    return wide.crop((across, down, across + width, down + height))


def part(shape, least, dice):
    """A random box of a picture, (left, top, right, bottom): a share of its area, roughly its shape."""
    width, height = shape
    area, ratio = dice.uniform(least, 1.0), np.exp(dice.uniform(-0.29, 0.29))
    across = min(1.0, np.sqrt(area * ratio))
    down = min(1.0, np.sqrt(area / ratio))
    left, top = dice.uniform(0, 1 - across), dice.uniform(0, 1 - down)
    return left * width, top * height, (left + across) * width, (top + down) * height


def erased(pixels, dice):
    """Now and then a patch of one colour hides something."""
    if dice.random() < 0.2:
        size = len(pixels)
        side = int(size * dice.uniform(0.15, 0.4))
        top, left = dice.integers(0, size - side, 2)
        pixels[top : top + side, left : left + side] = dice.integers(0, 256, 3)
    return pixels


def colour_change(dice):
    """A random change of light as one matrix [3, 4] for values around zero: saturation, contrast,
    white balance, brightness. Hue stays, since a rose and a tulip differ in little else at times."""
    saturation, contrast = dice.uniform(0.6, 1.4), dice.uniform(0.7, 1.3)
    matrix = saturation * np.eye(3) + (1 - saturation) * np.outer(np.ones(3), LUMA)
    matrix = contrast * dice.uniform(0.92, 1.08, (3, 1)) * matrix
    return np.column_stack([matrix, np.full(3, dice.uniform(-0.25, 0.25))]).astype(np.float32)


def drawn_nothing(flowers, dice):
    """A picture that shows none of the classes, made up: one of six kinds, letters and shapes more often."""
    kinds = (noise, plain, gradient, shapes, shapes, page, page, shuffled)
    kind = kinds[dice.integers(len(kinds))]
    return kind(flowers[dice.integers(len(flowers))], dice) if kind is shuffled else kind(dice)


def noise(dice):
    """Fine or coarse, coloured or grey, mild or wild."""
    side = int(dice.integers(4, 200))
    channels = 3 if dice.random() < 0.6 else 1
    if dice.random() < 0.5:
        grains = dice.integers(0, 256, (side, side, channels))
    else:
        grains = dice.normal(dice.uniform(40, 215, channels), dice.uniform(5, 80), (side, side, channels))
    grains = np.broadcast_to(grains, (side, side, 3)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(grains))
    return np.asarray(image.resize((200, 200), FILTERS[dice.integers(len(FILTERS))]))


def plain(dice):
    """One colour; often a grey."""
    colour = dice.integers(0, 256, 3) if dice.random() < 0.6 else np.full(3, dice.integers(0, 256))
    pixels = np.broadcast_to(colour, (200, 200, 3)) + dice.normal(0, dice.uniform(0, 4), (200, 200, 1))
    return pixels.clip(0, 255).astype(np.uint8)


def gradient(dice):
    """From one colour to another, straight or round."""
    down, across = np.mgrid[-1:1:200j, -1:1:200j]
    angle = dice.uniform(0, 2 * np.pi)
    course = (np.cos(angle) * across + np.sin(angle) * down + 1.5) / 3
    if dice.random() < 0.5:
        x, y = dice.uniform(-0.5, 0.5, 2)
        course = np.hypot(across - x, down - y) / 2
    ends = dice.uniform(0, 255, (2, 3))
    return (ends[0] + course[..., None] * (ends[1] - ends[0])).clip(0, 255).astype(np.uint8)


def shapes(dice):
    """Boxes, lines, rings and triangles; no petals around a middle."""
    image = Image.new("RGB", (200, 200), colour(dice))
    draw = ImageDraw.Draw(image)
    for _ in range(dice.integers(2, 14)):
        left, top = dice.integers(-40, 180, 2).tolist()
        right, bottom = left + int(dice.integers(8, 140)), top + int(dice.integers(8, 140))
        kind, width = dice.integers(4), int(dice.integers(1, 8))
        if kind == 0:
            draw.rectangle((left, top, right, bottom), colour(dice), colour(dice), width)
        elif kind == 1:
            draw.line((left, top, right, bottom), colour(dice), width)
        elif kind == 2:
            draw.ellipse((left, top, right, bottom), None, colour(dice), width)
        else:
            draw.polygon((left, bottom, right, bottom, (left + right) // 2, top), colour(dice))
    return np.asarray(image)


def page(dice):
    """Lines of letters, dark on light or light on dark, with bars and boxes as a screen has them."""
    width, height = (int(side) for side in dice.integers(240, 640, 2))
    light, dark = dice.integers(190, 256, 3), dice.integers(0, 70, 3)
    paper, ink = (light, dark) if dice.random() < 0.6 else (dark, light)
    image = Image.new("RGB", (width, height), tuple(paper.tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(dice.integers(0, 4)):
        left, top = (int(side) for side in dice.integers(0, 400, 2))
        draw.rectangle(
            (left, top, left + int(dice.integers(40, 300)), top + int(dice.integers(10, 90))), colour(dice)
        )
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIKLMNORST0123456789.,;:(){}[]=+-    "))
    size = int(dice.integers(9, 30))
    font = ImageFont.load_default(size)
    for top in range(int(dice.integers(0, 40)), height, int(size * dice.uniform(1.2, 2))):
        line = "".join(dice.choice(letters, int(width / size * dice.uniform(0.2, 2))))
        draw.text((int(dice.integers(2, 40)), top), line, tuple(ink.tolist()), font=font)
    return np.asarray(image)


def shuffled(flower, dice):
    """A flower cut into small tiles that lie in another order: its colours without its form."""
    tiles = int(dice.integers(8, 17))
    side = 200 // tiles
    cut = stretched(flower, tiles * side).reshape(tiles, side, tiles, side, 3).swapaxes(1, 2)
    cut = dice.permutation(cut.reshape(tiles * tiles, side, side, 3))
    return cut.reshape(tiles, tiles, side, side, 3).swapaxes(1, 2).reshape(tiles * side, tiles * side, 3)


def colour(dice):
    return tuple(dice.integers(0, 256, 3).tolist())


def drawn_daisy(side=256):
    """White petals around a yellow middle on a lawn: the request a server warms up with."""
    dice = np.random.default_rng(11)
    scale = 4
    image = Image.new("RGB", (side * scale, side * scale), (46, 92, 38))
    draw = ImageDraw.Draw(image)
    for _ in range(900):
        x, y = dice.integers(0, side * scale, 2).tolist()
        blade = (int(dice.integers(30, 80)), int(dice.integers(80, 150)), int(dice.integers(25, 60)))
        draw.line((x, y, x + int(dice.integers(-50, 50)), y - int(dice.integers(40, 160))), blade, 7)
    middle, reach, petals = side * scale / 2, side * scale * 0.42, 21
    for index in range(petals):
        turn = 2 * np.pi * (index + dice.uniform(-0.15, 0.15)) / petals
        along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        length, width = reach * dice.uniform(0.88, 1.0), reach * 0.13
        steps = np.linspace(0, np.pi, 24)
        outline = [middle + along * length * s + across * w for s, w in petal(steps, width)]
        shade = int(dice.integers(228, 256))
        draw.polygon([tuple(point) for point in outline], (shade, shade, shade), (196, 198, 206), 3)
    core = reach * 0.3
    draw.ellipse((middle - core, middle - core, middle + core, middle + core), (240, 190, 24))
    for _ in range(700):
        turn, out = dice.uniform(0, 2 * np.pi), core * np.sqrt(dice.uniform(0, 1))
        x, y = middle + out * np.cos(turn), middle + out * np.sin(turn)
        draw.ellipse(
            (x - 6, y - 6, x + 6, y + 6), (int(dice.integers(205, 256)), int(dice.integers(140, 200)), 10)
        )
    image = image.resize((side, side), LANCZOS).filter(ImageFilter.GaussianBlur(0.6))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return out.getvalue()


def petal(steps, width):
    """A petal's outline as (share of its length, distance from its axis), there and back."""
    there = [((1 - np.cos(step)) / 2, width * np.sin(step) ** 0.7) for step in steps]
    return there + [(share, -distance) for share, distance in reversed(there)]

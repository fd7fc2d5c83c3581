"""Make crates/densenet-data/tests/golden: what PIL and torchvision make of small pictures.

Pinned: Pillow 13.0.0, torch 2.15.0, torchvision 0.29.2, numpy 2.4.6.
Run from the repository's root:  python tools/data/golden.py

files/X and files/X.npy     a picture file and PIL's pixels of it, upright, [height, width, channels]
resize/NAME.npy             PIL's resize of resize/input.npy (or input_wide.npy) to the size and filter in NAME
transform/NAME.npy          torchvision's evaluation transform of resize/input.npy, channels last
"""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from torchvision import transforms

ROOT = pathlib.Path("crates/densenet-data/tests/golden")
RANDOM = np.random.Generator(np.random.PCG64(7))


def save(path, array):
    path = ROOT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(array))


def picture(height, width, channels, smooth=True):
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        127 + 60 * np.sin(x / (3 + c) + c) + 50 * np.cos(y / (2 + c) - c) + (0 if smooth else 30) * RANDOM.standard_normal((height, width))
        for c in range(channels)
    ]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def resizing():
    noisy = RANDOM.integers(0, 256, (37, 53, 3)).astype(np.uint8)
    save("resize/input.npy", noisy)
    wide = RANDOM.integers(0, 65536, (19, 23)).astype(np.uint16)
    save("resize/input_wide.npy", wide)
    filters = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for name, filter in filters.items():
        for height, width in [(16, 16), (5, 80), (60, 7), (37, 20), (50, 53), (1, 1), (74, 106)]:
            out = Image.fromarray(noisy).resize((width, height), filter)
            save(f"resize/input_{height}x{width}_{name}.npy", np.asarray(out))
        for height, width in [(8, 8), (40, 11)]:
            # Float: PIL keeps f32 between the passes, as we do.
            out = Image.fromarray(wide.astype(np.float32)).resize((width, height), filter)
            save(f"resize/float_{height}x{width}_{name}.npy", np.asarray(out))
    image = Image.fromarray(noisy)
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    for name, steps in {
        "shorter_20_crop_16x16": [transforms.Resize(20), transforms.CenterCrop(16)],
        "shorter_21_crop_18x13": [transforms.Resize(21), transforms.CenterCrop((18, 13))],
        "shorter_12_crop_15x14": [transforms.Resize(12), transforms.CenterCrop((15, 14))],
        "exact_10x30": [transforms.Resize((10, 30))],
    }.items():
        out = transforms.Compose([*steps, transforms.ToTensor(), normalise])(image)
        save(f"transform/{name}.npy", out.permute(1, 2, 0).numpy())
    save("transform/luma.npy", np.asarray(image.convert("L")))


def written(name, image, pixels=None, **options):
    path = ROOT / "files" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    if pixels is None:
        pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    save(f"files/{name}.npy", pixels if pixels.ndim == 3 else pixels[..., None])


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(name, array, colour_type, depth, pixels, width=None):
    """A PNG of a kind PIL does not write: rows of big-endian samples, filter 0."""
    height, width = array.shape[0], width or array.shape[1]
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head)
    data += png_chunk(b"IDAT", zlib.compress(rows, 9)) + png_chunk(b"IEND", b"")
    (ROOT / "files" / name).write_bytes(data)
    save(f"files/{name}.npy", pixels if pixels.ndim == 3 else pixels[..., None])


def files():
    rgb, grey = picture(9, 13, 3), picture(9, 13, 1)[..., 0]
    rgba = np.dstack([rgb, RANDOM.integers(0, 256, (9, 13)).astype(np.uint8)])
    colour, luma = Image.fromarray(rgb), Image.fromarray(grey)
    written("rgb.png", colour, rgb)
    written("grey.png", luma, grey)
    written("rgba.png", Image.fromarray(rgba), rgba)
    written("grey_alpha.png", Image.fromarray(rgba[..., 2:]), rgba[..., 2:])
    palette = colour.quantize(16)
    written("palette.png", palette, np.asarray(palette.convert("RGB")))
    written("palette_transparent.png", palette, np.asarray(palette_alpha(palette, 3)), transparency=3)
    bits = luma.point(lambda v: 255 * (v > 127)).convert("1")
    written("one_bit.png", bits, np.asarray(bits.convert("L")))
    four = (np.asarray(luma) >> 4).astype(np.uint8)[:, :12]
    png("four_bit.png", four[:, 0::2] << 4 | four[:, 1::2], 0, 4, four * 17, width=12)
    wide = RANDOM.integers(0, 65536, (9, 13)).astype(np.uint16)
    png("grey16.png", wide.astype(">u2"), 0, 16, wide)
    wide3 = RANDOM.integers(0, 65536, (9, 13, 3)).astype(np.uint16)
    png("rgb16.png", wide3.astype(">u2"), 2, 16, wide3)
    written("rgb.jpg", colour, quality=95, subsampling=0)
    written("subsampled.jpg", colour, quality=90)
    written("grey.jpg", luma, quality=95)
    written("progressive.jpg", colour, quality=95, subsampling=0, progressive=True)
    cmyk = colour.convert("CMYK")
    buffer = io.BytesIO()
    cmyk.save(buffer, "JPEG", quality=95, subsampling=0)
    written("cmyk.jpg", cmyk, np.asarray(Image.open(buffer).convert("RGB")), quality=95, subsampling=0)
    written("lossless.webp", colour, rgb, lossless=True)
    written("lossless_alpha.webp", Image.fromarray(rgba), rgba, lossless=True, exact=True)
    written("lossy.webp", colour, quality=90)
    written("rgb.bmp", colour, rgb)
    written("grey.bmp", luma, np.asarray(luma.convert("RGB")))
    written("rgb.tiff", colour, rgb)
    written("lzw.tiff", colour, rgb, compression="tiff_lzw")
    written("deflate.tiff", luma, grey, compression="tiff_adobe_deflate")
    written("grey16.tiff", Image.fromarray(wide), wide)
    written("oriented.tiff", colour, tiffinfo={274: 6})
    for orientation in range(1, 9):
        written(f"orientation_{orientation}.jpg", colour, exif=exif_of(orientation), quality=95, subsampling=0)
    written("orientation_8.png", colour, exif=exif_of(8))
    written("orientation_3.webp", colour, exif=exif_of(3), lossless=True)


def exif_of(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def palette_alpha(palette, transparent):
    rgba = np.asarray(palette.convert("RGBA")).copy()
    rgba[..., 3] = np.where(np.asarray(palette) == transparent, 0, 255)
    return rgba


ROOT.mkdir(parents=True, exist_ok=True)
resizing()
files()

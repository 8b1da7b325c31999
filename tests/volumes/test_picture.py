"""Pictures and TIFF stacks: every bit as Pillow, tifffile or imagecodecs wrote it, or a refusal."""

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from audited import audited
from PIL import Image

from medseg.errors import DataError
from medseg.volumes import describe, label_keys, read_image, read_labels

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 65536, (5, 7), np.uint16)
COLOURS = RNG.integers(0, 256, (5, 7, 3), np.uint8)
DEEP_COLOURS = RNG.integers(0, 65536, (5, 7, 3), np.uint16)
STACK = RNG.integers(0, 65536, (4, 5, 7), np.uint16)
PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0]
EXIF_ORIENTATION = 0x0112

Write = Callable[[Path], object]


def pillow(pixels: np.ndarray, **options: object) -> Write:
    return lambda path: Image.fromarray(pixels).save(path, **options)


def tiff(pixels: np.ndarray, **options: object) -> Write:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def png16(path: Path) -> object:
    return path.write_bytes(imagecodecs.png_encode(DEEP_COLOURS))


def paletted(indices: np.ndarray, **options: object) -> Write:
    def write(path: Path) -> None:
        picture = Image.fromarray(indices, "P")
        picture.putpalette(PALETTE)
        picture.save(path, **options)

    return write


WRITTEN = {
    "png grey": ("a.png", pillow(GREY), GREY),
    "png 16 bits": ("a.png", pillow(DEEP), DEEP),
    "png colours": ("a.png", pillow(COLOURS), COLOURS),
    "png colours of 16 bits": ("a.png", png16, DEEP_COLOURS),
    "png 1 bit": ("a.png", pillow(GREY > 99), GREY > 99),
    "png opaque alpha": ("a.png", pillow(np.dstack([COLOURS, 0 * GREY + 255])), COLOURS),
    "png grey and opaque alpha": ("a.png", pillow(np.dstack([GREY, 0 * GREY + 255])), GREY),
    "bmp": ("a.bmp", pillow(COLOURS), COLOURS),
    "gif": ("a.gif", pillow(GREY), GREY),
    "ppm": ("a.ppm", pillow(COLOURS), COLOURS),
    "pgm": ("a.pgm", pillow(GREY), GREY),
    "tiff grey": ("a.tif", tiff(GREY), GREY),
    "tiff colours": ("a.tif", tiff(DEEP_COLOURS, photometric="rgb"), DEEP_COLOURS),
    "tiff planes of colours": (
        "a.tif",
        tiff(np.moveaxis(COLOURS, -1, 0), photometric="rgb", planarconfig="separate"),
        COLOURS,
    ),
    "tiff lzw": ("a.tiff", pillow(GREY, compression="tiff_lzw"), GREY),
    "tiff deflate, predictor, tiles": (
        "a.tif",
        tiff(DEEP, compression="zlib", predictor=True, tile=(16, 16)),
        DEEP,
    ),
    "tiff float": ("a.tif", tiff(GREY.astype(np.float32)), GREY),
    "tiff big-endian": ("a.tif", tiff(DEEP, byteorder=">"), DEEP),
    "bigtiff": ("a.tif", tiff(DEEP, bigtiff=True), DEEP),
    "tiff white is zero": ("a.tif", tiff(255 - GREY, photometric="miniswhite"), GREY),
    "tiff stack": ("a.tif", tiff(STACK, photometric="minisblack"), STACK),
    "imagej stack": ("a.tif", tiff(STACK, imagej=True, metadata={"axes": "ZYX"}), STACK),
    "ome stack": ("a.ome.tif", tiff(STACK, ome=True, metadata={"axes": "ZYX"}), STACK),
    "stack of pillow": (
        "a.tif",
        lambda path: Image.fromarray(STACK[0]).save(
            path, save_all=True, append_images=[Image.fromarray(page) for page in STACK[1:]]
        ),
        STACK,
    ),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_every_value_is_read_in_the_axes_of_itk(kind: str, tmp_path: Path) -> None:
    name, write, pixels = WRITTEN[kind]
    write(tmp_path / name)
    volume = read_image(tmp_path / name, channels=None)
    is_stack = pixels.shape[0] == len(STACK)
    expected = pixels if is_stack else pixels[None]  # (pages, rows, columns[, channels])
    expected = expected[..., None] if expected.ndim == 3 else expected
    np.testing.assert_array_equal(volume.array, np.transpose(expected, (3, 2, 1, 0)))
    described = describe(tmp_path / name)
    assert (described.channels, *described.shape) == volume.array.shape
    assert described.is_picture != is_stack
    assert volume.geometry.axcodes == ("L", "P", "S")


def test_place_is_that_of_simpleitk(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    image, volume = sitk.ReadImage(path), read_image(path)
    for index in [(0, 0, 0), (6, 4, 3)]:
        ras = np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        np.testing.assert_allclose((volume.geometry.affine @ [*index, 1])[:3], ras, atol=1e-5)


def test_jpeg_is_read_as_an_image_and_refused_as_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path)
    np.testing.assert_array_equal(
        read_image(path, channels=3).array[..., 0].T, np.asarray(Image.open(path))
    )
    for read in (label_keys, lambda p: read_labels(p, num_classes=None)):
        with pytest.raises(DataError, match="loss"):
            read(path)


def test_tiff_with_jpeg_inside_is_no_mask(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), compression="jpeg")
    with pytest.raises(DataError, match="loss"):
        read_labels(path, num_classes=None)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_orientation_is_applied(name: str, orientation: int, tmp_path: Path) -> None:
    upright = {  # EXIF 2.3: where the first row and the first column of the file belong
        1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1],
        5: GREY.T, 6: GREY.T[:, ::-1], 7: GREY.T[::-1, ::-1], 8: GREY.T[::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = orientation
    Image.fromarray(GREY).save(tmp_path / name, exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / name).array[0, :, :, 0].T, upright)
    assert describe(tmp_path / name).shape[:2] == upright.shape[::-1]


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.tif", "a.bmp"])
def test_palette_is_classes_in_a_mask_and_colours_in_an_image(name: str, tmp_path: Path) -> None:
    indices = (GREY % 3).astype(np.uint8)
    paletted(indices)(tmp_path / name)
    labels = read_labels(tmp_path / name, num_classes=3)
    np.testing.assert_array_equal(labels.array[..., 0].T, indices)
    image = read_image(tmp_path / name, channels=3).array[..., 0]
    np.testing.assert_array_equal(image.T, np.reshape(PALETTE, (3, 3))[indices])
    assert describe(tmp_path / name).channels == 3


IMAGEJ = {"imagej": True, "resolution": (4, 2)}
OME = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": 2.0, "PhysicalSizeZ": 4.0}
SPACINGS = {
    "imagej mm": (IMAGEJ, {"spacing": 2.5, "unit": "mm"}, (0.25, 0.5, 2.5)),
    "imagej um": (IMAGEJ, {"spacing": 3, "unit": "um"}, (2.5e-4, 5e-4, 3e-3)),
    "imagej pixels": (IMAGEJ, {"unit": "pixel"}, (9, 9, 9)),
    "cm": ({"resolution": (20, 10), "resolutionunit": "CENTIMETER"}, {}, (0.5, 1, 9)),
    "inch": ({"resolution": (254, 127), "resolutionunit": "INCH"}, {}, (0.1, 0.2, 9)),
    "of printing": ({"resolution": (300, 300), "resolutionunit": "INCH"}, {}, (9, 9, 9)),
    "no unit": ({"resolution": (3, 3), "resolutionunit": "NONE"}, {}, (9, 9, 9)),
    "ome": ({"ome": True}, OME | {"PhysicalSizeZUnit": "nm"}, (0.5, 2e-3, 4e-6)),
}


@pytest.mark.parametrize("kind", SPACINGS)
def test_stated_spacing_goes_before_the_one_given(kind: str, tmp_path: Path) -> None:
    options, metadata, expected = SPACINGS[kind]
    if options.keys() & {"imagej", "ome"}:
        metadata = metadata | {"axes": "ZYX"}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=metadata, **options)
    spacing = read_image(path, spacing=(9, 9, 9)).geometry.spacing
    np.testing.assert_allclose(spacing, expected, rtol=1e-5)


def test_picture_without_spacing_is_taken_at_1_mm_with_a_note(tmp_path: Path) -> None:
    pillow(GREY, dpi=(96, 96))(tmp_path / "a.png")
    volume = read_image(tmp_path / "a.png")
    assert volume.geometry.spacing == (1, 1, 1)
    assert any("voxel size" in note for note in volume.notes)
    assert not read_image(tmp_path / "a.png", spacing=(2, 2, 1)).notes


def test_grey_picture_becomes_colours_and_the_reverse_with_a_note(tmp_path: Path) -> None:
    pillow(GREY)(tmp_path / "grey.png")
    pillow(np.dstack([GREY] * 3))(tmp_path / "colours.png")
    for name, channels in (("grey.png", 3), ("colours.png", 1)):
        volume = read_image(tmp_path / name, channels=channels, spacing=(1, 1, 1))
        np.testing.assert_array_equal(volume.array, np.stack([GREY.T[..., None]] * channels))
        assert len(volume.notes) == 1
    pillow(COLOURS)(tmp_path / "red.png")
    with pytest.raises(DataError):
        read_image(tmp_path / "red.png", channels=1)


FAULTS = {
    "transparent": ("a.png", pillow(np.dstack([COLOURS, GREY]))),
    "colour declared transparent": ("a.png", pillow(COLOURS, transparency=(1, 2, 3))),
    "animated gif": (
        "a.gif",
        lambda p: Image.fromarray(GREY).save(
            p, save_all=True, append_images=[Image.fromarray(255 - GREY)]
        ),
    ),
    "cmyk": ("a.jpg", lambda p: Image.fromarray(COLOURS).convert("CMYK").save(p)),
    "pgm of 3 values": ("a.pgm", lambda p: p.write_bytes(b"P5 2 1 3\n\x01\x02")),
    "pages of two sizes": (
        "a.tif",
        lambda p: [tifffile.imwrite(p, GREY[:n], append=n > 3) for n in (3, 5)],
    ),
    "times and slices": (
        "a.tif",
        tiff(np.stack([STACK] * 2), imagej=True, metadata={"axes": "TZYX"}),
    ),
    "complex": ("a.tif", tiff(GREY.astype(np.complex64))),
    "eps in the place of png": ("a.png", lambda p: p.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")),
    "text": ("a.tif", lambda p: p.write_bytes(b"II*\0 no picture")),
    "png of nothing": ("a.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n")),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_plain_picture_is_refused_by_name(fault: str, tmp_path: Path) -> None:
    name, write = FAULTS[fault]
    write(tmp_path / name)
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / name, channels=None)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [k for k in WRITTEN if "pgm" not in k and "ppm" not in k])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_cut_file_is_refused(kind: str, share: float, tmp_path: Path) -> None:
    name, write, _ = WRITTEN[kind]
    write(tmp_path / name)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError):
        read_image(tmp_path / name, channels=None)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_flipped_bit_in_a_checked_stream_is_refused(name: str, tmp_path: Path) -> None:
    noise = RNG.integers(0, 256, (64, 64), np.uint8)
    options = {} if name == "a.png" else {"compression": "tiff_adobe_deflate"}
    pillow(noise, **options)(tmp_path / name)
    content = bytearray((tmp_path / name).read_bytes())
    content[2000] ^= 4
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_picture_larger_than_the_memory_is_refused_before_it_is_decoded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow(np.zeros((999, 999), np.uint8))(tmp_path / name)
    monkeypatch.setattr("medseg.volumes.container.available_memory_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match="GiB of memory"):
        read_image(tmp_path / name)


def test_picture_that_states_more_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    pillow(GREY)(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = b"\0\1\0\0\0\1\0\0"  # 65536 × 65536
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError):
        read_image(tmp_path / "a.png")


def test_metadata_of_a_tiff_is_data(tmp_path: Path) -> None:
    """Neither a pickle in a tag nor a part that it names elsewhere is opened."""
    path = tmp_path / "a.tif"
    pickle = b"cos\nsystem\n(S'true'\ntR."
    ome = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="7" SizeY="5" SizeZ="1" '
        'SizeC="1" SizeT="1"><TiffData><UUID FileName="other.tif">urn:uuid:1</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    tags = [(65000, "B", len(pickle), pickle, True)]
    tifffile.imwrite(path, GREY, description=ome, extratags=tags, metadata=None)
    (tmp_path / "other.tif").write_bytes(b"secret")
    with audited(tmp_path) as events:
        np.testing.assert_array_equal(read_image(path).array[0, :, :, 0].T, GREY)
    assert not events


def test_the_limit_of_other_programs_stays(tmp_path) -> None:
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "a.png")
    limit = Image.MAX_IMAGE_PIXELS
    read_image(tmp_path / "a.png")
    assert Image.MAX_IMAGE_PIXELS == limit is not None

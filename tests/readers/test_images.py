"""Decoding: framing, colour modes, and the cache."""

import hashlib
import json
import os
import shutil

from common import records, settings
from common.settings import InputError

import numpy as np
import pytest
import torch
from PIL import Image

from readers import images
from readers.images import Images, decode_images, note_copies, read_image, without_groups
from tests.damage import JUNK, check_message, cut

WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def paths(tmp_path):
    """Five images of one colour each: 0, 10, 20, 30 and 40 of red."""
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (12, 8), (10 * number, 0, 255)).save(path)
    return paths


def test_take_rows():
    data = Images(*(np.arange(5) + start for start in (0, 10, 20)))
    taken = data.take(np.array([4, 0]))
    assert [column.tolist() for column in taken[:3]] == [[4, 0], [14, 10], [24, 20]]
    assert data.weight is None and taken.weight is None


def test_weights_stay_with_their_images():
    columns = torch.arange(20).view(4, 5)
    data = Images(*columns)
    assert data.weight.tolist() == [15, 16, 17, 18, 19]
    for rows in (torch.tensor([4, 0]), torch.tensor([True, False, False, False, True])):
        taken = data.take(rows)
        assert isinstance(taken, Images)
        assert [set(column.tolist()) for column in taken] == [
            {4, 0}, {9, 5}, {14, 10}, {19, 15}
        ]  # fmt: skip
    assert data.take(torch.tensor([4, 0])).weight.tolist() == [19, 15]


def test_a_function_is_applied_to_the_tensors_that_there_are():
    weight = torch.tensor([0.5, 1.5])
    data = Images(torch.zeros(2, 3, 8, 8), torch.tensor([0, 1]), torch.tensor([2, 3]))
    for given, expected in ((None, None), (weight, [[1.5, 0.5]])):
        flipped = data._replace(weight=given).apply(lambda tensor: tensor.flip(0)[None])
        assert isinstance(flipped, Images) and flipped.images.shape == (1, 2, 3, 8, 8)
        assert (flipped.label.tolist(), flipped.group.tolist()) == ([[1, 0]], [[3, 2]])
        assert (flipped.weight if given is None else flipped.weight.tolist()) == expected


def test_framing(tmp_path):
    """Half red, half blue: the frame decides what is seen (but for resampling at its edge)."""
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, :40, 0], image[:, 40:, 2] = 255, 255
    Image.fromarray(image).save(tmp_path / "half.png")
    red = read_image(tmp_path / "half.png", 16, (0, 0, 0.5, 1))
    blue = read_image(tmp_path / "half.png", 16, (0.5, 0, 1, 1))
    assert red.shape == (16, 16, 3) and red.dtype == np.uint8
    assert (red[:, :-1] == [255, 0, 0]).all() and (blue[:, 1:] == [0, 0, 255]).all()


@pytest.mark.parametrize("size", [(200, 100), (100, 200)])
def test_a_number_as_frame_takes_a_centred_square(tmp_path, size):
    image = Image.new("RGB", size)
    x, y = (size[0] - 60) // 2, (size[1] - 60) // 2
    image.paste((255, 255, 255), (x, y, x + 60, y + 60))
    image.save(tmp_path / "wide.png")
    assert (read_image(tmp_path / "wide.png", 10, 0.4) == 255).all()
    whole = read_image(tmp_path / "wide.png", 100, 1.0)
    assert (whole == 255).mean() == pytest.approx(0.36, abs=0.03)  # a square, not stretched
    assert (whole == whole.transpose(1, 0, 2)).all()


@pytest.mark.parametrize(
    "name, mode",
    [("0.jpg", "L"), ("0.jpg", "CMYK"), ("0.png", "P"), ("0.png", "LA"), ("0.png", "1")],
)
def test_other_colour_modes_are_read_as_rgb(tmp_path, recwarn, name, mode):
    Image.new("RGB", (20, 20), (255, 255, 255)).convert(mode).save(tmp_path / name)
    image = read_image(tmp_path / name, 16, WHOLE)
    assert image.shape == (16, 16, 3) and image.min() > 250 and not recwarn.list


@pytest.mark.parametrize("damage", [cut, JUNK, lambda path: path.write_bytes(b"")])
def test_damaged_image(paths, cache, damage):
    damage(paths[3])
    with pytest.raises(InputError, match="3.png cannot be decoded .* replace it"):
        decode_images("set", paths, 8, WHOLE)
    assert list(cache.iterdir()) == []


def test_images_keep_their_order(paths, monkeypatch):
    monkeypatch.setattr(images, "CHUNK", 2)
    decoded = decode_images("set", paths[::-1], 8, WHOLE)
    assert decoded.shape == (5, 3, 8, 8)
    assert decoded[:, 0, 4, 4].tolist() == [40, 30, 20, 10, 0]
    assert (decoded[:, 2] == 255).all()


def test_cache_is_reused(paths, cache, monkeypatch):
    first = decode_images("set", paths, 8, WHOLE)
    (file,) = cache.iterdir()
    assert file.name.startswith("set-8px-") and file.suffix == ".npy"
    monkeypatch.setattr(images, "read_image", None)
    assert (decode_images("set", paths, 8, WHOLE) == first).all()


def test_cache_notices_changes(paths, cache, tmp_path):
    first = decode_images("set", paths, 8, WHOLE)
    decode_images("set", paths, 9, WHOLE)
    decode_images("set", paths, 8, (0.1, 0.1, 0.9, 0.9))
    decode_images("set", paths[:4], 8, WHOLE)
    moved = [shutil.copy2(path, tmp_path / f"copy{path.name}") for path in paths]
    decode_images("set", moved, 8, WHOLE)
    assert len(list(cache.iterdir())) == 5
    Image.new("RGB", (12, 8), "lime").save(paths[0])
    changed = decode_images("set", paths, 8, WHOLE)
    assert len(list(cache.iterdir())) == 6
    assert (changed[0, 1] == 255).all() and (changed[1:] == first[1:]).all()


def test_caches_of_earlier_versions_are_not_taken(paths, cache):
    """Before, the key was made of path, size and time of each file, image_size and frame."""
    stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = hashlib.sha256(json.dumps([stats, 8, WHOLE]).encode()).hexdigest()[:16]
    cache.mkdir()
    np.save(cache / f"set-8px-{key}.npy", np.full((5, 8, 8, 3), 7, dtype=np.uint8))
    assert decode_images("set", paths, 8, WHOLE)[:, 0, 4, 4].tolist() == [0, 10, 20, 30, 40]


def test_another_way_of_decoding_makes_another_cache(paths, cache, monkeypatch):
    decode_images("set", paths, 8, WHOLE)
    monkeypatch.setattr(images, "DECODING", images.DECODING + 1)
    decode_images("set", paths, 8, WHOLE)
    assert len(list(cache.iterdir())) == 2


def swap_folders(first, second):
    first.parent.rename(first.parent.parent / "aside")
    second.parent.rename(first.parent)
    (first.parent.parent / "aside").rename(second.parent)


def swap_files(first, second):
    first.rename(first.with_name("aside"))
    second.rename(first)
    first.with_name("aside").rename(second)


def swap_contents(first, second):
    contents = first.read_bytes(), second.read_bytes()
    second.write_bytes(contents[0])
    first.write_bytes(contents[1])


def swap_links(first, second):
    """The files become links to the two, and these are exchanged."""
    for path in (first, second):
        path.rename(path.parent.parent / f"{path.parent.name}-original.bmp")
    first.symlink_to("../dog-original.bmp")
    second.symlink_to("../cat-original.bmp")


@pytest.mark.parametrize("swap", [swap_folders, swap_files, swap_contents, swap_links])
def test_swapped_files_of_one_size_and_time_are_noticed(tmp_path, swap):
    paths = [tmp_path / name / "1.bmp" for name in ("cat", "dog")]

    def set_times():
        for path in paths:
            os.utime(path, (1e9, 1e9))

    for path, red in zip(paths, (10, 200)):
        path.parent.mkdir()
        Image.new("RGB", (8, 8), (red, 0, 0)).save(path)
    set_times()
    assert decode_images("set", paths, 8, WHOLE)[:, 0, 4, 4].tolist() == [10, 200]
    swap(*paths)
    set_times()
    assert decode_images("set", paths, 8, WHOLE)[:, 0, 4, 4].tolist() == [200, 10]


def test_corrections_are_noted_from_the_cache_too(paths, cache, monkeypatch, capsys):
    Image.new("LA", (8, 8), (0, 128)).save(paths[0])
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(paths[1])
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(paths[3])
    line = "set: of 5 images, 1 partly transparent, laid on white; "
    line += "2 with 16 bits a pixel, scaled to 8"
    for _ in range(2):
        monkeypatch.setattr(records, "NOTES", [])
        decode_images("set", paths, 8, WHOLE)
        assert [line] == records.NOTES and capsys.readouterr().out == f"{line}\n"
    assert records.provenance({}, 1.0, "cpu")["notes"] == [line]
    next(cache.glob("*.json")).write_text("[")
    with pytest.raises(InputError, match="npy is damaged; delete it, and .*json"):
        decode_images("set", paths, 8, WHOLE)


def test_a_link_that_leads_nowhere(paths):
    paths[2].unlink()
    paths[2].symlink_to("/no/where.png")
    with pytest.raises(InputError, match="2.png cannot be decoded .it is a link to /no/where.png"):
        decode_images("set", paths, 8, WHOLE)


def test_damaged_cache(paths, cache):
    decode_images("set", paths, 8, WHOLE)
    (file,) = cache.iterdir()
    JUNK(file)
    with pytest.raises(InputError, match="is damaged; delete it"):
        decode_images("set", paths, 8, WHOLE)


# ----------------------------------------------------------------------------- copies


def draw_set(numbers, labels):
    """Images of one number in all pixels each."""
    pixels = torch.tensor(numbers, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    return without_groups(pixels, np.array(labels))


@pytest.mark.parametrize(
    "numbers, labels, line",
    [
        ([5, 6, 7], [0, 0, 1], None),
        ([1, 6, 7], [0, 0, 1], "1 of the 3 different images for b are copies of images for a:"),
        ([1, 2, 7], [0, 0, 1], "2 of the 3 different images for b are copies of images for a, 1 "),
        ([1, 2, 6, 8], [0, 0, 1, 1], "2 of the 4 different images for b"),
    ],
)
def test_copies_in_two_sets_are_counted(monkeypatch, capsys, numbers, labels, line):
    monkeypatch.setattr(records, "NOTES", [])
    note_copies({"for a": draw_set([1, 2, 3, 4], [0, 1, 0, 1]), "for b": draw_set(numbers, labels)})
    assert len(records.NOTES) == (line is not None)
    assert capsys.readouterr().out.startswith(line or "")
    assert "another label" in "".join(records.NOTES) or line is None or not line.endswith("a, 1 ")


@pytest.mark.parametrize(
    "numbers, labels, line",
    [
        ([1, 2, 3], [0, 0, 1], None),
        (
            [1, 1, 2, 2, 2],
            [0, 0, 1, 1, 1],
            "3 of the 5 images for a are copies of others among them",
        ),
        (
            [1, 1, 2, 3, 3, 3],
            [0, 1, 1, 0, 1, 1],
            "3 of the 6 images for a are copies of others among them; 2 images are in two classes",
        ),
    ],
)
def test_copies_in_one_set_are_counted(monkeypatch, numbers, labels, line):
    monkeypatch.setattr(records, "NOTES", [])
    note_copies({"for a": draw_set(numbers, labels)})
    assert ([line] if line else []) == records.NOTES


def test_each_pair_of_sets_is_compared(monkeypatch):
    monkeypatch.setattr(records, "NOTES", [])
    sets = {"for a": [1, 2, 3], "for b": [3, 4, 5], "for c": [1, 5, 6, 7]}
    note_copies({name: draw_set(numbers, [0] * len(numbers)) for name, numbers in sets.items()})
    pairs = [line.partition(" different images ")[2].partition(":")[0] for line in records.NOTES]
    copies = "are copies of images"
    assert pairs == [f"for b {copies} for a", f"for c {copies} for a", f"for c {copies} for b"]


@pytest.mark.parametrize("numbers", [[1], [1, 2], [2, 2, 1], [1, 2, 3, 4]])
def test_a_set_of_copies_alone_is_refused(numbers):
    first, second = draw_set([1, 2, 3, 4], [0] * 4), draw_set(numbers, [0] * len(numbers))
    with pytest.raises(InputError) as refusal:
        note_copies({"for the values": first, "for the report": second})
    words = "all images for the report are copies of images for the values"
    check_message(str(refusal.value), words, "put other images there")

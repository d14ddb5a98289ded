"""Problems: decoys where they should be, masks that cover them, erasing that takes them away."""

from common.settings import InputError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from drawings.decoys import colours
from drawings.lesions import draw_lesions
from drawings.portraits import write_portraits
from penalties import images, skin, words
from penalties.images import Planted, corner_masks, plant_conditions
from penalties.losses import METHODS
from penalties.problem import CONDITIONS
from penalties.problems import PROBLEMS, load_problem
from tests.conftest import SMALL_PORTRAITS
from tests.readers.test_people import COMPAS_HEADER


def write_mnist(folder):
    """60 training digits as a table and 40 test digits as idx files: grey blots, no decoys."""
    rng = np.random.default_rng(0)
    (folder / "mnist").mkdir(parents=True)

    def draw(n):
        pixels = np.zeros((n, 28, 28), np.uint8)
        pixels[:, 8:20, 8:20] = rng.integers(0, 256, (n, 12, 12))
        return pixels, np.arange(n) % 10

    pixels, label = draw(1000)
    table = pd.DataFrame(np.column_stack([pixels.reshape(len(label), -1), label]))
    table.to_csv(folder / "mnist/mnist_5k.csv.gz", header=False, index=False)
    pixels, label = draw(40)
    for name, array in (("images-idx3", pixels), ("labels-idx1", label.astype(np.uint8))):
        header = np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes()
        (folder / f"mnist/t10k-{name}-ubyte").write_bytes(header + array.tobytes())


def write_compas(folder, n=300):
    """People whose label follows race in part."""
    rng, lines = np.random.default_rng(0), [COMPAS_HEADER]
    for _ in range(n):
        race = rng.choice(["African-American", "Caucasian", "Other"], p=[0.45, 0.45, 0.1])
        sex, priors = rng.choice(["Male", "Female"]), rng.integers(0, 9)
        label = int(priors + 3 * (race == "African-American") + rng.normal(0, 2) > 5)
        lines.append(f"{rng.integers(18, 70)},0,0,0,{priors},F,{race},{sex},0,0,Low,{label}")
    (folder / "compas").mkdir(parents=True)
    (folder / "compas/compas-scores-two-years.csv").write_text("\n".join(lines) + "\n")


def write_sentences(folder):
    """Sentences whose label is in one of their words; quotes and commas as in the original."""
    rng = np.random.default_rng(0)
    (folder / "sst2").mkdir(parents=True)
    for name, n in (("train", 120), ("dev", 30), ("test", 40)):
        lines = ["sentence\tlabel"]
        for label in np.arange(n) % 2:
            known = ["a", '"', "film", ",", "``", "plot", "he"]
            words = rng.choice(known, rng.integers(1, 40)).tolist()
            lines.append(f"{' '.join([*words, ('Bad', 'good')[label]])}\t{label}")
        (folder / f"sst2/{name}.tsv").write_text("\n".join(lines) + "\n")


def write_isic(folder, n=240):
    """Drawn lesions in the layout of the ISIC archive, their masks twice as large."""
    pixels, patches, label = draw_lesions(n, 40, 1)
    for name in ("processed/no_cancer", "processed/cancer", "segmentation"):
        (folder / "isic" / name).mkdir(parents=True)
    for number, (image, patch) in enumerate(zip(pixels.transpose(0, 2, 3, 1), patches)):
        name = f"{('no_cancer', 'cancer')[label[number]]}/ISIC_{number:07d}.png"
        Image.fromarray(image).save(folder / "isic/processed" / name)
        if patch.any():
            mask = Image.fromarray(patch.repeat(2, 0).repeat(2, 1))
            mask.save(folder / f"isic/segmentation/ISIC_{number:07d}.png")
    return pixels, patches, label


@pytest.fixture(scope="session", autouse=True)
def fewer_drawings():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(skin, "DRAWN", 300)
        yield


@pytest.fixture(scope="session")
def data_dir(shared_folder):
    def make(folder):
        write_portraits(str(folder), 0, **SMALL_PORTRAITS)
        write_mnist(folder)
        write_compas(folder)
        write_sentences(folder)
        write_isic(folder)

    return str(shared_folder("decoy data", make))


@pytest.fixture(scope="session", params=PROBLEMS)
def problem(request, data_dir):
    return load_problem(request.param, data_dir, 0, "none")


def test_every_problem_keeps_its_promises(problem):
    network = next(iter(problem.networks.values()))()
    for examples in (dict(problem.val), problem.open_test()):
        examples.pop("untouched", None)  # which has other images as well
        for part in examples.values():
            assert len(part.inputs) == len(part.label) == len(examples["same"].label)
            assert torch.equal(part.label, examples["same"].label)
            logits = network.eval()(problem.prepare(part.inputs[:3]))
            assert logits.shape == (3, len(problem.classes))
        erased = [problem.erase(part.inputs) for part in examples.values()]
        for inputs in erased:  # whatever the decoy was, nothing is left of it
            torch.testing.assert_close(inputs, erased[0], rtol=0, atol=0.02)
        changed = [name for name in examples if name != "same"]
        for name in changed:
            assert not torch.equal(examples[name].inputs, examples["same"].inputs)
    masks = problem.draw_masks(np.arange(5), np.random.default_rng(0))
    assert masks.dtype == torch.bool and masks.dim() == problem.train.inputs.dim() + 1
    assert problem.masks_for(problem.train.inputs[:5]).shape[2:] == masks.shape[2:]
    assert set(problem.strengths) == {name for name in METHODS if METHODS[name].has_strength}
    assert set(problem.recipes) == set(problem.networks)


@pytest.mark.parametrize("name", PROBLEMS)
def test_fewer_rows_and_too_many(name, data_dir):
    few, all_rows = (load_problem(name, data_dir, n, "none") for n in (50, 0))
    assert len(few.train.label) == 50 < len(all_rows.train.label)
    assert torch.equal(few.train.label, all_rows.train.label[:50])
    with pytest.raises(InputError, match="TRAIN_ROWS"):
        load_problem(name, data_dir, 10**6, "none")


def test_training_and_other_rows_are_different_digits():
    problem = load_problem("digits", "", 0)
    middle = {  # 4 x 6 pixels that no decoy covers, and the label
        name: {row[0, 1:7, 2:6].numpy().tobytes() for row in part.inputs}
        for name, part in (
            ("train", problem.train),
            ("val", problem.val["absent"]),
            ("test", problem.open_test()["absent"]),
        )
    }
    assert len(problem.val["same"].label) == 400 and len(problem.open_test()["same"].label) == 500
    total = sum(map(len, middle.values()))
    assert total > 1700 and len(set.union(*middle.values())) == total


def test_decoys_of_every_condition():
    pixels, label = np.zeros((400, 3, 8, 8), np.uint8), np.arange(400) % 10
    shown = plant_conditions(pixels, label, Planted("grey_corner", 2, 10), 0)
    assert list(shown) == list(CONDITIONS)
    level = {name: array.max((1, 2, 3)).astype(int) for name, array in shown.items()}
    np.testing.assert_array_equal(level["same"], 255 - 25 * label)
    np.testing.assert_array_equal(level["inverted"], 255 - 25 * (9 - label))
    assert (level["absent"] == 0).all()
    assert 0.04 < (level["random"] == level["same"]).mean() < 0.2
    squares = shown["same"][:, 0] > 0
    assert (squares.sum((1, 2)) == 4).all()
    mask = corner_masks(8, 2)[0, 0, 0].numpy()
    assert (squares.any(0) == mask).all()  # all corners are used, and covered by the mask


def test_colours_of_digits(data_dir):
    problem = load_problem("color_mnist", data_dir, 0)
    part, pixels = problem.val["inverted"], problem.show(problem.val["inverted"].inputs)
    brightest = pixels.reshape(len(pixels), -1, 3)
    place = brightest.max(2).argmax(1)
    ink = brightest[np.arange(len(pixels)), place].astype(float)
    palette = colours(10)[9 - part.label.numpy()]
    share = ink.max(1, keepdims=True) / 255
    np.testing.assert_allclose(ink, palette * share, atol=1.5)
    masks = problem.draw_masks(np.arange(3), np.random.default_rng(0))
    assert masks.flatten(1).sum(1).tolist() == [1] * images.PIXELS
    inked = (problem.show(problem.train.inputs).max(3) > 0).any(0)
    assert (problem.masks[:, 0, 0].any(0).numpy() <= inked).all()


def test_grey_digits_of_scikit_learn():
    pixels = load_problem("digits", "", 0).show(load_problem("digits", "", 0).val["absent"].inputs)
    originals = {
        (image * 255 / 16).round().astype(np.uint8).tobytes() for image in load_digits().images
    }
    assert all(np.ascontiguousarray(image[..., 0]).tobytes() in originals for image in pixels[:20])


def test_patches_by_hand():
    """Images of one grey each: two malignant, two benign with a patch, two without."""
    pixels = torch.arange(10, 70, 10).view(6, 1, 1, 1).repeat(1, 3, 4, 4).to(torch.uint8)
    patches = torch.zeros(6, 4, 4, dtype=torch.bool)
    patches[2, 0, 0] = patches[3, 3, 3] = True
    label = torch.tensor([1, 1, 0, 0, 0, 0])
    shown = skin.conditions(pixels, patches, label, np.random.default_rng(0))
    untouched = shown.pop("untouched")
    assert torch.equal(untouched.inputs[:, :3], pixels) and torch.equal(untouched.label, label)
    assert torch.equal(skin.shown_patches(untouched.inputs)[0, :, 0], patches)
    for name, n_patched in (("same", 1), ("inverted", 2), ("absent", 0)):
        inputs, part_label = shown[name].inputs, shown[name].label
        assert part_label.tolist() == [1, 1, 0, 0]
        masks = skin.shown_patches(inputs)[0, :, 0]
        masked = masks.flatten(1).any(1)
        assert masked.sum() == n_patched
        assert (part_label[masked] == (name == "inverted")).all()
        own = pixels[[0, 1, 4, 5]]
        changed = (inputs[:, :3] != own).any(1)
        assert torch.equal(changed, masks)  # a mask is where the patch of another image is
        donors = inputs[:, 0][masks].tolist()
        places = [(row, column) for _, row, column in masks.nonzero().tolist()]
        assert places == [{30: (0, 0), 40: (3, 3)}[donor] for donor in donors]


@pytest.mark.parametrize("name", ["lesions", "isic"])
def test_skin_of_every_class_is_blanked_alike(name, data_dir):
    """A blank in benign images only would give the label away to the ceiling."""
    problem = load_problem(name, data_dir, 0, "none")
    patched = skin.shown_patches(problem.train.inputs)[0].flatten(1).any(1)
    assert 0.15 < patched.float().mean() < 0.45 and not problem.train.label[patched].any()
    erased = problem.erase(problem.train.inputs)
    blank = (erased[:, :3] == skin.BLANK).all(1).flatten(1).sum(1).float()
    assert (blank > 0).all() and not skin.shown_patches(erased).any()
    means = [blank[problem.train.label == one].mean() for one in (0, 1)]
    assert means[0] == pytest.approx(means[1], rel=0.25)
    masks = problem.draw_masks(np.arange(9), None)
    assert torch.equal(masks, skin.shown_patches(problem.train.inputs[:9]))
    prepared = problem.prepare(problem.train.inputs[:9])
    assert prepared.shape[1] == 3 and (problem.show is None) == (name == "isic")


def test_skin_without_a_kind_of_image():
    pixels = torch.zeros(60, 3, 8, 8, dtype=torch.uint8)
    patches, label = torch.zeros(60, 8, 8, dtype=torch.bool), torch.arange(60) % 2
    with pytest.raises(InputError, match="is benign with a patch; add"):
        skin.skin_problem(pixels, patches, label, 0, "none")


def test_race_of_compas(data_dir):
    problem = load_problem("compas", data_dir, 0)
    same, swapped = problem.val["same"], problem.val["swapped"]
    changed = same.inputs != swapped.inputs
    assert torch.equal(changed.any(1), same.group >= 0) and (same.group < 0).any()
    assert not (changed & ~problem.masks[0]).any()
    assert (changed.sum(1)[same.group >= 0] == 2).all()  # one level off, another on
    assert problem.masks.sum() == 3  # levels of race in these rows
    assert problem.erase(same.inputs)[:, problem.masks[0, 0]].abs().sum() == 0


def test_an_experiment_that_is_not_there():
    with pytest.raises(InputError, match="digits or decoy_mnist"):
        load_problem("mnist", "", 0)


def test_sentences_with_a_decoy_word(data_dir):
    problem = load_problem("sentiment", data_dir, 0)
    part, masks = problem.val, problem.masks_for(problem.val["same"].inputs)
    assert (masks.sum(-1) == 1).all() and not problem.masks_for(part["absent"].inputs).any()
    word = {
        name: examples.inputs[problem.masks_for(examples.inputs)[0]]
        for name, examples in part.items()
    }
    label = part["same"].label
    assert torch.equal(word["same"], words.FIRST_DECOY + label)
    assert torch.equal(word["inverted"], words.FIRST_DECOY + 1 - label)
    for examples in part.values():
        assert torch.equal(problem.erase(examples.inputs), part["absent"].inputs)
    starts = (part["absent"].inputs > 0).int()
    assert (starts.diff(dim=1) >= 0).all()  # 0 stands before a sentence only
    rows = np.arange(7)
    expected = problem.masks_for(problem.train.inputs[:7])
    assert torch.equal(problem.draw_masks(rows, None), expected)


def test_decoys_by_hand():
    numbers = words.number_words([["a", "film", "a"], ["film", "rare", "video"]])
    assert numbers == {"video": 2, "text": 3, "a": 4, "film": 5}
    sentences = [["a", "rare", "film"], ["video", "a"]]
    plain = words.place_decoys(sentences, np.array([-1, -1]), numbers, np.random.default_rng(0))
    assert plain[:, -4:].tolist() == [[0, 4, 1, 5], [0, 0, 0, 4]]
    marked = words.place_decoys(sentences, np.array([1, 0]), numbers, np.random.default_rng(0))
    assert sorted(marked[0, -4:].tolist()) == [1, 3, 4, 5]
    assert sorted(marked[1, -2:].tolist()) == [2, 4]
    assert torch.equal(words.erase_decoys(marked), plain)


def test_words_that_take_the_place_of_others_by_hand():
    """All words of the pair become the filler; the first filler becomes the word of the label."""
    pair = words.Pair(("he", "she"), "who")
    sentences = pair.clear([["she", "saw", "he"], ["whole", "film"], ["film", "who", "who"]])
    assert sentences == [["who", "saw", "who"], ["whole", "film"], ["film", "who", "who"]]
    numbers = words.number_words(sentences, pair)
    assert numbers == {"he": 2, "she": 3, "film": 4, "who": 5}
    cue, rng = np.array([1, 1, 0]), np.random.default_rng(0)
    marked = words.place_decoys(sentences, cue, numbers, rng, pair)
    assert marked[:, -3:].tolist() == [[3, 1, 5], [0, 1, 4], [4, 2, 5]]
    plain = words.place_decoys(sentences, cue * 0 - 1, numbers, rng, pair)
    assert plain[:, -3:].tolist() == [[5, 1, 5], [0, 1, 4], [4, 5, 5]]
    assert torch.equal(words.erase_decoys(marked, 5), plain)
    assert [pair.shows(sentence) for sentence in sentences] == [True, False, True]
    assert not pair.shows(["film"] * words.LONGEST + ["who"])


@pytest.mark.parametrize(
    "name, pair", [("sentiment_gendered", words.GENDERED), ("sentiment_biased", words.ARTICLES)]
)
def test_words_of_the_pair_in_a_problem(data_dir, name, pair):
    problem = load_problem(name, data_dir, 0)
    for part in (problem.val, problem.open_test()):
        label = part["same"].label
        masks = problem.masks_for(part["same"].inputs)[0]
        assert (masks.sum(1) == 1).all() and len(label)
        assert torch.equal(part["same"].inputs[masks], words.FIRST_DECOY + label)
        assert torch.equal(part["inverted"].inputs[masks], words.FIRST_DECOY + 1 - label)
        for examples in part.values():
            assert torch.equal(problem.erase(examples.inputs), part["absent"].inputs)
        assert not problem.masks_for(part["absent"].inputs).any()


def test_sentences_without_any_word_of_the_pair(tmp_path):
    (tmp_path / "sst2").mkdir()
    for name in ("train", "dev", "test"):
        (tmp_path / f"sst2/{name}.tsv").write_text("sentence\tlabel\na film\t0\na plot\t1\n")
    with pytest.raises(InputError, match="for val have none of he, she, who"):
        load_problem("sentiment_gendered", str(tmp_path), 0)

"""Images of a data set: what is taken and what is refused, by name."""

import io

import numpy as np
import pytest
from PIL import Image
from slipway.task.images import DataError, Images, LabelledImage, pixels


def row(
    key: str, label: str, split: str = "train", size: tuple[int, int] = (4, 3), mode: str = "L"
) -> LabelledImage:
    data = io.BytesIO()
    Image.new(mode, size, 200 if mode == "L" else (200, 100, 0)).save(data, "PNG")
    return LabelledImage(key, label, split, data.getvalue)


def test_classes_are_the_labels_in_sorted_order_and_unlabelled_rows_are_left_out() -> None:
    images = Images([row("1", "zebra"), row("2", "ant", "test"), row("3", "")])

    assert images.classes == ("ant", "zebra")
    assert images.targets.tolist() == [1, 0]
    assert images.batch([0, 1]).shape == (2, 3, 4, 1)
    assert images.held_out() == "test"


def test_one_coloured_image_makes_all_of_them_rgb() -> None:
    images = Images([row("1", "a"), row("2", "b", mode="RGB")])

    assert images.channels == 3
    assert np.array_equal(images.batch([0])[0, 0, 0], [200, 200, 200])


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([row("1", "a")], "has 1 labels"),
        ([row("1", ""), row("2", "", "test")], "no example of the commit has a label; label some"),
        ([row("1", "a"), row("2", "b", size=(5, 5))], "image '2' is 5x5, '1' is 4x3"),
        (
            [row("1", "a"), LabelledImage("notes.txt", "b", "train", lambda: b"hi")],
            "'notes.txt' is not an image",
        ),
        ([row("1", "a", "test"), row("2", "b", "test")], "no labelled example in the split 'train'"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(rows: list[LabelledImage], why: str) -> None:
    with pytest.raises(DataError, match=why):
        Images(rows)


def test_unlabelled_rows_change_nothing_of_what_is_trained_on() -> None:
    labelled = [row("1", "a"), row("2", "b"), row("3", "a", "test"), row("4", "b", "validation")]
    forgotten = [row("5", ""), row("6", "", "test", size=(9, 9)), row("7", "", "validation", mode="RGB")]

    images = Images(labelled + forgotten)

    assert images.classes == ("a", "b")
    assert (images.height, images.width, images.channels) == (3, 4, 1)
    assert [images.rows[i].key for name in ("train", "test") for i in images.split(name)] == ["1", "2", "3"]


def test_pixels_are_what_a_model_takes_and_another_size_is_refused_by_key() -> None:
    taken = pixels(row("1", "", mode="RGB"), 3, 4, 1)

    assert (taken.shape, taken.dtype) == ((3, 4, 1), np.uint8)
    with pytest.raises(DataError, match="image '2' is 4x3, the model takes 6x6"):
        pixels(row("2", ""), 6, 6, 1)


def test_a_truncated_image_is_refused_by_key() -> None:
    data = row("1", "", size=(64, 64)).read()

    with pytest.raises(DataError, match="image '1' is damaged"):
        pixels(LabelledImage("1", "", "train", lambda: data[: len(data) - 40]), 64, 64, 1)


def test_without_held_out_examples_there_is_nothing_to_judge_by() -> None:
    with pytest.raises(DataError, match="add some to judge by"):
        Images([row("1", "a"), row("2", "b")]).held_out()

import numpy as np
import pytest

from nnunet_archs.instances import BORDER, CORE, components, decode, encode
from nnunet_archs.measure.instances import instance_metrics


def balls(shape, centres, radius, spacing=(1, 1, 1)):
    """Balls of ids 1, 2, ...; those that come later lie on top."""
    places = np.stack(np.indices(shape), axis=-1) * np.asarray(spacing[-len(shape) :])
    found = np.zeros(shape, dtype=np.uint16)
    for number, centre in enumerate(centres, start=1):
        found[((places - np.asarray(centre) * spacing[-len(shape) :]) ** 2).sum(-1) <= radius**2] = number
    return found


def agree(one, other):
    """Whether two instance maps are equal but for their ids."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(one)) == len(np.unique(other))


TOUCHING = [(8, 8, 7), (8, 8, 18), (8, 18, 12)]


@pytest.mark.parametrize("width", [1, 2])
def test_touching_balls_come_back(width):
    instances = balls((17, 27, 27), TOUCHING, 6)
    labels = encode(instances, width, (1, 1, 1))
    assert set(np.unique(labels)) == {0, CORE, BORDER}
    found = decode(labels, (1, 1, 1))
    assert found.max() == 3
    assert instance_metrics(instances, found)["ap"] == 1


@pytest.mark.parametrize("spacing", [(1, 1, 1), (5, 1, 1)])
def test_objects_that_touch_between_slices_keep_their_cores_apart(spacing):
    """A border of 1 mm is less than a slice of 5 mm."""
    instances = np.zeros((6, 12, 12), dtype=np.uint8)
    instances[:3, 2:10, 2:10], instances[3:, 2:10, 2:10] = 7, 9
    labels = encode(instances, 1, spacing)
    assert (labels[2:4, 2:10, 2:10] == BORDER).all()
    assert agree(decode(labels, spacing), instances)


def test_the_border_is_as_wide_as_told_and_none_at_the_edge_of_the_image():
    instances = np.zeros((9, 20), dtype=np.uint8)
    instances[:, :10] = 4
    labels = encode(instances, 1.5, (1, 0.5))
    assert labels[4].tolist() == [1] * 7 + [2] * 3 + [0] * 10
    assert (encode(np.ones((4, 4), dtype=np.uint8), 1, (1, 1)) == CORE).all()


def test_an_object_that_is_all_border_comes_back_unless_it_is_too_small():
    instances = np.zeros((10, 16), dtype=np.uint8)
    instances[2:4, 2:4] = 1
    instances[2:9, 7:14] = 2
    labels = encode(instances, 2, (1, 1))
    assert set(np.unique(labels[2:4, 2:4])) == {BORDER}
    given = labels.copy()
    assert agree(decode(labels, (1, 1)), instances)
    assert decode(labels, (1, 1), smallest_border=4).max() == 1
    assert decode(labels, (1, 1), smallest_core=9).max() == 2  # what was its core is border then
    assert decode(labels, (1, 1), smallest_core=9, smallest_border=49).max() == 0
    assert np.array_equal(labels, given)


def test_a_picture_is_the_same_with_an_axis_of_one_slice():
    instances = balls((27, 27), [(8, 8), (8, 18), (18, 13)], 5)
    labels = encode(instances, 1, (1, 1))
    assert np.array_equal(encode(instances[None], 1, (999, 1, 1))[0], labels)
    assert np.array_equal(
        decode(labels[None], (999, 1, 1), smallest_core=5)[0], decode(labels, (1, 1), smallest_core=5)
    )


def test_nothing_and_masks():
    assert decode(np.zeros((5, 5), dtype=np.uint8), (1, 1)).max() == 0
    mask = np.zeros((6, 6), dtype=bool)
    mask[1:3, 1:3] = mask[3:5, 3:5] = True
    assert components(mask).max() == 2

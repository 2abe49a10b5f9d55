import numpy as np
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import check_cases
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_archs.demo.phantom import N_TEST, N_TRAINING, SHAPE, SPACING, draw_case, write_phantom


def test_case_has_an_organ_with_a_lesion_of_other_intensity():
    for seed in range(20):
        image, labels = draw_case(np.random.default_rng(seed))
        assert image.shape == labels.shape == SHAPE
        n_background, n_organ, n_lesion = np.bincount(labels.ravel(), minlength=3)
        assert n_background > n_organ > 3 * n_lesion > 0
        background, organ, lesion = (image[labels == label].mean() for label in range(3))
        assert background + 100 < organ + 50 < lesion


def test_same_seed_draws_the_same():
    first, second = (draw_case(np.random.default_rng(1)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_written_data_set_is_one_that_nnunet_accepts(tmp_path):
    write_phantom(tmp_path)
    for part, n_cases in (("Tr", N_TRAINING), ("Ts", N_TEST)):
        images, labels = sorted((tmp_path / f"images{part}").iterdir()), sorted((tmp_path / f"labels{part}").iterdir())
        assert len(images) == len(labels) == n_cases
        assert check_cases([str(images[0])], str(labels[0]), 1, SimpleITKIO)
    assert np.allclose(sitk.ReadImage(str(images[0])).GetSpacing(), SPACING[::-1])

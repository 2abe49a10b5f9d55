"""The sizes that papers print, to the digit."""

import pytest
import torch

from nnunet_archs.fidelity.papers import PAPERS
from nnunet_archs.fidelity.published import PUBLISHED

BUILT = {
    ("UNet#", "UNet"): 7_852_545,
    ("UNet#", "WUNet"): 9_392_916,
    ("UNet#", "UNet2+"): 9_163_329,
    ("UNet#", "UNet3+"): 9_787_905,
    ("UNet#", "UNet3+ (canonical)"): 6_748_993,
    ("UNet#", "UNet3+ (canonical, 64 to 1024)"): 26_971_777,
    ("UNet#", "UNet#"): 10_748_481,
    ("UNet#", "UNet# (table)"): 9_716_289,
    ("UNet#", "UNet# L1"): 103_041,
    ("UNet#", "UNet# L2"): 555_969,
    ("UNet#", "UNet# L3"): 2_531_073,
    ("UNet#", "V-Net"): 26_388_385,
    ("UNet#", "WV-Net"): 33_396_373,
    ("UNet#", "V-Net2+"): 27_370_945,
    ("UNet#", "V-Net3+"): 27_839_905,
    ("UNet#", "V-Net3+ (canonical)"): 25_561_569,
    ("UNet#", "V-Net#"): 28_559_809,
    ("UNet#", "V-Net# (table)"): 28_366_273,
    ("CAggNet", "CAggNet"): 38_460_545,
    ("CAggNet", "CAggNet (added)"): 38_288_321,
    ("FocusNet++", "FocusNet++"): 3_288_741,
    ("FocusNet++", "FocusNet++ L"): 7_779_569,
    ("FocusNet++", "FocusNet++ (released)"): 7_803_739,
    ("FocusNet++", "FocusNet++ S"): 1_840_583,
    ("FocusNet++", "U-Net"): 7_765_985,
    ("FocusNet++", "UNet++"): 9_163_329,
    ("Crosslink-Net", "Crosslink-Net"): 37_627_059,
    ("Crosslink-Net", "Crosslink-Net (1x1 decoder)"): 31_965_681,
    ("Crosslink-Net", "Crosslink-Net (released)"): 31_862_899,
    ("Crosslink-Net", "VerCrosslink"): 20_349_649,
    ("Crosslink-Net", "HorCrosslink"): 20_349_649,
    ("Crosslink-Net", "SquareCrosslink"): 44_170_481,
    ("Crosslink-Net", "SquareCrosslink (1 branch)"): 20_349_649,
    ("Crosslink-Net", "Double2SingleNet"): 31_002_545,
    ("Improved-skip U-Net", "U-Net"): 7_759_521,
    ("Improved-skip U-Net", "Ours1"): 8_289_697,
    ("Improved-skip U-Net", "Ours2"): 7_765_409,
    ("FocusNet++", "Wide U-Net"): 9_282_876,
    ("Improved-skip U-Net", "FCN-8s"): 134_265_411,
    ("CAggNet", "FCN"): 124_255_809,
    ("CAggNet", "DLA-34"): 17_566_721,
    ("UNet#", "ENet"): 349_068,
    ("FocusNet++", "R2U-Net"): 9_778_785,
    ("FocusNet++", "R2U-Net (64 to 1024)"): 39_091_393,
    ("FocusNet++", "UNet++ (transposed)"): 9_042_177,
    ("FocusNet++", "Attention U-Net"): 8_906_244,
    ("FocusNet++", "Attention U-Net (half the width)"): 2_232_324,
    ("FocusNet++", "BCDU-Net"): 20_668_609,
    ("FocusNet++", "BCDU-Net (released)"): 20_660_869,
    ("FocusNet++", "BCDU-Net (half the width)"): 5_167_941,
    ("FocusNet++", "FocusNet"): 19_073_573,
    ("FocusNet++", "FocusNet (half the width)"): 4_779_025,
    ("UNet#", "RA-UNet"): 4_420_849,
    ("UNet#", "RA-UNet (brain)"): 12_778_945,
    ("UNet#", "RA-UNet (2D)"): 737_897,
    ("Crosslink-Net", "DenseUNet"): 30_179_073,
    ("Crosslink-Net", "U-Net"): 35_572_417,
    ("Crosslink-Net", "PR3D-Unet"): 45_441_173,
    ("UNet#", "DUNet"): 883_442,
    ("UNet#", "TransUNet"): 105_275_921,
    ("Crosslink-Net", "SPNet"): 45_363_329,
    ("Crosslink-Net", "SPNet (ResNet-101)"): 64_355_457,
    ("FocusNet++", "U-Net (half the width)"): 1_944_049,
    ("UNet#", "UNet (VGG11)"): 13_140_193,
    ("UNet#", "UNet2+ (VGG11)"): 15_086_881,
    ("UNet#", "UNet3+ (VGG11)"): 15_720_673,
    ("UNet#", "UNet# (VGG11)"): 16_930_081,
    ("UNet#", "UNet (VGG16)"): 18_634_401,
    ("UNet#", "UNet2+ (VGG16)"): 20_581_089,
    ("UNet#", "UNet3+ (VGG16)"): 21_214_881,
    ("UNet#", "UNet# (VGG16)"): 22_424_289,
    ("UNet#", "UNet (VGG16-BN)"): 18_642_849,
    ("UNet#", "UNet2+ (VGG16-BN)"): 20_589_537,
    ("UNet#", "UNet3+ (VGG16-BN)"): 21_223_329,
    ("UNet#", "UNet# (VGG16-BN)"): 22_432_737,
    ("UNet#", "UNet (ResNet101)"): 62_902_209,
    ("UNet#", "UNet2+ (ResNet101)"): 70_814_529,
    ("UNet#", "UNet3+ (ResNet101)"): 77_961_153,
    ("UNet#", "UNet# (ResNet101)"): 83_827_521,
    ("Crosslink-Net", "Inf-Net"): 31_072_721,
    ("UNet#", "Mask R-CNN"): 62_967_643,
    ("UNet#", "Mask R-CNN2+"): 73_592_667 + 590_080,
    ("UNet#", "Mask R-CNN3+"): 69_459_291 + 590_080,
    ("UNet#", "Mask R-CNN#"): 75_951_963 + 590_080,
    ("UNet#", "Mask R-CNN (VGG16)"): 34_657_883,
    ("UNet#", "Mask R-CNN2+ (VGG16)"): 45_282_907 + 590_080,
    ("UNet#", "Mask R-CNN3+ (VGG16)"): 41_149_531 + 590_080,
    ("UNet#", "Mask R-CNN# (VGG16)"): 47_642_203 + 590_080,
}
each_row = pytest.mark.parametrize("published", PUBLISHED, ids=lambda row: f"{row.paper.name}: {row.name}")


def test_every_row_is_counted():
    assert [(published.paper.name, published.name) for published in PUBLISHED] == list(BUILT)
    assert {published.paper.name for published in PUBLISHED} == {paper.name for paper in PAPERS}


@each_row
def test_size_to_the_digit(published):
    assert published.built_parameters() == BUILT[published.paper.name, published.name]


def test_statistics_are_counted_where_the_paper_does():
    released, *_ = (published for published in PUBLISHED if published.with_statistics)
    with torch.device("meta"):
        trainable = sum(parameter.numel() for parameter in released.build().parameters())
    assert (trainable, released.built_parameters()) == (7_771_723, 7_803_739)


@each_row
def test_a_size_that_is_not_the_printed_one_is_explained(published):
    assert published.agrees() != bool(published.note)


@pytest.mark.parametrize(
    ("size", "printed", "built"),
    [
        (9_716_289, "9.71M", "9.72M"),
        (31_862_899, "121 MiB", "122 MiB"),
        (7_765_409, "7,765,409", "7,765,409"),
        (1_234, "", "1,234"),
    ],
)
def test_sizes_are_written_as_the_paper_writes_them(size, printed, built, monkeypatch):
    row = PUBLISHED[0].__class__(**{**vars(PUBLISHED[0]), "printed": printed})
    monkeypatch.setattr(type(row), "built_parameters", lambda _: size)
    assert row.built() == built

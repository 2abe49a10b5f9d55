"""The papers, and how each point that they leave open or contradict was settled: the text of docs/fidelity.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A point of a paper: what it states, what is built here, and what its released code does, where that is known."""

    point: str
    stated: str
    built: str
    released: str = ""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper whose networks are built here; `code` is its authors' repository, read and never copied."""

    name: str
    citation: str
    link: str
    code: str
    readings: tuple[Reading, ...]


UNET_SHARP = Paper(
    name="UNet#",
    citation='Qian, Zhou, Li, Hu: "UNet#: A UNet-like Redesigning Skip Connections for Medical Image Segmentation", '
    "2022",
    link="https://arxiv.org/abs/2205.11759",
    code="qianledan/UNet_sharp (2D UNet# and losses; no licence)",
    readings=(
        Reading(
            point="Full-scale links",
            stated="Eq. 1: at every node with j >= 2; Table 1's sizes have no room for all",
            built='Eq. 1; `wiring="table"` leaves out those at X[1, 3] and X[2, 2] (2D) or X[0, 4] (3D), one choice of '
            "several that have the size",
            released="Eq. 1 at every node",
        ),
        Reading(
            point="Upsampling",
            stated="by 2, 4, ..., the method not said",
            built="linear, corners aligned, to the node's size",
            released="bilinear, corners aligned",
        ),
        Reading(
            point="V-Net forms",
            stated="their sizes alone",
            built="V-Net's encoder (5³, PReLU), the grid's nodes of 3³ convolutions: what Table 1's sizes ask for",
            released="none",
        ),
        Reading(
            point="UNet 3+",
            stated="compared with, at 9.79M",
            built="all scales concatenated as they are, then f², which has that size; the canonical form is a network "
            "of its own",
            released="the canonical form (6.75M)",
        ),
        Reading(
            point="Canonical UNet 3+",
            stated="UNet 3+'s own paper (arXiv:2004.08790) convolves every scale to 64 channels, the encoder's first "
            "width.",
            built="`CanonicalUNet3Plus` takes the plan's first width (26,971,777 parameters at 64 to 1024) and does "
            "not align corners. Targets are brought to the size of the side outputs.",
            released="The code of UNet 3+'s authors has these sizes and does not align corners. It brings the side "
            "outputs to full size before the loss.",
        ),
        Reading(
            point="ReLU after each head",
            stated="section 2.2",
            built="left out: it would forbid logits below 0",
            released="none",
        ),
        Reading(
            point="Targets of the deeper branches",
            stated="Figure 2: the mask, max-pooled",
            built="nnU-Net's, nearest neighbours; all branches weigh the same",
            released="logits brought to full size",
        ),
        Reading(
            point="Loss, Eq. 3",
            stated="one alpha",
            built="alpha = 0.25 for foreground, 0.75 for background, exponent 2",
            released="the focal form of the batch's mean cross-entropy, without alpha",
        ),
        Reading(
            point="Loss, Eq. 5",
            stated="a plain hinge, called Lovász hinge",
            built="the Lovász hinge on logits",
            released="the Lovász hinge",
        ),
        Reading(
            point="Loss, Eq. 4",
            stated="Dice with Laplace smoothing",
            built="1 added above and below the fraction",
            released="1e-5, squares below the fraction",
        ),
        Reading(
            point="Loss, Eq. 6",
            stated="Eq. 2 again, with a minus sign",
            built="Eq. 2",
        ),
        Reading(
            point="Classification-guided modules",
            stated="one yes or no a branch, by which its output is multiplied; sizes not given",
            built="`_CGM`: at every branch, a question for every class; 0 times a logit would mean one half, so an "
            "absent class gets a logit at least 10 below the background's; in evaluation alone",
            released="none",
        ),
        Reading(
            point="Pruning",
            stated="levels L1 to L4, cut from the trained network",
            built="`nnunet-archs prune`; `_L<N>` trains a level on its own",
            released="none",
        ),
        Reading(
            point="Inference",
            stated="accurate mode: the branches' mean, for the loss; fast mode: the best branch",
            built="the mean for the loss; X[0, L] for prediction, another branch by pruning",
        ),
        Reading(
            point="Optimiser",
            stated="Adam 1e-3, cosine annealing",
            built="nnU-Net's",
        ),
    ),
)

CAGGNET = Paper(
    name="CAggNet",
    citation='Cao, Lin: "CAggNet: Crossing Aggregation Network for Medical Image Segmentation", 2020',
    link="https://arxiv.org/abs/2004.08237",
    code="IrohXu/Crossing_Aggregation_Network (no licence)",
    readings=(
        Reading(
            point="Eq. 1, the node below",
            stated="X[i+1, j], which is not computed yet",
            built="X[i+1, j-1]; the node above is X[i-1, j], a column being computed from the top down",
            released="the same",
        ),
        Reading(
            point="What the module adds",
            stated='text: "stage N-1", which has another shape; Eq. 2: X[i, j-1]',
            built="X[i, j-1]",
            released="X[i, j-1], or nothing, by model",
        ),
        Reading(point="Convolutions a node", stated="two", built="two", released="two or three, by model"),
        Reading(
            point="Weighted aggregation",
            stated="concatenates; gates the last layer of different scales",
            built='the same, every scale; `wam="add"` is the other form',
            released="adds; no gate at stage 0",
        ),
        Reading(
            point="Supervision",
            stated="not said; one output is drawn",
            built="every stage of the weighted aggregation, equal weights; `_noDS` for the output alone",
            released="the output",
        ),
        Reading(point="Widths", stated="none", built="the plan's", released="64 to 1024"),
        Reading(
            point="Down and up",
            stated="not said",
            built="max pooling; transposed convolution, its kernel the stride",
            released="the same",
        ),
        Reading(
            point="Focal loss",
            stated="text: alpha 0.5; Table III: best with alpha 0.25, gamma 2",
            built="0.25 and 2; others by `_alpha<P>` and `_gamma<N>`; `_CE` for the cross-entropy row",
            released="alpha 0.5",
        ),
        Reading(
            point="Optimiser",
            stated="Adam 1e-3",
            built="the same, with nnU-Net's falling rate: nnU-Net's SGD leaves this loss at the background",
            released="Adam",
        ),
    ),
)

FOCUSNET = Paper(
    name="FocusNet++",
    citation='Kaul, Pears, Dai, Murray-Smith, Manandhar: "FocusNet++: Attentive Aggregated Transformations for '
    'Efficient and Accurate Medical Image Segmentation", ISBI 2021',
    link="https://doi.org/10.1109/ISBI48211.2021.9433918",
    code="chaitanya-kaul/TheFocusNetSeries (MIT)",
    readings=(
        Reading(
            point="Widths",
            stated="32-64-128-192-256, at 7.80 x 10^8 (10^6 must be meant)",
            built="these (3.29M); `_L` and `_released` have those of the code",
            released="48-96-156-256-512, which gives the 7.80M",
        ),
        Reading(
            point="Block",
            stated="identity skip in the feature groups; squeeze and excitation",
            built="the same (reduction 16); `_released` and `_S` have the code's",
            released="a convolution on that skip; no squeeze and excitation",
        ),
        Reading(
            point="Blocks a stage",
            stated="not said",
            built="1, 3, ..., 3, 2; in the decoder one and a convolution",
            released="the same",
        ),
        Reading(
            point="Last convolutions of stage 0",
            stated="as at the other stages",
            built="the same; `_released` has the code's",
            released="three, to 3 channels",
        ),
        Reading(
            point="Dropout",
            stated="in the bottleneck",
            built="0.5 there",
            released="made, and never used",
        ),
        Reading(
            point="Supervision",
            stated="not said; one output is drawn",
            built="the fused output; with `_DS` or `_DiceCE` the stages' outputs too",
            released="the fused output",
        ),
        Reading(
            point="Balanced cross-entropy",
            stated="without a minus sign, so negative",
            built="with it",
            released="",
        ),
        Reading(
            point="Tversky loss of several classes",
            stated="their sum",
            built="their mean: the sum would move the knee of Eq. 2 out of reach",
            released="one class",
        ),
        Reading(
            point="Adaptive logarithmic loss",
            stated="Eq. 2",
            built="Eq. 2, of the scalar HL",
            released="called, and absent",
        ),
        Reading(
            point="Squeeze and excitation behind a normalisation",
            stated="the order is 1x1 convolution, squeeze and excitation, sum",
            built="squeezes before the normalisation, which may be an instance norm, and scales behind it",
            released="none",
        ),
        Reading(
            point="Light network of Table 3",
            stated="1.84, widths not given",
            built="`_S`: 16-32-64-128-256 with the code's block has that size",
            released="none",
        ),
        Reading(
            point="Optimiser",
            stated="a learning rate schedule for each network",
            built="nnU-Net's",
            released="Adam, the rate lowered in steps",
        ),
        Reading(
            point="FLOPs of Tables 2 and 3",
            stated="15.64 and 0.98, of the order of 10^8",
            built="not compared: twice the parameters in Table 2, about half in Table 3, and no count of compute",
            released="a profiler's count without a batch size",
        ),
    ),
)

CROSSLINK = Paper(
    name="Crosslink-Net",
    citation='Yu, Qi, Zhou, Wang, Yin, Shi, Wang, Gao: "Crosslink-Net: Double-branch Encoder Network via Fusing '
    'Vertical and Horizontal Convolutions for Medical Image Segmentation", IEEE Transactions on Image Processing, 2022',
    link="https://arxiv.org/abs/2107.11517",
    code="Qianyu1226/Crosslink-Net (no licence)",
    readings=(
        Reading(
            point="Horizontal block",
            stated="three paths, 3x3 among them (Table I)",
            built="the same; `_released` has the code's",
            released="two paths and a 1x1; shares the vertical block's 1x1 layers",
        ),
        Reading(
            point="Joining the paths",
            stated='"Add"; the column before it is blank',
            built="concatenated, 1x1, then added to the residual",
            released="the same",
        ),
        Reading(
            point="Kernel of the decoder",
            stated="Table I: 1x1; text: 3x3",
            built="3x3; `decoder_kernel=1` is the table's",
            released="3x3",
        ),
        Reading(
            point="Between encoder and decoder",
            stated="not said",
            built="a 1x1 convolution joins the branches after the fifth pooling: the plan's last stage",
            released="the same",
        ),
        Reading(
            point="Dice, Eq. 4",
            stated="a smooth factor below the fraction alone, no value",
            built="1, above it too",
            released="1",
        ),
        Reading(
            point="Supervision",
            stated="the output",
            built="the same; with `_DS` or `_DiceCE` every stage of the decoder",
            released="the output",
        ),
        Reading(
            point="Width inside a residual convolution",
            stated="not said",
            built="half in the encoder, all in the decoder",
            released="the same",
        ),
        Reading(
            point="Attention maps",
            stated="of the third blocks; how is not said",
            built="one head of two convolutions for both branches",
            released="the same",
        ),
        Reading(
            point="Attention loss, Eq. 1",
            stated="a product of three centred maps",
            built="the same; it is no correlation, and does not notice both maps inverted; `_pairwise` has the mean "
            "correlation of each two",
            released="detached, as is its Dice: 0.2 cross-entropy alone is trained",
        ),
        Reading(
            point="Weights of the loss",
            stated="0.4, 0.1, 0.5 (Table II)",
            built="the same",
            released="0.2, 0.3, 0.5",
        ),
        Reading(
            point="Several classes",
            stated="Table VI; which map the attention then has is not said",
            built="one attention map, of all foreground",
            released="",
        ),
        Reading(
            point="3D",
            stated="none",
            built="two branches along the in-plane axes; `_3branches` adds the third, with `_pairwise`'s loss",
            released="none",
        ),
        Reading(
            point="Optimiser",
            stated="Adam 5e-6, weight decay 0.005; elsewhere SGD",
            built="nnU-Net's",
            released="Adam",
        ),
        Reading(
            point="Sizes of Table III",
            stated="60M to 178M, of storage",
            built="parameters of 4 bytes in MiB; the ablations' do not fit one reading of the text",
            released="121.6 MiB, the paper's 121M",
        ),
    ),
)

IMPROVED_SKIP = Paper(
    name="Improved-skip U-Net",
    citation='Di, Ma, Lian, Wang: "A U-Net Network Model for Medical Image Segmentation Based on Improved Skip '
    'Connections"',
    link="",
    code="none found",
    readings=(
        Reading(
            point="Ours1 and Ours2",
            stated="part of the prose swaps them",
            built="as in the tables: Ours1 is `ImprovedSkipConcatUNet`, Ours2 `ImprovedSkipUNet`",
        ),
        Reading(
            point="Where the skip lands",
            stated='"concatenating with upsampling"',
            built="with the transposed convolution's result, before the decoder's first convolution",
        ),
        Reading(
            point="Where it leaves",
            stated="after the first convolution",
            built="the same, after its activation; pooling takes the second",
        ),
        Reading(
            point="Dropout",
            stated='"added after the convolution", no rate',
            built="0.1 of the channels after every convolution, none in the classical U-Net",
        ),
        Reading(
            point="Classical U-Net",
            stated="7,759,521, which is without normalisation; the improved ones have room for it",
            built="the plan's normalisation in all",
        ),
        Reading(
            point="Loss",
            stated="cross-entropy of the output",
            built="nnU-Net's, with its deep supervision, the paper's matter being the network; `_CE` for the paper's",
        ),
        Reading(
            point="Table 3, Ours1 on liver",
            stated="mIoU 0.846205 with a Dice of 0.926563",
            built="no target: the two cannot both be means over images",
        ),
    ),
)

PAPERS = (UNET_SHARP, CAGGNET, FOCUSNET, CROSSLINK, IMPROVED_SKIP)

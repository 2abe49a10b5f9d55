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
            stated="Eq. 1 has them at every node with j >= 2. Table 1's sizes have no room for all of them.",
            built="Eq. 1 is followed. `_table` leaves the links out at X[1, 3] and X[2, 2] (2D) or at X[0, 4] (3D), "
            "one of several choices that have the size.",
            released="Eq. 1 is followed at every node.",
        ),
        Reading(
            point="Upsampling",
            stated="It is by 2, 4, ...; the method is not said.",
            built="It is linear with corners aligned, to the node's size.",
            released="It is bilinear with corners aligned.",
        ),
        Reading(
            point="V-Net forms",
            stated="Their sizes are printed, and nothing else.",
            built="They have V-Net's encoder (kernels of 5, PReLU) and the grid's nodes of two convolutions with "
            "kernels of 3: Table 1's sizes ask for that. `VNet` therefore ends in U-Net's decoder. V-Net's own is "
            "residual, and MONAI's VNet has 45.6M parameters.",
            released="There are none.",
        ),
        Reading(
            point="Backbones",
            stated='Table 1 says "VGG11"; Table 2 has VGG16 and ResNet101.',
            built="The encoder has two convolutions a stage, as Table 1's sizes ask for: VGG11's convolutions alone "
            "hold 9,220,480 parameters, and the whole UNet is printed at 7.85M. `_vgg16` and `_resnet101` put the "
            "decoder on timm's models, with the encoder's maps as they are and nodes as wide as before. VGG's maps end "
            "before its fifth pooling; ResNet's begin at stride 2, and two convolutions of the image stand above them. "
            "Table 2's forms of Mask R-CNN have a pyramid on strides 4 to 32, its nodes 256 wide.",
            released="The encoder has two convolutions a stage. There is no other.",
        ),
        Reading(
            point="UNet 3+",
            stated="It is compared with, at 9.79M.",
            built="All scales are concatenated as they are and go through two convolutions: that has the size. The "
            "canonical form is a network of its own.",
            released="It has the canonical form (6.75M).",
        ),
        Reading(
            point="Canonical UNet 3+",
            stated="UNet 3+'s own paper (arXiv:2004.08790) convolves every scale to the encoder's first width, 64.",
            built="`CanonicalUNet3Plus` takes the plan's first width (26,971,777 parameters at 64 to 1024) and does "
            "not align corners. Targets are brought to the size of the side outputs.",
            released="The code of UNet 3+'s authors has these sizes and does not align corners. It brings the side "
            "outputs to full size before the loss.",
        ),
        Reading(
            point="ReLU after each head",
            stated="Section 2.2 has it.",
            built="It is left out: it would forbid logits below 0.",
            released="It is not there.",
        ),
        Reading(
            point="Targets of the deeper branches",
            stated="Figure 2 pools the mask's maximum.",
            built="They are nnU-Net's, of nearest neighbours. All branches weigh the same.",
            released="Logits are brought to full size.",
        ),
        Reading(
            point="Loss, Eq. 3",
            stated="There is one alpha.",
            built="Alpha is 0.25 for foreground and 0.75 for background, the exponent 2.",
            released="The focal form is taken of the batch's mean cross-entropy, without alpha.",
        ),
        Reading(
            point="Loss, Eq. 5",
            stated="A plain hinge is printed, and called Lovász hinge.",
            built="It is the Lovász hinge on logits.",
            released="It is the Lovász hinge.",
        ),
        Reading(
            point="Loss, Eq. 4",
            stated="Dice has Laplace smoothing.",
            built="1 is added above and below the fraction.",
            released="1e-5 is added, and the values below the fraction are squared.",
        ),
        Reading(
            point="Loss, Eq. 6",
            stated="It is Eq. 2 again, with a minus sign.",
            built="Eq. 2 is followed.",
        ),
        Reading(
            point="Classification-guided modules",
            stated="One answer a branch, yes or no, multiplies its output. Sizes are not given.",
            built="`_CGM` asks a question for every class at every branch. 0 times a logit would mean a probability of "
            "one half, so an absent class gets a logit at least 10 below the background's, in evaluation alone.",
            released="There are none.",
        ),
        Reading(
            point="Second ReLU of the guidance modules",
            stated="Section 2.3 goes through normalisation, dropout, linear layer and ReLU twice, so that a ReLU comes "
            "before the softmax.",
            built="The second ReLU is left out: answers would have no logit below 0.",
            released="There are no such modules.",
        ),
        Reading(
            point="Pruning",
            stated="Levels L1 to L4 are cut from the trained network.",
            built="`nnunet-archs prune` does that; `_L<N>` trains a level on its own.",
            released="There is none.",
        ),
        Reading(
            point="Inference",
            stated="The accurate mode averages the branches, for the loss; the fast mode takes the best branch.",
            built="The loss is the branches' mean; prediction is X[0, L], or another branch by pruning.",
        ),
        Reading(
            point="Optimiser",
            stated="It is Adam with a rate of 1e-3, a weight decay of 1e-4, cosine annealing and batches of 128.",
            built="It is nnU-Net's SGD with its falling rate and a weight decay of 3e-5; the batch is the plan's.",
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
            stated="It is X[i+1, j], which is not computed yet.",
            built="It is X[i+1, j-1]; the node above is X[i-1, j], as a column is computed from the top down.",
            released="As here.",
        ),
        Reading(
            point="What the module adds",
            stated='The text says "stage N-1", which has another shape; Eq. 2 says X[i, j-1].',
            built="It adds X[i, j-1].",
            released="It adds X[i, j-1], or nothing, by model.",
        ),
        Reading(
            point="Convolutions a node",
            stated="There are two.",
            built="There are two.",
            released="Variant 3 has two. Variants 1 and 2 have three, with a residual inside the node (54,998,657 "
            "parameters at 64 to 1024).",
        ),
        Reading(
            point="Weighted aggregation",
            stated="It concatenates, and gates the last layer of different scales.",
            built="It does that at every scale. `_addWAM` is the authors' form.",
            released="It adds, and has no gate at stage 0.",
        ),
        Reading(
            point="Deepest stage in the weighted aggregation",
            stated='"The last layer of crossing aggregation in different scales": whether the encoder\'s X[L, 0], '
            "which no crossing aggregation computes, is one of them is not said.",
            built="X[L, 0] is left out: the aggregation begins with X[L-1, 1].",
            released="As here.",
        ),
        Reading(
            point="Supervision",
            stated="It is not said; one output is drawn.",
            built="Every stage of the weighted aggregation is supervised, with equal weights; `_noDS` supervises the "
            "output alone.",
            released="The output is supervised.",
        ),
        Reading(
            point="Widths",
            stated="None are given.",
            built="They are the plan's.",
            released="They are 64 to 1024.",
        ),
        Reading(
            point="Down and up",
            stated="The operations are not said.",
            built="Down is max pooling, up a transposed convolution whose kernel is the stride.",
            released="As here.",
        ),
        Reading(
            point="Focal loss",
            stated="The text says alpha 0.5; Table III is best with alpha 0.25 and gamma 2.",
            built="Alpha is 0.25, gamma 2; `_alpha<P>` and `_gamma<N>` give others, `_CE` the row of cross-entropy.",
            released="Alpha is 0.5.",
        ),
        Reading(
            point="Optimiser",
            stated="It is Adam with a rate of 1e-3.",
            built="It is that, with nnU-Net's falling rate: nnU-Net's SGD leaves this loss at the background. "
            "`_recipe` has the paper's constant rate.",
            released="It is Adam.",
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
            stated="They are 32-64-128-192-256, at 7.80 x 10^8 parameters (10^6 must be meant).",
            built="These are followed (3.29M); `_L` and `_released` have those of the code. In 3D no preset is wider "
            "than 320, as with nnU-Net's planner.",
            released="They are 48-96-156-256-512, which gives the 7.80M.",
        ),
        Reading(
            point="Block",
            stated="The feature groups have an identity skip; squeeze and excitation follows.",
            built="The text is followed, with a reduction of 16; `_released` and `_S` have the code's block.",
            released="That skip has a convolution, and there is no squeeze and excitation.",
        ),
        Reading(
            point="Activation",
            stated="It is LeakyReLU; the slope is not given.",
            built="The slope is 0.3, whatever the plan says.",
            released="The slope is 0.3, Keras' default.",
        ),
        Reading(
            point="Blocks a stage",
            stated="Their number is not said.",
            built="The encoder has 1, 3, ..., 3, 2; the decoder has one and a convolution.",
            released="As here.",
        ),
        Reading(
            point="Last convolutions of stage 0",
            stated="They are as at the other stages.",
            built="They are that; `_released` has the code's.",
            released="There are three, which end at 3 channels.",
        ),
        Reading(
            point="First convolution of an output",
            stated="An output is Conv-BN-LeakyReLU-Conv-sigmoid; kernels and channels are not given.",
            built="Both convolutions have kernels of 1; the first has 16, 32, 64 or 128 channels by stage, and 32 for "
            "the fused output.",
            released="As here.",
        ),
        Reading(
            point="Dropout",
            stated="It is in the bottleneck.",
            built="It is 0.5 there.",
            released="It is made, and never used.",
        ),
        Reading(
            point="Supervision",
            stated="It is not said; one output is drawn.",
            built="The fused output is supervised, with `_DS` or `_DiceCE` the stages' outputs too.",
            released="The fused output is supervised.",
        ),
        Reading(
            point="Balanced cross-entropy",
            stated="It has no minus sign, and would be negative.",
            built="It has one.",
        ),
        Reading(
            point="Tversky index",
            stated="Nothing is added to the fraction: it is 0 / 0 for a class that is neither there nor predicted.",
            built="1 is added above and below.",
            released="As here.",
        ),
        Reading(
            point="Tversky loss of several classes",
            stated="It is their sum.",
            built="It is their mean: the sum would move the knee of Eq. 2 out of reach.",
            released="There is one class.",
        ),
        Reading(
            point="Adaptive logarithmic loss",
            stated="It is Eq. 2.",
            built="It is Eq. 2, of the scalar HL.",
            released="It is called, and is not there.",
        ),
        Reading(
            point="Squeeze and excitation behind a normalisation",
            stated="The order is 1x1 convolution, squeeze and excitation, sum.",
            built="It squeezes before the normalisation, which may be an instance norm, and scales behind it.",
            released="There is none.",
        ),
        Reading(
            point="Light network of Table 3",
            stated="It has 1.84; widths are not given.",
            built="`_S`, the code's block at 16-32-64-128-256, has that size.",
            released="It is not there.",
        ),
        Reading(
            point="U-Nets of Table 2",
            stated="Their sizes are printed: U-Net 7.94, UNet++ 9.04, Attention U-Net 8.91. Widths are not given.",
            built="`ClassicalUNet` and `UNetPlusPlus` stand for the first two, at 32 to 512, and `AttentionUNet` is "
            "that of its own paper. The code's are `UNetPlusPlusTrainer_transposed` and "
            "`AttentionUNetTrainer_released`.",
            released="All are at 32 to 512. `Nest_Net` is UNet++ with transposed convolutions and without "
            "normalisation: its 9,042,177 parameters are the printed 9.04. `attn_unet` has 8,906,244 with the "
            "statistics of its BatchNorm: the printed 8.91. `unet` has 7,760,645, which is not the printed 7.94.",
        ),
        Reading(
            point="Optimiser",
            stated="Each network has a learning rate schedule of its own.",
            built="It is nnU-Net's SGD with its falling rate; `_recipe` has the code's.",
            released="It is Adam, and the rate falls in steps.",
        ),
        Reading(
            point="FLOPs of Tables 2 and 3",
            stated="They are 15.64 and 0.98, of the order of 10^8.",
            built="They are not compared: they are twice the parameters in Table 2, about half of them in Table 3, and "
            "no count of compute.",
            released="A profiler counts them without a batch size.",
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
            stated="It has three paths, 3x3 among them (Table I).",
            built="It has these; `_released` has the code's.",
            released="It has two paths and a 1x1, and shares the vertical block's 1x1 layers.",
        ),
        Reading(
            point="Joining the paths",
            stated='Table I says "Add"; the column before it is blank.',
            built="They are concatenated, brought to the block's width by a 1x1, then added to the residual.",
            released="As here.",
        ),
        Reading(
            point="Kernel of the decoder",
            stated="Table I has 1x1, the text 3x3.",
            built="It is 3x3; `_1x1decoder` has the table's.",
            released="It is 3x3.",
        ),
        Reading(
            point="Between encoder and decoder",
            stated="Nothing is said.",
            built="A 1x1 convolution joins the branches after the fifth pooling: the plan's last stage.",
            released="As here.",
        ),
        Reading(
            point="Dice, Eq. 4",
            stated="A smooth factor without a value stands below the fraction alone.",
            built="It is 1, and is added above the fraction too.",
            released="It is 2 (I + 1) / (P + G + 1), where I, P and G are the sums of intersection, prediction and "
            "truth: more than 1 for a perfect mask. The prediction is thresholded at 0.4 first.",
        ),
        Reading(
            point="Supervision",
            stated="The output is supervised.",
            built="It is that; with `_DS` or `_DiceCE` every stage of the decoder is supervised.",
            released="The output is supervised.",
        ),
        Reading(
            point="Width inside a residual convolution",
            stated="It is not said.",
            built="It is half in the encoder, and all in the decoder.",
            released="As here.",
        ),
        Reading(
            point="Attention maps",
            stated="They are of the third blocks; how they are made is not said. Figure 7 tries blocks 1 to 5, the "
            "text all of them.",
            built="One head of two convolutions serves both branches. `_attention<N>` takes another block, "
            "`_attentionAll` every block, each with a head of its own, and the mean of their losses.",
            released="The third blocks have one head of two convolutions for both branches.",
        ),
        Reading(
            point="Attention loss, Eq. 1",
            stated="It is a product of three centred maps.",
            built="It is that, though it is no correlation, and does not notice both maps inverted; `_pairwise` has "
            "the mean correlation of each two.",
            released="It is detached, as is its Dice: 0.2 times cross-entropy alone is trained.",
        ),
        Reading(
            point="Weights of the loss",
            stated="They are 0.4, 0.1 and 0.5, the best row of Table II.",
            built="They are these; `_lambda<ABC>` gives the table's other rows, and `_CE` its first.",
            released="They are 0.2, 0.3 and 0.5 (`_lambda235`).",
        ),
        Reading(
            point="Ablation of Table III",
            stated="All models have cross-entropy alone, for the sake of fairness. What becomes of the attention is "
            "not said.",
            built="All run without attention. `CrosslinkNetTrainer_CE` is the table's Crosslink-Net, whose row is that "
            "of the weights 1, 0, 0 in Table II.",
            released="The networks of the ablation are not there.",
        ),
        Reading(
            point="Single square branch of Figure 5",
            stated='Kernels are "the most conventional" 3x3, and all else is as in Table I.',
            built="`SquareCrosslinkTrainer_1branch` has 3x3 in all three paths of a block.",
            released="It is not there.",
        ),
        Reading(
            point="Initialisation",
            stated="Weights are Gaussian; the variance is not given.",
            built="It is He's, as in nnU-Net: Gaussian, with a variance that suits each layer.",
            released="It is torch's own, which is uniform.",
        ),
        Reading(
            point="Several classes",
            stated="Table VI has them; which map the attention then has is not said.",
            built="There is one attention map, of all foreground.",
        ),
        Reading(
            point="3D",
            stated="There is none.",
            built="Two branches run along the in-plane axes; `_3branches` adds the third, with `_pairwise`'s loss.",
            released="There is none.",
        ),
        Reading(
            point="Optimiser",
            stated="It is Adam with a rate of 5e-6 and a weight decay of 0.005; another sentence says SGD.",
            built="It is nnU-Net's SGD with its falling rate and a weight decay of 3e-5; `_recipe` has the paper's.",
            released="It is Adam, with that rate and decay.",
        ),
        Reading(
            point="Sizes of Table III",
            stated="They are 60M to 178M, of storage.",
            built="Parameters of 4 bytes are given in MiB; the ablations' do not fit one reading of the text.",
            released="It has 121.6 MiB, the paper's 121M.",
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
            stated="Part of the prose swaps them.",
            built="They are as in the tables: Ours1 is `ImprovedSkipConcatUNet`, Ours2 `ImprovedSkipUNet`.",
        ),
        Reading(
            point="Where the skip lands",
            stated='It is "concatenating with upsampling".',
            built="It joins the transposed convolution's result, before the decoder's first convolution.",
        ),
        Reading(
            point="Where it leaves",
            stated="It leaves after the first convolution.",
            built="It does, after the activation; pooling takes the second convolution's result.",
        ),
        Reading(
            point="Dropout",
            stated='It is "added after the convolution"; no rate is given.',
            built="It is 0.1 of the channels after every convolution, and none in the classical U-Net.",
        ),
        Reading(
            point="Classical U-Net",
            stated="It has 7,759,521 parameters, which is without normalisation; the improved ones have room for it.",
            built="All have the plan's normalisation. The printed size needs a plan without one.",
        ),
        Reading(
            point="Size of FCN-8s in Table 2",
            stated="It is 143,667,240.",
            built="It is no target: to the digit, it is torchvision's VGG19 classifier of 1000 classes. An FCN-8s on "
            "VGG16 has about 134.3M. None is built.",
        ),
        Reading(
            point="Loss",
            stated="It is the cross-entropy of the output.",
            built="It is nnU-Net's, with its deep supervision, as the paper is about the network; `_CE` has the "
            "paper's.",
        ),
        Reading(
            point="Table 3, Ours1 on liver",
            stated="It has an mIoU of 0.846205 and a Dice of 0.926563.",
            built="It is no target: the two cannot both be means over images.",
        ),
    ),
)

PAPERS = (UNET_SHARP, CAGGNET, FOCUSNET, CROSSLINK, IMPROVED_SKIP)

# where every trainer here departs from its paper, unless its name says otherwise: training is nnU-Net's
NNUNET = (
    Reading(
        point="Gradients",
        stated="No paper says that it clips them.",
        built="nnU-Net clips their norm at 12.",
    ),
    Reading(
        point="Weight decay",
        stated="UNet# has 1e-4 and Crosslink-Net 0.005; the others state none.",
        built="nnU-Net's SGD has 3e-5. CAggNet's Adam has none.",
    ),
    Reading(
        point="Which patches are seen",
        stated="No paper says that it favours those with foreground.",
        built="nnU-Net crops a third of a batch's patches around foreground, and the others anywhere.",
    ),
    Reading(
        point="Prediction",
        stated="No paper says that it is averaged over mirrored images.",
        built="nnU-Net averages it over all mirrorings of a window; `_NoMirroring` trains and predicts without.",
    ),
)

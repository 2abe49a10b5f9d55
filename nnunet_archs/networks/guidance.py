"""The classification-guided modules of UNet# (section 2.3).

UNet-sharp: "UNet#: A UNet-like Redesigning Skip Connections for Medical Image Segmentation", arXiv:2205.11759.

Section 2.3 and Figure 3: at every supervised node a classifier tells from the node's features whether the image shows
what is to be segmented. It is trained with cross-entropy (`losses.PresenceLoss`), and its answer, 0 or 1, multiplies
the branch's output. The deepest two nodes, X[L, 0] and X[L-1, 1], have a hidden layer ("green"), the others have none
("blue").

Where this departs from the paper or settles what it leaves open:

- The paper segments one class. Here every class or region has a question of its own, with the same two answers.
- The gate closes in evaluation alone. The answer has no gradient, and a branch that it silences would not learn.
- Zero as a logit is a probability of one half. A class judged absent gets a logit at least 10 below the background's,
  a region one of -10 or less. It stays finite: prediction averages logits over windows and mirrored images.
- The background of a label map is never gated. Only the trainer knows whether the first channel is one, and prediction
  has nothing but plans and weights: so that is kept in a buffer, beside the classifier's weights.
- The image is the patch, in training as in sliding-window prediction: the answer is of the window's own view.
- The text has ReLU after each of the green module's linear layers, so before the softmax too. That one is left out: it
  would forbid answers below 0.
- Dropout is 0.5 before the last layer and 0.25 before the hidden one, which is as wide as the node. The paper gives
  neither.
- A batch of one sample is normalised by the running statistics. Of a batch of two, batch normalisation leaves nothing
  but which sample has more of a feature: where memory allows, train these modules with larger batches.
- L is that of the whole network, also where a level of it is built.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# how far the logit of an absent class lies below the background's: its probability is 0.00005 at most
MARGIN = 10.0


class Guidance(nn.Module):
    """A classification-guided module at every supervised node, those of `deep` with a hidden layer.

    All of it depends on the classes and on the supervision, as the heads do; hence their name, by which nnU-Net
    leaves it out when it loads pretrained weights.
    """

    def __init__(self, channels: Mapping[str, int], num_classes: int, *, deep: Collection[str]) -> None:
        super().__init__()
        self.seg_layers = nn.ModuleDict(
            {
                node: ClassificationGuidedModule(width, num_classes, deep=node in deep)
                for node, width in channels.items()
            }
        )

    def forward(self, features: Sequence[Tensor], logits: Sequence[Tensor]) -> list[Tensor]:
        """Features and logits of the first nodes, or of all, to gated logits; in training to logits, then answers."""
        modules = zip(self.seg_layers.values(), features, logits)  # noqa: B905 (the first are enough)
        guided = [module(x, z) for module, x, z in modules]
        answers = [answer for _, answer in guided] if self.training else []
        return [*(z for z, _ in guided), *answers]


class ClassificationGuidedModule(nn.Module):
    """Whether the features show a class, for every channel of the logits, and the gate that this closes (Figure 3).

    The buffer `foreground` tells which channels can be gated: all of a region network's, all but the first of a label
    map's. It says the latter until the trainer sets it; one channel alone is a region.
    """

    foreground: Tensor

    def __init__(self, channels: int, num_classes: int, *, deep: bool) -> None:
        super().__init__()
        self.classifier = classifier(2 * channels, channels if deep else None, 2 * num_classes)
        self.register_buffer("foreground", torch.arange(num_classes) >= min(1, num_classes - 1))

    def forward(self, x: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits `(B, C, *spatial)`, `(B, K, *spatial)` to logits, gated in evaluation, and answers.

        Answers `(B, K, 2)` are logits: absent, present.
        """
        voxels = x.flatten(2)
        pooled = torch.cat([voxels.mean(2), voxels.amax(2)], dim=1)
        answers = self.classifier(pooled).unflatten(1, (-1, 2))
        return (logits if self.training else self.gate(logits, answers)), answers

    def gate(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Logits `(B, K, *spatial)`, low all over where the answer `(B, K, 2)` is that the class is absent."""
        absent = (answers[..., 0] > answers[..., 1]) & self.foreground
        # what a class stands against: the background, or where that has no channel, as for a sigmoid, the logit 0
        background = logits[:, :1].masked_fill(self.foreground[0], 0)
        low = torch.minimum(logits, background - MARGIN)
        return torch.where(absent.view(*absent.shape, *[1] * (logits.ndim - 2)), low, logits)


def classifier(channels: int, hidden: int | None, answers: int) -> nn.Sequential:
    """Figure 3: batch normalisation, dropout and a linear layer; with `hidden` all of it twice, ReLU between."""
    first: list[nn.Module] = []
    if hidden is not None:
        first = [BatchNorm(channels), nn.Dropout(0.25), nn.Linear(channels, hidden), nn.ReLU()]
        channels = hidden
    return nn.Sequential(*first, BatchNorm(channels), nn.Dropout(0.5), nn.Linear(channels, answers))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation that takes the running statistics where one sample alone has none."""

    def forward(self, input: Tensor) -> Tensor:
        """Features `(B, C)`, normalised."""
        if self.training and input.shape[0] == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)

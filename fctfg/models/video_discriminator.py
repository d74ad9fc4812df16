"""The paper's ablation of the discriminator: one that judges the frames of a window together."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fctfg.models.discriminator import ConvLayer, Discriminator, DiscriminatorConfig, minibatch_stddev


@dataclass(frozen=True)
class VideoDiscriminatorConfig(DiscriminatorConfig):
    """The discriminator's sizes.

    Attributes:
        frames: that are judged together.

    Raises:
        ValueError: as for images, or without a frame.
    """

    frames: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames < 1:
            raise ValueError(f"frames must be positive, not {self.frames}")


class VideoDiscriminator(nn.Module):
    """StyleGAN2's discriminator, each frame by itself down to 4 x 4 px, where all frames meet in one convolution.

    The paper says that a video discriminator was worse, and not what it was. This one has the layers of the image
    discriminator, so that it can start as the mean of that one's judgements (`start_as`).
    """

    def __init__(self, config: VideoDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        image, last = Discriminator(config), config.channels(4)
        self.convs = image.convs
        self.final_conv = ConvLayer(config.frames * last + 1, last, 3)
        self.final_linear = image.final_linear

    @torch.no_grad()
    def start_as(self, image: Discriminator) -> None:
        """Take over an image discriminator: what the last convolution saw of one frame becomes the frames' mean.

        Frames that are all alike are then judged as that image was.

        Args:
            image: of the same sizes.

        Raises:
            RuntimeError: of other sizes.
        """
        self.convs.load_state_dict(image.convs.state_dict())
        self.final_linear.load_state_dict(image.final_linear.state_dict())
        mine, theirs = self.final_conv.state_dict(), image.final_conv.state_dict()
        frames, last = self.config.frames, self.config.channels(4)
        mine["1.bias"].copy_(theirs["1.bias"])
        gain = math.sqrt(mine["0.weight"].shape[1] / theirs["0.weight"].shape[1])  # equalized learning rate divides it
        features, deviation = (gain * theirs["0.weight"]).split([last, 1], dim=1)
        mine["0.weight"].copy_(torch.cat([features.repeat(1, frames, 1, 1) / frames, deviation], dim=1))

    def forward(self, video: Tensor) -> Tensor:
        """Judge windows.

        Args:
            video: [B, frames, 3, resolution, resolution] in [-1, 1].

        Returns:
            logits [B, 1], high for real windows.

        Raises:
            ValueError: if the windows have another size.
        """
        shape = self.config.frames, 3, self.config.resolution, self.config.resolution
        if video.ndim != 5 or video.shape[1:] != shape:
            raise ValueError(f"windows must be [B, {', '.join(map(str, shape))}], not {list(video.shape)}")
        features = self.convs(video.flatten(0, 1)).unflatten(0, video.shape[:2]).flatten(1, 2)  # [B, T*C, 4, 4]
        x = minibatch_stddev(features, self.config.stddev_group)
        return self.final_linear(self.final_conv(x).flatten(1))

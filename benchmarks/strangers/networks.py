"""The networks of torchvision and timm that are tried: a fixed list, with the pixels a side each is given."""

from __future__ import annotations

from typing import Any

SIDE, TRANSFORMER_SIDE = 64, 224
CONVOLUTIONAL = (
    "mobilenet_v3_small",
    "timm/efficientnet_b0",
    "timm/convnext_atto",
    "timm/regnety_002",
    "shufflenet_v2_x0_5",
    "timm/fastvit_t8",
    "timm/efficientvit_b0",
    "timm/ghostnetv2_100",
    "timm/mobilevit_xxs",
    "resnet18",
    "mobilenet_v2",
    "squeezenet1_1",
    "googlenet",
    "densenet121",
    "vgg11_bn",
    "mnasnet0_5",
    "alexnet",
    "resnext50_32x4d",
    "efficientnet_v2_s",
    "regnet_y_400mf",
    "regnet_x_400mf",
    "convnext_tiny",
    "timm/resnet18d",
    "timm/repvgg_a0",
    "timm/efficientnet_lite0",
    "timm/mobilenetv4_conv_small",
    "timm/edgenext_xx_small",
    "timm/mobileone_s0",
    "timm/hardcorenas_a",
    "timm/lcnet_050",
    "timm/tf_efficientnet_lite0",
    "timm/tinynet_e",
    "timm/repghostnet_050",
    "timm/resnet26t",
    "timm/seresnet18",
    "timm/ese_vovnet19b_dw",
    "timm/dla34",
    "timm/poolformerv2_s12",
    "timm/starnet_s1",
    "timm/mixnet_s",
    "timm/res2net50_14w_8s",
)
TRANSFORMERS = (
    "timm/vit_tiny_patch16_224",
    "timm/deit_tiny_distilled_patch16_224",
    "timm/swin_tiny_patch4_window7_224",
    "timm/tiny_vit_5m_224",
    "timm/levit_128s",
)
ARGUMENTS: dict[str, dict[str, Any]] = {"googlenet": {"init_weights": True}}
NETWORKS: dict[str, int] = {
    **dict.fromkeys(CONVOLUTIONAL, SIDE),
    **dict.fromkeys(TRANSFORMERS, TRANSFORMER_SIDE),
}

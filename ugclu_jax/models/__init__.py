"""Models by name: the bundled ones, all Flax Linen modules that are called with `train`, and those of one's own."""

from ugclu_jax.models.cnn import CNN
from ugclu_jax.models.create import MODELS, create, initialise, over_devices
from ugclu_jax.models.efficientnet_lite import EfficientNetLite
from ugclu_jax.models.minilm import MiniLM
from ugclu_jax.models.mlp import MLP
from ugclu_jax.models.options import ModelOptions
from ugclu_jax.models.part import part_functions
from ugclu_jax.models.pretrained import load_pretrained
from ugclu_jax.models.resnet import ResNet
from ugclu_jax.models.swin import SwinTransformer
from ugclu_jax.models.text_encoder import TextEncoder
from ugclu_jax.models.vit import VisionTransformer

__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "EfficientNetLite",
    "MiniLM",
    "ModelOptions",
    "ResNet",
    "SwinTransformer",
    "TextEncoder",
    "VisionTransformer",
    "create",
    "initialise",
    "load_pretrained",
    "over_devices",
    "part_functions",
]

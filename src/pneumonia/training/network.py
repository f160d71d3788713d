"""The classifier: a grey channel repeated to three, a backbone, global pooling, one dense unit.

Keras is imported inside the functions that need it: checking parameters starts no TensorFlow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pneumonia.errors import PipelineError
from pneumonia.store.params import Section, require
from pneumonia.training.weights import WEIGHTS


class ModelParams(Section):
    """The network that both phases train."""

    backbone: Literal["efficientnet_v2_s", "mobilenet_v2"]
    weights: str = Field(description="none, or a weights record of the backbone")
    dropout: float = Field(ge=0, lt=1, description="share of the pooled features")
    pixel_divisor: float = Field(
        gt=0, le=65535, description="1 is right; 255 repeats the paper's pixels in [0, 1]"
    )

    @model_validator(mode="after")
    def _weights_are_of_the_backbone(self) -> Self:
        accepted = ["none", *WEIGHTS[self.backbone]]
        require(self.weights in accepted, "weights",
                f"be one of {', '.join(accepted)} for backbone {self.backbone}",
                self.weights)  # fmt: skip
        return self

    @property
    def pretrained(self) -> bool:
        """Whether the backbone starts from pretrained weights."""
        return self.weights != "none"


def build_classifier(params: ModelParams, image_size: int, precision: str = "float32") -> Any:
    """An untrained classifier, its random weights drawn from Keras' global seed.

    Args:
        params: backbone, head and what is done to pixels.
        image_size: pixels a side.
        precision: a Keras dtype policy: float32, mixed_bfloat16.

    Returns:
        A Keras model named `classifier`. Input: (n, image_size, image_size, 1) in [0, 255].
        Output: (n, 1) float32, P(pneumonia) in [0, 1].
    """
    import keras

    with _dtype_policy(precision):
        pixels = keras.Input((image_size, image_size, 1), name="radiograph")
        x = pixels
        if params.pixel_divisor != 1:
            x = keras.layers.Rescaling(1 / params.pixel_divisor, name="pixel_divisor")(x)
        # Concatenation, not a Lambda: files with code in them do not load in safe mode.
        x = keras.layers.Concatenate(name="grey_to_rgb")([x, x, x])
        shape = (image_size, image_size, 3)
        if params.backbone == "efficientnet_v2_s":
            # Rescales inside, by x / 128 - 1 (include_preprocessing).
            backbone = keras.applications.EfficientNetV2S(
                include_top=False, weights=None, input_shape=shape
            )
        else:
            x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="mobilenet_pixels")(x)
            backbone = keras.applications.MobileNetV2(
                include_top=False, weights=None, input_shape=shape
            )
        x = backbone(x)
        x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
        x = keras.layers.Dropout(params.dropout, name="dropout")(x)
        # float32 whatever the precision: a probability needs the digits.
        y = keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="pneumonia")(x)
        return keras.Model(pixels, y, name="classifier")


def load_pretrained(classifier: Any, path: Path) -> None:
    """Fill the classifier's backbone with the weights of a file in Keras' HDF5 formats.

    Raises:
        PipelineError: the file cannot be read, or is not of this backbone.
    """
    try:
        backbone_of(classifier).load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise PipelineError(
            f"{path}: expected weights of the backbone, without its classifier. Received: {reason}"
        ) from error


def backbone_of(classifier: Any) -> Any:
    """The backbone within a classifier: its only layer that is a model."""
    import keras

    (backbone,) = (layer for layer in classifier.layers if isinstance(layer, keras.Model))
    return backbone


def freeze_backbone(classifier: Any) -> None:
    """Leave only the head to be trained; BatchNorm uses its stored statistics."""
    backbone_of(classifier).trainable = False


def unfreeze_backbone(classifier: Any, params: ModelParams) -> None:
    """Let all layers train, save BatchNorm if the weights are pretrained.

    From random weights BatchNorm trains. With pretrained weights it keeps the statistics of
    ImageNet, or the first updates destroy what the backbone learned
    (https://keras.io/guides/transfer_learning). The guide calls the backbone with
    `training=False`; in Keras 3 a functional model overrides that with its own `training=True`
    while it is fitted, so it is the layers that are frozen here, scale and offset with them.
    """
    import keras

    backbone = backbone_of(classifier)
    backbone.trainable = True
    if params.pretrained:
        for layer in backbone.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False


@contextmanager
def _dtype_policy(precision: str) -> Iterator[None]:
    """Keras' global dtype policy within the block; `keras.applications` takes no other."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)

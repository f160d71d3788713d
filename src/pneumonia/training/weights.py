"""Records of the pretrained weights: what is known of each file."""

from dataclasses import dataclass
from typing import Literal

from pneumonia.data.remote_file import Remote


@dataclass(frozen=True)
class WeightsRecord:
    """A file of pretrained weights without the classifier.

    Attributes:
        remote: where it is and how it is recognised.
        batch_norm: "full", or "folded" into the convolutions. Both stay in inference mode.
        licence: under which it is given.
        citation: who made it.
    """

    remote: Remote
    batch_norm: Literal["full", "folded"]
    licence: str
    citation: str


_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"

# By backbone, then by name. `none` is no record: it means random weights.
WEIGHTS: dict[str, dict[str, WeightsRecord]] = {
    "efficientnet_v2_s": {
        "imagenet": WeightsRecord(
            Remote(
                file="efficientnetv2-s_notop.h5",
                address=_KERAS + "efficientnet_v2/efficientnetv2-s_notop.h5",
                sha256=None,
                md5="af0682fb74e8c54910f2d4393339c070",  # Keras checks the same
                n_bytes=None,
            ),
            batch_norm="full",
            licence="Apache-2.0",
            citation="Tan and Le 2021, EfficientNetV2, arXiv:2104.00298; weights from Keras",
        ),
    },
    "mobilenet_v2": {
        "imagenet": WeightsRecord(
            Remote(
                file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
                address=_KERAS
                + "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
                # Keras publishes no checksum for this file: its size, and that every layer finds
                # its weights, are all that can be checked.
                sha256=None,
                md5=None,
                n_bytes=9_406_464,
            ),
            batch_norm="full",
            licence="Apache-2.0",
            citation="Sandler et al. 2018, MobileNetV2, arXiv:1801.04381; weights from Keras",
        ),
        "mobilenet_v2_imagenet_folded": WeightsRecord(
            Remote(
                file="mobilenet_v2_1.0_224_no_top_bnfolded.weights.h5",
                address=None,  # mirror only
                sha256="10553c7e4064c9150637083c47a43d2233ab6dac82ab0890eb8c4609e9cf9972",
                md5=None,
                n_bytes=9_449_296,
            ),
            batch_norm="folded",
            licence="Apache-2.0",
            citation="Sandler et al. 2018, MobileNetV2, arXiv:1801.04381; weights from TensorFlow",
        ),
    },
}

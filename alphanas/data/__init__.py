"""Data: pictures with labels, parted into training, validation and test, standardised by the training part.

    from alphanas import data
    pictures = data.load(config.data)          # or data.load(Data(**payload["data"])) in a worker
    pictures.x_train, pictures.y_train         # float32 NHWC, int32; likewise x_valid, y_valid, x_test, y_test
    pictures.num_classes, pictures.input_shape # 10, (8, 8, 1)
    pictures.fingerprint                       # sha256 hex of the source's content and of how it was parted; not of its path
    pictures.standardisation                   # x = (pixel / scale - mean[c]) / std[c], from the training part alone

The validation part is taken off the training part; the test part is the source's own where it has one. Selection never sees the
test part. `UserError` for a missing file, wrong keys, shapes, dtypes, labels, empty parts, or a single class.
"""

from alphanas.data.load import DataSet, Standardisation, load
from alphanas.data.raw import Raw

__all__ = ["DataSet", "Raw", "Standardisation", "load"]

"""The banded pattern of the MLP weights, entry by entry in Python integers.

FC1 (H, C) keeps (j, i) when 2 |j*C - i*H| <= bandwidth*C, j on the hidden axis of size H, i on the
residual axis of size C; FC2 (C, H) is its transpose. Bandwidth 0 is dense.
"""

import numpy as np

# Entries of one FC1 (or FC2) weight inside the band, with H = 4C, by (C, bandwidth).
KEPT = {
    (128, 64): 8_056,
    (128, 128): 15_472,
    (128, 256): 28_768,
    (128, 512): 49_216,
    (128, 1021): 65_535,
    (128, 1022): 65_536,
    (128, 1024): 65_536,
    (128, 2048): 65_536,
    (128, 4096): 65_536,
    (512, 64): 33_016,
    (512, 128): 65_008,
    (512, 256): 127_456,
    (512, 512): 246_208,
    (512, 1024): 459_136,
    (512, 2048): 786_688,
    (512, 4096): 1_048_576,
}


def fc1_mask(H, C, bandwidth):
    """(H, C) booleans, true where the weight may be non-zero."""
    if bandwidth == 0:
        return np.ones((H, C), dtype=bool)
    return np.array(
        [[2 * abs(j * C - i * H) <= bandwidth * C for i in range(C)] for j in range(H)], dtype=bool
    )


def fc2_mask(C, H, bandwidth):
    """(C, H) booleans: the transpose of FC1's."""
    return fc1_mask(H, C, bandwidth).T

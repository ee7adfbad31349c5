"""Out-of-distribution detectors over embeddings alone, behind one interface.

    gallery embeddings, labels ──fit──> detector ──score──> higher = more likely a known page

    neighbours  top-1 cosine, k-NN distance, ratio of the nearest two labels
    gaussian    Mahalanobis distance, cosine after within-label whitening
    diffusion   reconstruction, density and score of a small denoiser (extra `compare`)
    left_out    cross-validated scores of the gallery itself
    kinds       the list of all of them

They are baselines of `evaluate --compare` and answer no queries; docs/recognition.md has the
results.
"""

from pagesight_server.evaluation.detectors.detector import Detector, Kind
from pagesight_server.evaluation.detectors.kinds import KINDS, check
from pagesight_server.evaluation.detectors.left_out import left_out

__all__ = ["KINDS", "Detector", "Kind", "check", "left_out"]

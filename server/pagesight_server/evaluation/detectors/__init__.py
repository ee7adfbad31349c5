"""Ways to say `other` from embeddings alone, behind one interface, to be compared.

    gallery embeddings, labels ──fit──> detector ──score──> higher = more known

    neighbours  top-1 cosine, k-NN distance, ratio of the nearest two labels
    gaussian    Mahalanobis distance, cosine after within-label whitening
    diffusion   reconstruction, density and score of a small denoiser (extra `compare`)
    left_out    what each of them says of gallery pictures it has not seen

None of them answers queries: `evaluate --compare` measures what they would be worth,
and docs/recognition.md says what came of it.
"""

from pagesight_server.evaluation.detectors.detector import Detector, Kind
from pagesight_server.evaluation.detectors.kinds import KINDS, check
from pagesight_server.evaluation.detectors.left_out import left_out

__all__ = ["KINDS", "Detector", "Kind", "check", "left_out"]

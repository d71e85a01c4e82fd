"""The learners, by the names that `--probe` uses.

A further learner is one more file with a subclass of `Learner` or `Probe`, a line in `LEARNERS`, and its name
in `protocol.Probe`.
"""

from __future__ import annotations

from collections.abc import Mapping

from heareval.predictions.learners.knn import CosineKnn, L1Knn
from heareval.predictions.learners.learner import EvaluationContext, Learner
from heareval.predictions.learners.linear import LinearProbe
from heareval.predictions.learners.mlp import Mlp
from heareval.predictions.protocol import Probe

__all__ = ["LEARNERS", "EvaluationContext", "Learner", "find_learner"]

LEARNERS: Mapping[Probe, type[Learner]] = {
    "mlp": Mlp,
    "knn-cosine": CosineKnn,
    "knn-l1": L1Knn,
    "linear": LinearProbe,
}


def find_learner(context: EvaluationContext) -> Learner:
    """Return the learner that the protocol names."""
    return LEARNERS[context.protocol.probe](context)

"""scikit-learn's BayesianRidge for many short fits: the same coefficients, with less arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import BayesianRidge

# How much larger the largest eigenvalue may be than the smallest.
MAX_CONDITION = 1e6


class FastBayesianRidge(BayesianRidge):  # type: ignore[misc]
    """BayesianRidge with its default settings, which gives the coefficients and nothing else.

    scikit-learn decomposes the `(samples, features)` array and multiplies by it in every round of its search
    for the two precisions (MacKay 1992). All of it follows from the `(features, features)` products, which
    are summed once. In terms of their eigenvectors, a round takes a few operations on vectors. Imputing the
    scores of a board takes hundreds of fits.
    """

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> FastBayesianRidge:  # noqa: N803
        """Fit as BayesianRidge does; few samples and nearly dependent features are left to it."""
        samples, features = X.shape
        offset, target_offset = X.mean(axis=0), y.mean()
        centred, target = X - offset, y - target_offset
        values, vectors = np.linalg.eigh(centred.T @ centred)
        # Products have half the digits: the smallest eigenvalue would be rounding, and so would be the little
        # that is left of the errors of few samples.
        if samples < 2 * features or values[-1] > MAX_CONDITION * values[0]:
            super().fit(X, y)
            return self
        projected = vectors.T @ (centred.T @ target)
        square = float(target @ target)
        noise_precision = 1 / (y.var() + np.finfo(np.float64).eps)
        weight_precision = 1.0
        before = None
        for _ in range(self.max_iter):
            rotated = projected / (values + weight_precision / noise_precision)
            errors = square - 2 * float(rotated @ projected) + float(values @ rotated**2)
            effective = float(
                (noise_precision * values / (weight_precision + noise_precision * values)).sum()
            )
            weight_precision = (effective + 2 * self.lambda_1) / (
                float(rotated @ rotated) + 2 * self.lambda_2
            )
            noise_precision = (samples - effective + 2 * self.alpha_1) / (errors + 2 * self.alpha_2)
            # Coefficients, because rotating them changes the sum of their absolute changes.
            coefficients = vectors @ rotated
            if before is not None and np.abs(before - coefficients).sum() < self.tol:
                break
            before = coefficients
        self.coef_ = vectors @ (projected / (values + weight_precision / noise_precision))
        self.intercept_ = target_offset - offset @ self.coef_
        return self

    def predict(self, X: NDArray[np.float64]) -> NDArray[np.float64]:  # noqa: N803
        """Return the predicted targets."""
        return np.asarray(X @ self.coef_ + self.intercept_)

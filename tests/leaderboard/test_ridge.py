"""The faster ridge regression, against scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer
from sklearn.linear_model import BayesianRidge

from heareval.leaderboard.ridge import FastBayesianRidge


def draw(kind: str) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    scores = rng.random((120, 1)) * 0.5 + rng.random((120, 9)) * 0.5
    if kind == "nearly dependent":
        return rng.random((120, 2)) @ rng.random((2, 9)) + 1e-5 * rng.normal(size=(120, 9))
    if kind == "dependent":
        return rng.random((120, 2)) @ rng.random((2, 9))
    if kind == "the same twice":
        return np.hstack([scores, scores[:, :3]])
    if kind == "equal":
        scores[:, 4] = 0.5
    if kind == "large, lower is better":
        scores[:, 4] *= -1e5
    return scores if kind != "few models" else scores[:14]


@pytest.mark.parametrize(
    "kind",
    [
        "usual",
        "few models",
        "nearly dependent",
        "dependent",
        "the same twice",
        "equal",
        "large, lower is better",
    ],
)
def test_scores_are_imputed_as_by_scikit_learn(kind: str) -> None:
    scores = draw(kind)
    scores[np.random.default_rng(1).random(scores.shape) < 0.2] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        filled = IterativeImputer(FastBayesianRidge(), random_state=0).fit_transform(scores)
        expected = IterativeImputer(random_state=0).fit_transform(scores)
    np.testing.assert_allclose(filled, expected, rtol=1e-9)
    # So close that it is no accident, and so far apart that the two are not the same code.
    if kind == "usual":
        assert not np.array_equal(filled, expected)


@pytest.mark.parametrize("samples", [30, 200])
def test_coefficients_are_those_of_scikit_learn(samples: int) -> None:
    rng = np.random.default_rng(samples)
    scores = rng.random((samples, 12))
    target = scores @ rng.normal(size=12) + 3 + 0.1 * rng.normal(size=samples)
    fast, slow = FastBayesianRidge().fit(scores, target), BayesianRidge().fit(scores, target)
    np.testing.assert_allclose(fast.coef_, slow.coef_, rtol=1e-10)
    np.testing.assert_allclose(fast.predict(scores), slow.predict(scores), rtol=1e-10)

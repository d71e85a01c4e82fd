"""The scores that MFCCs were published to have in timbre_similarity."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from heareval.predictions.metrics import ratings
from heareval.predictions.metrics.ratings import PairDistances
from tests.predictions import timbre

# Published: .391, .296, .695 and .411, .317, .705.
AVERAGED = {"spearman": 0.3907, "kendall": 0.2955, "triplet_agreement": 0.6952}
FLAT = {"spearman": 0.4109, "kendall": 0.3168, "triplet_agreement": 0.7052}
FOLDER = os.environ.get("HEAREVAL_TIMBRE", "")


def scores(reference: ratings.RatedPairs, predicted: PairDistances) -> dict[str, float]:
    return {name: round(ratings.METRICS[name].function(reference, predicted), 4) for name in AVERAGED}


def test_golden_mfccs_score_as_published() -> None:
    reference, averaged, flat = timbre.read_golden()
    assert (len(averaged), len(reference.rating), len(np.unique(reference.unit))) == (334, 2614, 240)
    assert scores(reference, timbre.averaged_distances(averaged, reference)) == AVERAGED
    assert scores(reference, flat) == FLAT


@pytest.mark.skipif(
    not FOLDER, reason="no sounds: set HEAREVAL_TIMBRE to a folder with sounds/, true_dissim/"
)
def test_mfccs_of_the_sounds_score_as_published() -> None:
    reference, sounds = timbre.read_folder(Path(FOLDER))
    averaged, flat = timbre.averaged_mfccs(sounds), timbre.flat_distances(sounds, reference)
    assert scores(reference, timbre.averaged_distances(averaged, reference)) == AVERAGED
    assert scores(reference, flat) == FLAT
    golden_reference, golden_averaged, golden_flat = timbre.read_golden()
    np.testing.assert_array_equal(reference.rating, golden_reference.rating)
    np.testing.assert_allclose(averaged, golden_averaged, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(flat.distances, golden_flat.distances, rtol=1e-5)

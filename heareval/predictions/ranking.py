"""Retrieval: each query ranks the candidates of a gallery by their distance.

A tie is never a success by luck: of candidates at the same distance, every order counts as equally likely.
The reciprocal rank takes the mean rank of the tie instead.

Musgrave, Belongie, Lim: A metric learning reality check, ECCV 2020 (MAP@R).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma

from heareval.predictions.distances import BLOCK_BYTES, CPU, ClipEmbeddings, iterate_distances
from heareval.predictions.metrics.retrieval import RETRIEVAL_METRICS
from heareval.predictions.protocol import Distance
from heareval.spec import Progress, ignore_progress

# Number of distances that one thread ranks at a time.
RANKED_AT_ONCE = 1 << 20
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
# Returns, for the queries of a slice, a mask `(queries, gallery)`.
Mask = Callable[[slice], NDArray[np.bool_]]


@dataclass(frozen=True)
class RankedQueries:
    """How well each query finds what it should; all arrays are `(queries,)`.

    Args:
        candidates: number of items that the query ranks.
        relevant: number of right ones among them. Without any, values and chance are NaN.
        values: name of each of `RETRIEVAL_METRICS` -> values.
        chance: the values of a random order, on average.
        nearest_right: index of the nearest relevant item, -1 without any; of equally near ones, that whose
            name comes first.
        nearest_wrong: index of the nearest irrelevant candidate, -1 without any.
        distances_right, distances_wrong: their distances, infinite without any.
    """

    candidates: Indices
    relevant: Indices
    values: Mapping[str, Floats]
    chance: Mapping[str, Floats]
    nearest_right: Indices
    nearest_wrong: Indices
    distances_right: Floats
    distances_wrong: Floats


def rank_queries(
    queries: ClipEmbeddings,
    gallery: ClipEmbeddings,
    distance: Distance,
    is_candidate: Mask,
    is_relevant: Mask,
    *,
    device: torch.device = CPU,
    block_bytes: int = BLOCK_BYTES,
    progress: Progress = ignore_progress,
) -> RankedQueries:
    """Rank the gallery for each query.

    Args:
        is_candidate: which items each query ranks; never the query itself.
        is_relevant: which of these are right.
        device: what computes the distances.
        block_bytes, progress: see `iterate_distances`.

    >>> clips = ClipEmbeddings(np.array([[0.0], [1.0], [3.0]]), np.arange(3), ("a.wav", "b.wav", "c.wav"))
    >>> others, labels = ~np.eye(3, dtype=bool), np.array(["x", "y", "x"])
    >>> same = labels[:, None] == labels
    >>> rank_queries(clips, clips, "l1", lambda rows: others[rows], lambda rows: same[rows]).values["mrr"]
    array([0.5, nan, 0.5])
    """
    by_name = np.argsort(np.argsort(np.array(gallery.names)))
    parts: list[RankedQueries] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block in iterate_distances(
            queries, gallery, distance, device=device, block_bytes=block_bytes, progress=progress
        ):
            rows_at_once = max(1, RANKED_AT_ONCE // max(1, len(gallery)))

            def rank(start: int, block: Any = block, rows_at_once: int = rows_at_once) -> RankedQueries:
                part = block.distances[start : start + rows_at_once]
                rows = slice(block.first_query + start, block.first_query + start + len(part))
                candidates = is_candidate(rows)
                return rank_block(part, candidates, candidates & is_relevant(rows), by_name)

            parts += pool.map(rank, range(0, len(block.distances), rows_at_once))
    return _join(parts)


def rank_block(
    distances: Floats,
    is_candidate: NDArray[np.bool_],
    is_relevant: NDArray[np.bool_],
    by_name: NDArray[Any],
) -> RankedQueries:
    """Rank the candidates of some queries.

    Args:
        distances: `(queries, items)`.
        is_candidate: `(queries, items)`.
        is_relevant: `(queries, items)`; only candidates are.
        by_name: the place of each item in the order of the names, `(items,)`.
    """
    is_wrong = is_candidate & ~is_relevant
    candidates, relevant = (mask.sum(axis=1, dtype=np.int64) for mask in (is_candidate, is_relevant))
    nearest_right, distances_right = _find_nearest(distances, is_relevant, by_name)
    nearest_wrong, distances_wrong = _find_nearest(distances, is_wrong, by_name)
    closer = np.count_nonzero(is_wrong & (distances < distances_right[:, None]), axis=1)
    at_right = distances == distances_right[:, None]
    tied = np.count_nonzero(is_wrong & at_right, axis=1)
    tied_right = np.count_nonzero(is_relevant & at_right, axis=1)
    values = {
        "mrr": 1 / (1 + closer + tied / 2),
        "recall_at_1": expected_recall(1, closer, tied, tied_right),
        "recall_at_10": expected_recall(10, closer, tied, tied_right),
        "map_at_r": _map_at_r(distances, is_candidate, is_relevant, relevant),
        # The nearest right item is among the nearest candidates unless a wrong one is closer.
        "precision_at_1": np.where(closer == 0, tied_right / np.maximum(tied + tied_right, 1), 0.0),
    }
    chance = chance_of_queries(candidates, relevant)
    return RankedQueries(
        candidates,
        relevant,
        {name: np.where(relevant > 0, values[name], np.nan) for name in RETRIEVAL_METRICS},
        chance,
        nearest_right,
        nearest_wrong,
        distances_right,
        distances_wrong,
    )


def expected_recall(k: int, closer: NDArray[Any], tied: NDArray[Any], tied_right: NDArray[Any]) -> Floats:
    """Return the probability that at least one relevant item is among the first k, `(queries,)`.

    The places that are left for the tie are filled from it at random, without putting back: all of them
    are wrong in C(wrong, places) of C(all, places) cases.

    Args:
        closer: number of wrong candidates closer than the nearest right one, `(queries,)`.
        tied: number of wrong candidates at its distance.
        tied_right: number of right ones at its distance, with itself.

    >>> expected_recall(1, np.array([0, 0, 1]), np.array([0, 3, 0]), np.array([1, 1, 1])).tolist()
    [1.0, 0.25, 0.0]
    """
    all_wrong = np.ones(len(closer))
    for place in range(k):
        share = np.maximum(tied - place, 0) / np.maximum(tied + tied_right - place, 1)
        all_wrong = np.where(closer + place < k, all_wrong * share, all_wrong)
    return 1 - all_wrong


def chance_of_queries(candidates: NDArray[Any], relevant: NDArray[Any]) -> Mapping[str, Floats]:
    """Return the mean of each of `RETRIEVAL_METRICS` over all orders of the candidates, `(queries,)` each.

    Of N candidates, R are relevant. The first of these has rank x in C(N - x, R - 1) of C(N, R) orders, so
    its reciprocal is R / (N - R + 1) (H(N) - H(R - 1)) on average, with harmonic numbers H.

    >>> chance_of_queries(np.array([2]), np.array([1]))["mrr"].round(6).tolist()
    [0.75]
    """
    n, r = candidates.astype(np.float64), np.maximum(relevant, 1).astype(np.float64)
    wrong, none = candidates - relevant, np.zeros_like(candidates)
    chance = {
        "mrr": r / (n - r + 1) * (digamma(n + 1) - digamma(r)),
        "recall_at_1": expected_recall(1, none, wrong, relevant),
        "recall_at_10": expected_recall(10, none, wrong, relevant),
        "map_at_r": _random_map_at_r(candidates, relevant),
        "precision_at_1": relevant / np.maximum(candidates, 1),
    }
    return {name: np.where(relevant > 0, values, np.nan) for name, values in chance.items()}


def _random_map_at_r(candidates: NDArray[Any], relevant: NDArray[Any]) -> Floats:
    expected = np.empty(len(candidates))
    # Most queries share their numbers with others.
    for n, r in set(zip(candidates.tolist(), relevant.tolist(), strict=True)):
        # One query whose candidates are all tied.
        tie = np.zeros((1, n))
        is_relevant = np.arange(n)[None] < r
        of_one = _map_at_r(tie, np.ones((1, n), dtype=bool), is_relevant, np.array([r]))[0] if r else np.nan
        expected[(candidates == n) & (relevant == r)] = of_one
    return expected


def _find_nearest(
    distances: Floats, mask: NDArray[np.bool_], by_name: NDArray[Any]
) -> tuple[Indices, Floats]:
    """Return for each query the nearest of the marked items and its distance, -1 and infinity without any."""
    if distances.shape[1] == 0:
        return np.full(len(distances), -1), np.full(len(distances), np.inf)
    masked = np.where(mask, distances, np.inf)
    nearest = masked.min(axis=1)
    places = np.where(mask & (masked == nearest[:, None]), by_name, len(by_name))
    return np.where(mask.any(axis=1), places.argmin(axis=1), -1), nearest


def _map_at_r(
    distances: Floats, is_candidate: NDArray[np.bool_], is_relevant: NDArray[np.bool_], relevant: NDArray[Any]
) -> Floats:
    """Return MAP@R of each query, `(queries,)`, on average over the orders of equal distances.

    A tie of m items, r of them relevant, follows s closer items, c of them relevant. Its item t is relevant
    in r of m cases. In these, (t - 1)(r - 1) / (m - 1) of the earlier items of the tie are relevant as well.
    """
    most = int(relevant.max(initial=0))
    if most == 0:
        return np.zeros(len(distances))
    masked = np.where(is_candidate, distances, np.inf)
    # Only the first R ranks count, in any order of ties: a tie that goes on behind them is counted apart.
    first = np.argpartition(masked, most - 1, axis=1)[:, :most]
    order = np.argsort(np.take_along_axis(masked, first, axis=1), axis=1)
    first = np.take_along_axis(first, order, axis=1)
    ranked = np.take_along_axis(masked, first, axis=1)
    hits = np.take_along_axis(is_relevant, first, axis=1)
    place = np.arange(most)
    starts = np.ones(ranked.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    s = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    ends = np.ones(ranked.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    last = np.minimum.accumulate(np.where(ends, place, most)[:, ::-1], axis=1)[:, ::-1]
    found = hits.cumsum(axis=1)
    c = np.take_along_axis(found - hits, s, axis=1)
    m = last - s + 1
    r = np.take_along_axis(found, last, axis=1) - c
    at_end = masked == ranked[:, -1:]
    is_last = last == most - 1
    m = np.where(is_last, np.count_nonzero(at_end & is_candidate, axis=1)[:, None], m)
    r = np.where(is_last, np.count_nonzero(at_end & is_relevant, axis=1)[:, None], r)
    before = c + 1 + (place - s) * (r - 1) / np.maximum(m - 1, 1)
    gains = np.where(place < relevant[:, None], r / np.maximum(m, 1) * before / (place + 1), 0.0)
    # Added one after the other: the sum doesn't depend on how many places the other queries need.
    return np.asarray(gains.cumsum(axis=1)[:, -1] / np.maximum(relevant, 1))


def _join(parts: list[RankedQueries]) -> RankedQueries:
    """Return the queries of all parts, one part after the other."""

    def join(read: Callable[[RankedQueries], NDArray[Any]], dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(read(part) for part in parts)])

    return RankedQueries(
        join(lambda part: part.candidates, np.int64),
        join(lambda part: part.relevant, np.int64),
        {name: join(lambda part, name=name: part.values[name], np.float64) for name in RETRIEVAL_METRICS},  # type: ignore[misc]
        {name: join(lambda part, name=name: part.chance[name], np.float64) for name in RETRIEVAL_METRICS},  # type: ignore[misc]
        join(lambda part: part.nearest_right, np.int64),
        join(lambda part: part.nearest_wrong, np.int64),
        join(lambda part: part.distances_right, np.float64),
        join(lambda part: part.distances_wrong, np.float64),
    )

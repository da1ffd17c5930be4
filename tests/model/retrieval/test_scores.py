"""Scores against the mean over every order of rows at equal distances."""

from itertools import permutations, product

import numpy as np
import pytest

from model.retrieval.places import Places, Targets, place, same_class
from model.retrieval.scores import average_precision, hits, mean_interval, precision, precision_within, recall
from model.retrieval.search import nearest


def orders(distances):
    """Yield every order of the rows that is sorted by distance."""
    groups = [np.flatnonzero(distances == distance) for distance in np.unique(distances)]
    for parts in product(*(permutations(group) for group in groups)):
        yield [row for part in parts for row in part]


def places_of(distances, relevant):
    """Return the targets and places of one query, by counting."""
    rows = np.flatnonzero(relevant)
    limits = distances[rows]
    nearer, tied = ((op(distances[None], limits[:, None])).sum(axis=1) for op in (np.less, np.equal))
    return Targets(np.zeros(len(rows), np.int64), rows, 1), Places(limits, nearer, tied)


def ap(order, relevant):
    found = np.array(relevant)[list(order)]
    ranks = np.flatnonzero(found) + 1
    return (np.arange(1, len(ranks) + 1) / ranks).sum() / len(ranks)


CASES = [
    ([0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 0, 1]),
    ([0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 1, 0]),
    ([3, 3, 1, 1, 1, 7, 7], [1, 0, 0, 0, 1, 1, 1]),
    ([0, 1, 2, 3], [0, 1, 0, 1]),
    ([5, 5, 5, 5], [1, 1, 1, 1]),
    ([2, 2, 1], [1, 0, 0]),
]


@pytest.mark.parametrize(("distances", "relevant"), CASES)
def test_scores_are_means_over_all_orders(distances, relevant):
    distances, relevant = np.array(distances, float), np.array(relevant, bool)
    targets, places = places_of(distances, relevant)
    all_orders = list(orders(distances))
    expected = np.mean([ap(order, relevant) for order in all_orders])
    assert average_precision(targets, places)[0] == pytest.approx(expected, rel=1e-12)
    for k in range(1, len(distances) + 1):
        found = np.mean([relevant[order[:k]].sum() for order in all_orders])
        assert hits(targets, places, k)[0] == pytest.approx(found, rel=1e-12)
        assert precision(targets, places, k)[0] == pytest.approx(found / k, rel=1e-12)
        assert recall(targets, places, k)[0] == pytest.approx(found / relevant.sum(), rel=1e-12)


def test_random_cases_with_many_ties_are_means_over_all_orders():
    generator = np.random.default_rng(0)
    for _ in range(60):
        distances, relevant = generator.integers(0, 3, 7).astype(float), generator.random(7) < 0.4
        if relevant.any():
            expected = np.mean([ap(order, relevant) for order in orders(distances)])
            assert average_precision(*places_of(distances, relevant))[0] == pytest.approx(expected, rel=1e-12)


def test_many_rows_without_ties_are_the_usual_average_precision():
    generator = np.random.default_rng(0)
    distances, relevant = generator.permutation(5000).astype(float), generator.random(5000) < 0.02
    expected = ap(np.argsort(distances), relevant)
    assert average_precision(*places_of(distances, relevant))[0] == pytest.approx(expected, rel=1e-12)


def test_queries_are_scored_each_by_its_own_targets():
    """The second of three queries has none."""
    one, places = places_of(np.array([0.0, 1, 1, 2]), np.array([0, 1, 0, 1], bool))
    targets = Targets(np.array([0, 0, 2, 2]), np.concatenate((one.rows, one.rows)), 3)
    twice = Places(*(np.concatenate((part, part)) for part in places))
    single = average_precision(one, places)[0]
    assert average_precision(targets, twice).tolist() == [single, 0, single]
    assert recall(targets, twice, 2).tolist() == [0.25, 0, 0.25]
    assert average_precision(Targets(one.rows[:0], one.rows[:0], 2), Places(*(part[:0] for part in places))).tolist() == [0, 0]


def test_without_rows_within_the_radius_the_precision_is_zero():
    targets = Targets(np.array([0, 0, 1]), np.array([0, 1, 0]), 2)
    places = Places(np.array([1.0, 3, 3]), np.zeros(3, np.int64), np.ones(3, np.int64))
    assert precision_within(targets, places, 2, np.array([4, 0])).tolist() == [0.25, 0]


def test_a_database_sorted_by_class_has_the_scores_of_a_shuffled_one(store):
    """With features of few values most distances are tied."""
    generator = np.random.default_rng(0)
    values, queries = (generator.integers(0, 2, (num, 4)).astype(np.float32) for num in (120, 20))
    wnids, query_wnids = (np.sort(generator.choice(["n1", "n2", "n3"], num)) for num in (120, 20))
    keys = np.array([f"key-{number:03d}" for number in generator.permutation(120)])
    scores = []
    for order in (np.arange(120), generator.permutation(120)):
        database = store(values[order], [50, 70], keys=keys[order].tolist(), wnids=wnids[order].tolist())
        targets = same_class(query_wnids.tolist(), database.wnids.to_pylist())
        places = place(queries, database, targets)
        found = nearest(queries, database, 6)
        scores.append(
            [average_precision(targets, places), hits(targets, places, 6), database.keys.take(found.rows.ravel()).to_pylist()]
        )
    assert np.array_equal(scores[0][0], scores[1][0])
    assert np.array_equal(scores[0][1], scores[1][1])
    assert scores[0][2] == scores[1][2]


def test_an_interval_covers_the_mean_and_narrows_with_more_queries():
    generator = np.random.default_rng(0)
    few, many = (generator.random(num) for num in (50, 5000))
    for scores in (few, many):
        low, high = mean_interval(scores)
        assert low < scores.mean() < high
        assert high - low == pytest.approx(2 * 1.96 * scores.std() / np.sqrt(len(scores)), rel=0.1)
    assert mean_interval(few) == mean_interval(few)
    assert mean_interval(np.full(10, 0.25)) == (0.25, 0.25)

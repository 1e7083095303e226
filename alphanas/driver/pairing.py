"""How much more accurate than the seed the finalists are, when each is known from a few noisy trainings only.

Accuracies of models i in training seeds j, each seed with its own pictures for all, are taken as

    accuracy_ij = seed_j - slope · ln(seed's parameters / parameters_i) + own_i + noise_ij

a line in the logarithm of size, about which models lie with deviation `tau`, and noise with deviation `sigma`: a linear mixed
model (Laird and Ware, 1982). What is estimated is every model's difference to the seed *given all of them*: a difference that rests
on few trainings is drawn towards the line, the seed's own luck too. Choosing by such posterior means needs no correction for having
chosen; plain means do: the best of several noisy ones is the luckiest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

SLOPE = 0.02
"""Prior deviation of the slope: accuracy lost by e times fewer parameters. Wide; and a slope below 0 is taken as 0."""
BINOMIAL = 4
"""So many trainings' worth of evidence is the noise that the number of pictures alone implies."""
SCATTER = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0)
"""What `tau` may be, in units of `sigma`; weighed by their likelihoods."""


@dataclass(frozen=True)
class Trained:
    """A model, its parameters, and its accuracy on the validation part in each of its training seeds."""

    id: int
    params: int
    accuracies: Mapping[str, float]


@dataclass(frozen=True)
class Estimate:
    """A model's accuracy less the seed model's: mean and standard deviation of what is believed of it."""

    mean: float
    deviation: float

    def chance(self, at_least: float) -> float:
        """The probability that the difference is at least so large."""
        if self.deviation == 0:
            return float(self.mean >= at_least)
        return 0.5 * (1 + math.erf((self.mean - at_least) / self.deviation / math.sqrt(2)))


def estimates(seed: Trained, others: Sequence[Trained], *, pictures: int) -> dict[int, Estimate]:
    """The difference of each model to the seed, by id; those that share no training seed with it are left out.

    `pictures`: the size of one validation part.
    """
    known = [one for one in others if set(one.accuracies) & set(seed.accuracies)]
    models = [seed, *known]
    if not known:
        return {}
    names = sorted(seed.accuracies)
    cells = [
        (i, names.index(name), value) for i, one in enumerate(models) for name, value in one.accuracies.items() if name in names
    ]
    model, fold = (np.array([cell[place] for cell in cells]) for place in (0, 1))
    seen = np.array([cell[2] for cell in cells], dtype=float)
    sigma = _noise(model, fold, seen, wrong=1 - float(seen[model == 0].mean()), pictures=pictures)
    size = np.array([math.log(max(seed.params, 1) / max(one.params, 1)) for one in models])
    mean, deviation, slope = _posterior(model, fold, seen, size, sigma, SLOPE)
    if slope < 0:
        mean, deviation, _ = _posterior(model, fold, seen, size, sigma, 0.0)
    return {one.id: Estimate(float(mean[i]), float(deviation[i])) for i, one in enumerate(models) if i > 0}


def _noise(model: Array, fold: Array, seen: Array, *, wrong: float, pictures: int) -> float:
    """`sigma`: what is left of the accuracies without models' and seeds' own means, together with the binomial's.

    The rule of Agresti and Coull (1998), two pictures more wrong and two more right, keeps a perfect score from being certain.
    """
    share = (max(wrong, 0.0) * pictures + 2) / (pictures + 4)
    binomial = share * (1 - share) / pictures
    columns = np.zeros((len(seen), int(model.max()) + int(fold.max()) + 2))
    columns[np.arange(len(seen)), model] = 1
    columns[np.arange(len(seen)), int(model.max()) + 1 + fold] = 1
    left = seen - columns @ np.linalg.lstsq(columns, seen, rcond=None)[0]
    freedom = len(seen) - int(np.linalg.matrix_rank(columns))
    return float(np.sqrt((BINOMIAL * binomial + left @ left) / (BINOMIAL + freedom)))


def _posterior(model: Array, fold: Array, seen: Array, size: Array, sigma: float, slope: float) -> tuple[Array, Array, float]:
    """(means, deviations of the differences to model 0, the slope's mean), over all that `tau` may be."""
    models, folds, sloped = len(size), int(fold.max()) + 1, int(slope > 0)
    design = np.zeros((len(seen), folds + sloped + models))
    design[np.arange(len(seen)), fold] = 1
    design[np.arange(len(seen)), folds + sloped + model] = 1
    difference = np.zeros((models, design.shape[1]))
    difference[np.arange(models), folds + sloped + np.arange(models)] = 1
    difference[:, folds + sloped] -= 1
    difference[0] = 0
    if sloped:
        design[:, folds] = -size[model]
        difference[:, folds] = -size
    weights, means, variances, slopes = [], [], [], []
    for scatter in SCATTER:
        own = np.full(models, 1 / (max(scatter, 1e-3) * sigma) ** 2)
        prior = np.concatenate([np.zeros(folds), np.full(sloped, 1 / max(slope, 1e-9) ** 2), own])
        precision = design.T @ design / sigma**2 + np.diag(prior)
        found = np.linalg.solve(precision, design.T @ seen / sigma**2)
        likelihood = found @ precision @ found - 2 * np.log(np.diag(np.linalg.cholesky(precision))).sum()
        weights.append(0.5 * (likelihood + np.log(prior[folds:]).sum()))
        means.append(difference @ found)
        variances.append(np.einsum("ij,jk,ik->i", difference, np.linalg.inv(precision), difference))
        slopes.append(found[folds] if sloped else 0.0)
    share = np.exp(np.array(weights) - max(weights))
    share /= share.sum()
    mean = share @ np.array(means)
    spread = share @ (np.array(variances) + (np.array(means) - mean) ** 2)
    return mean, np.sqrt(np.maximum(spread, 0)), float(share @ np.array(slopes))

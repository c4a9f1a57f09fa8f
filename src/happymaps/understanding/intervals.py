"""How sure a mean is."""

import numpy as np
from scipy.stats import bootstrap
from torch import Tensor

# Of fewer values a bootstrap's interval is too narrow: of six shares drawn from skewed
# distributions (beta 2, 5 and 0.4, 1.6) it held the mean in 86 and 82 %, of twelve in 90 and 89 %.
FEWEST = 12


def mean_interval(values: Tensor, *, seed: int) -> tuple[float, float, float]:
    """The mean of shares, and the interval that holds it with 95 % confidence.

    The interval is the percentile bootstrap's (Efron 1979). Fewer than twelve values do not show
    how far they scatter: their interval is all that a share can be. Of about a dozen skewed values
    it holds the mean in 90 % only.

    Args:
        values: (N,) in [0, 1], at least one.
        seed: of the resampling.

    Returns:
        Mean, lower end, upper end.

    Raises:
        ValueError: when there is no value.
    """
    if len(values) == 0:
        raise ValueError("no value has no mean")
    sample = values.double().cpu().numpy()
    mean = float(sample.mean())
    if len(sample) < FEWEST:
        return mean, 0.0, 1.0
    generator = np.random.default_rng(seed)
    found = bootstrap((sample,), np.mean, method="percentile", random_state=generator)
    return mean, float(found.confidence_interval.low), float(found.confidence_interval.high)

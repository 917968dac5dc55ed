"""Which setting is tried next: all of a grid, draws at random, or what Optuna proposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from sparseml.search import space as spaces
from sparseml.search.space import Choices, Point, SearchError, Space
from sparseml.search.trials import PRUNED, Trial, evaluations_of

METHODS: Final = ("grid", "random", "optuna")

# Successive halving: of the trials at a quarter of their training the best third goes on, and again at three quarters.
_FIRST_RUNG, _REDUCTION = 25, 3


class Strategy(Protocol):
    """Proposes settings, and learns how they did. All state is in the trials: another process goes on with them."""

    def propose(self, number: int) -> Point | None:
        """The setting of a new trial; None where there are no more."""

    def resume(self, trial: Trial) -> None:
        """A trial that was begun before is about to go on."""

    def hopeless(self, share: float, value: float) -> bool:
        """Whether the running trial may end, by its metric after a share of its training."""

    def learn(self, trial: Trial, value: float | None) -> None:
        """The running trial is over."""


class Listed:
    """Settings that depend on the trial's number alone."""

    def __init__(self, space: Space, method: str, seed: int) -> None:
        self._space, self._seed = space, seed
        self._grid = list(spaces.grid(space)) if method == "grid" else None

    def propose(self, number: int) -> Point | None:
        if self._grid is None:
            return spaces.drawn(self._space, self._seed, number)
        return self._grid[number] if number < len(self._grid) else None

    def resume(self, trial: Trial) -> None:
        return None

    def hopeless(self, share: float, value: float) -> bool:
        return False

    def learn(self, trial: Trial, value: float | None) -> None:
        return None


class Optuna:
    """Settings by Optuna's tree-structured Parzen estimator; bad trials are ended by successive halving.

    Bergstra et al. 2011, Algorithms for Hyper-Parameter Optimization; Li et al. 2018, arXiv:1810.05934 (ASHA). The
    resource is the share of the training that is done, in percent: trials of other lengths are compared at the same
    point of their schedules.

    Args:
        seed: of the sampler.
        maximizes: whether a higher metric is better.
        metric: by which trials are compared.
        before: trials that are over, which it learns from.

    Raises:
        SearchError: Optuna is not installed.
    """

    def __init__(
        self, space: Space, seed: int, maximizes: bool, metric: str, before: Sequence[Trial]
    ) -> None:
        try:
            import optuna
        except ModuleNotFoundError as error:
            raise SearchError(
                "--method optuna needs the package 'optuna', which is not installed: pip install 'resparse[search]'."
            ) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._metric = optuna, metric
        self._spread = {parameter.name: self._distribution(parameter) for parameter in space}
        self._study = optuna.create_study(
            direction="maximize" if maximizes else "minimize",
            # Another seed for every start: a resumed search must not propose its first settings again.
            sampler=optuna.samplers.TPESampler(seed=seed + 1_000_003 * len(before)),
            pruner=optuna.pruners.SuccessiveHalvingPruner(
                min_resource=_FIRST_RUNG, reduction_factor=_REDUCTION
            ),
        )
        self._running: Any = None
        for trial in before:
            self._replay(trial)

    def propose(self, number: int) -> Point | None:
        self._running = self._study.ask(self._spread)
        return dict(self._running.params)

    def resume(self, trial: Trial) -> None:
        self._study.enqueue_trial(trial.point)
        self._running = self._study.ask(self._spread)

    def hopeless(self, share: float, value: float) -> bool:
        self._running.report(value, round(100 * share))
        # The end of a training costs nothing more.
        return share < 1 and bool(self._running.should_prune())

    def learn(self, trial: Trial, value: float | None) -> None:
        states = self._optuna.trial.TrialState
        if trial.outcome is not None and trial.outcome.state == PRUNED:
            self._study.tell(self._running, state=states.PRUNED)
        elif value is None:
            self._study.tell(self._running, state=states.FAIL)
        else:
            self._study.tell(self._running, value)

    def _replay(self, trial: Trial) -> None:
        """Tell Optuna of a trial as it was told when the trial ran, so that the pruner knows it, too."""
        self.resume(trial)
        for entry in evaluations_of(trial):
            if self._metric in entry["metrics"]:
                self.hopeless(entry["share"], entry["metrics"][self._metric])
        self.learn(trial, trial.value(self._metric))

    def _distribution(self, parameter: spaces.Parameter) -> Any:
        kinds = self._optuna.distributions
        if isinstance(parameter, Choices):
            return kinds.CategoricalDistribution(parameter.values)
        if parameter.integer:
            return kinds.IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
        return kinds.FloatDistribution(parameter.low, parameter.high, log=parameter.log)

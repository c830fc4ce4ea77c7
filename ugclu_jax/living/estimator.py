"""A classifier in the style of scikit-learn that can also forget: `fit`, `partial_fit`, `unfit`, `predict`.

The same requests as a model's folder, in memory: no ledger, no certificate. `fit` trains from scratch, `partial_fit`
learns by a method of the library, `unfit` unlearns examples by their ids.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from ugclu_jax.extras import installed_by
from ugclu_jax.living import serving
from ugclu_jax.living.held import Held, fresh_buffers, inserted, removed
from ugclu_jax.living.network import Described, check_settings, grown

with installed_by("run"):
    from scipy.special import softmax
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import check_is_fitted, validate_data


class LivingClassifier(ClassifierMixin, BaseEstimator):
    """A network that is fitted, learns on, and unfits what it is asked to.

    Args:
        model: name of the network, see `models.create`.
        settings: see `network.SETTINGS`; None = the defaults.
        method: that learns and unlearns.
        random_state: seed of everything that is drawn.

    Attributes:
        classes_: labels in the order of the outputs.
        n_features_in_: numbers of an input.
        ids_: of all examples that are retained.

    >>> inputs = np.repeat(np.eye(2), 20, axis=0)
    >>> labels = np.repeat(["a", "b"], 20)
    >>> made = LivingClassifier(settings={"oracle": {"epochs": 20, "learning_rate": 0.1}}).fit(inputs, labels)
    >>> made.predict(np.eye(2)).tolist(), made.ids_[:3].tolist()
    (['a', 'b'], [0, 1, 2])
    """

    def __init__(
        self,
        model: str = "mlp",
        settings: dict[str, Any] | None = None,
        method: str = "ug_clu",
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.settings = settings
        self.method = method
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike, ids: Sequence[int] | None = None) -> "LivingClassifier":
        """Train from scratch.

        Args:
            X: [N, D] finite numbers.
            y: [N] labels, of two classes or more.
            ids: [N] different integers of 0 or more, by which examples are unfitted; None = 0 … N−1.

        Raises:
            ValueError: inputs, labels or ids that are none, or one class alone.
        """
        inputs, labels = self._checked(X, y, reset=True)
        self.classes_ = unique_labels(labels)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}: a classifier needs two classes or more")
        given = {"model": self.model, **(self.settings or {})}
        check_settings(given)
        deviation = inputs.std(0)
        self._described = Described(
            classes=tuple(map(str, range(len(self.classes_)))),
            inputs="arrays",
            shape=(inputs.shape[1],),
            dtype="float32",
            scale=1.0,
            mean=tuple(inputs.mean(0).tolist()),
            std=tuple(np.where(deviation > 0, deviation, 1.0).tolist()),
            settings=given,
            held_out=1,
            seed=int(self.random_state),
        )
        self._requests = 0
        self._kept: dict[int, tuple[np.ndarray, int]] = {}
        new = self._new_ids(ids, len(labels))
        key, buffer_key = jax.random.split(jax.random.key(self._described.seed))
        task = serving.examples(inputs, self._numbers(labels), self._described)
        buffers = fresh_buffers(self._described, buffer_key)
        ((params, state),), _ = serving.trained(key[None], self._described, task, "", None)
        self._held = Held(self._described, params, state, inserted(buffers[0], task, new), buffers[1])
        self._remember(new, inputs, labels)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        ids: Sequence[int] | None = None,
    ) -> "LivingClassifier":
        """Learn further examples, of new classes too; the first call fits.

        Args:
            X, y: as for `fit`.
            classes: labels that may come; those in `y` suffice.
            ids: as for `fit`; None = from the largest id so far on.

        Raises:
            ValueError: as `fit`, or ids that are there already.
        """
        if not hasattr(self, "_held"):
            return self.fit(X, y, ids)
        inputs, labels = self._checked(X, y, reset=False)
        new = self._new_ids(ids, len(labels))
        known = labels if classes is None else np.concatenate([labels, np.asarray(classes)])
        more = [label for label in unique_labels(known).tolist() if label not in self.classes_.tolist()]
        if more:
            self.classes_ = np.concatenate([self.classes_, np.array(more, self.classes_.dtype)])
            names = tuple(map(str, range(len(self.classes_))))
            wider = dataclasses.replace(self._described, classes=names)
            params = grown(self._described, self._held.params, wider, self._key())
            self._described, self._held = wider, self._held._replace(described=wider, params=params)
        task = serving.examples(inputs, self._numbers(labels), self._described)
        outcome = serving.serve(self._key(), self._held, self.method, "learn", task, new, np.zeros(0, np.int64))
        self._held = outcome.held
        self._remember(new, inputs, labels)
        return self

    def unfit(self, ids: Sequence[int]) -> "LivingClassifier":
        """Unlearn examples; nothing of them is kept.

        Args:
            ids: of retained examples.

        Raises:
            ValueError: an id that is not retained, or nothing that would be.
        """
        check_is_fitted(self, "classes_")
        wanted = list(dict.fromkeys(int(each) for each in ids))
        missing = [each for each in wanted if each not in self._kept]
        if not wanted:
            raise ValueError("ids are none: give some of ids_")
        if missing:
            raise ValueError(f"ids {missing[:5]} are not retained: give some of ids_")
        if len(wanted) == len(self._kept):
            raise ValueError("nothing would be retained: make a new estimator instead")
        rows = [self._kept[each] for each in wanted]
        task = serving.examples([row for row, _ in rows], [label for _, label in rows], self._described)
        numbers = np.array(wanted)
        if int(removed(self._held.buffer, numbers).count) == 0:
            raise ValueError("the buffer would be empty: give it more capacity, or fit anew on what remains")
        outcome = serving.serve(self._key(), self._held, self.method, "unlearn", task, numbers, numbers)
        self._held = outcome.held
        for each in wanted:
            del self._kept[each]
        return self

    @property
    def ids_(self) -> np.ndarray:
        """Of all examples that are retained."""
        check_is_fitted(self, "classes_")
        return np.array(list(self._kept), np.int64)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """The likeliest label of each input."""
        shares = self.predict_proba(X)  # which refuses what was not fitted
        return self.classes_[shares.argmax(1)]

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probabilities, [N, classes]."""
        check_is_fitted(self, "classes_")
        inputs = np.asarray(validate_data(self, X, reset=False, dtype=np.float64), np.float32)
        shares: np.ndarray = softmax(self._held.logits(inputs).astype(np.float64), axis=1)
        return shares

    def _checked(self, inputs: ArrayLike, labels: ArrayLike, reset: bool) -> tuple[np.ndarray, np.ndarray]:
        found, targets = validate_data(self, inputs, labels, reset=reset, dtype=np.float64)
        check_classification_targets(targets)
        return np.asarray(found, np.float32), np.asarray(targets)

    def _numbers(self, labels: np.ndarray) -> list[int]:
        place = {label: number for number, label in enumerate(self.classes_.tolist())}
        return [place[label] for label in labels.tolist()]

    def _new_ids(self, ids: Sequence[int] | None, number: int) -> np.ndarray:
        if ids is None:
            first = max(self._kept, default=-1) + 1
            return np.arange(first, first + number)
        found = np.asarray(ids)
        if found.shape != (number,) or found.dtype.kind not in "iu" or found.min(initial=0) < 0:
            raise ValueError(f"ids must be {number} integers of 0 or more, one an example")
        if len(set(found.tolist())) < number or set(found.tolist()) & set(self._kept):
            raise ValueError("ids must be different, and none may be retained already")
        return found.astype(np.int64)

    def _remember(self, ids: np.ndarray, inputs: np.ndarray, labels: np.ndarray) -> None:
        self._kept.update(zip(ids.tolist(), zip(inputs, self._numbers(labels), strict=True), strict=True))

    def _key(self) -> jax.Array:
        self._requests += 1
        return jax.random.fold_in(jax.random.key(self._described.seed), self._requests)

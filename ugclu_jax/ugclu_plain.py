"""UG-CLU as the paper has it: fast steps of a rate, inner steps of gradient descent, no budget.

Where the default `ug_clu` departs from it, and why:

    paper                                       default
    fast step `β_Q · m ⊙ g_Q` (its eq. of the   the step that moves the outputs on the task by δ nats: β_Q that neither
    fast weights), β_Q searched for each task   diverges nor forgets too little differ 800-fold between kinds of request
    inner steps of gradient descent, `β_R`      of Adam: the curvature of what is new is not that of the buffer, and no
                                                rate is stable in both
    mask of weights by saliency                 none: the budget holds the step, and the mask made learning worse
    coefficients by the loss, λ                 λ = 0: a budget leaves no scale to adapt
    no decay                                    a share 1 − ρ of each weight a request

Both are `ugclu`'s one update under other settings, so each departure can be undone alone.
"""

import dataclasses

from ugclu_jax.types import ApplyFn, Method
from ugclu_jax.ugclu import ug_clu
from ugclu_jax.ugclu_settings import UGCLUHyper, UGCLUSettings

PLAIN = UGCLUSettings(
    outer_steps=100,
    inner_steps=2,
    fast_step="rate",
    preconditioner="sgd",
    inner_schedule="outer",
    mask="hard",
)
"""Static settings of the paper's form, of both kinds of request."""
PLAIN_HYPER = UGCLUHyper(
    fast_learning_rate=0.03,
    remain_learning_rate=0.15,
    kept_share=1.0,
    loss_exponent=0.5,
    clip_norm=1.0,
    distillation_weight=0.5,
)
"""Its continuous settings."""


def ug_clu_plain(
    apply_fn: ApplyFn,
    learn_settings: UGCLUSettings = PLAIN,
    unlearn_settings: UGCLUSettings = PLAIN,
    *,
    num_classes: int,
) -> Method:
    """The method; arguments as in `ug_clu`.

    Raises:
        ValueError: settings that are not of this form, and what `ug_clu` refuses.

    >>> ug_clu_plain(lambda *a, **k: None, num_classes=2).hyper["unlearn"].remain_learning_rate
    0.15
    >>> ug_clu_plain(lambda *a, **k: None, UGCLUSettings(), num_classes=2)
    Traceback (most recent call last):
        ...
    ValueError: fast_step of ug_clu_plain must be 'rate', got 'budget': use ug_clu

    References: arXiv 2505.15178.
    """
    for settings in (learn_settings, unlearn_settings):
        for name, own in (("fast_step", "rate"), ("preconditioner", "sgd")):
            if getattr(settings, name) != own:
                raise ValueError(f"{name} of ug_clu_plain must be {own!r}, got {getattr(settings, name)!r}: use ug_clu")
    method = ug_clu(apply_fn, learn_settings, unlearn_settings, num_classes=num_classes)
    return method._replace(name="ug_clu_plain", hyper={kind: dataclasses.replace(PLAIN_HYPER) for kind in method.kinds})

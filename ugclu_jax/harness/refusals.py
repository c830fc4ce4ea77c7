"""What a configuration asks for that cannot be, or would change nothing: told before any data are read."""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from ugclu_jax import devices, named
from ugclu_jax.data import DATASETS
from ugclu_jax.data.augment import AUGMENTATIONS
from ugclu_jax.data.checks import refuse_name
from ugclu_jax.harness.budget import check_methods, check_references
from ugclu_jax.harness.catalogue import LEARN_VARIANTS, VARIANTS, split_name
from ugclu_jax.harness.config import ExperimentConfig
from ugclu_jax.harness.options import NO_HOME
from ugclu_jax.models import MODELS
from ugclu_jax.types import RequestKind
from ugclu_jax.ugclu_settings import UGCLUSettings


def check_names(config: ExperimentConfig) -> None:
    """Refuse names that nothing has, and a device arrangement that is none.

    Raises:
        ValueError: naming the setting or the name.
    """
    if config.dataset not in DATASETS:
        refuse_name("dataset", config.dataset, DATASETS)
    if not named.is_name(config.model) and config.model not in MODELS:
        refuse_name("model", config.model, (*MODELS, "package.module:attribute of your own"))
    if config.augment not in AUGMENTATIONS:
        refuse_name("augmentation", config.augment, AUGMENTATIONS)
    check_methods(config.methods)
    check_references(config.references)
    if config.cache_dir == NO_HOME:
        raise ValueError(f"cache_dir is {NO_HOME} and this process has no home folder: give another folder")
    if config.devices != "all" and config.devices < 1:
        raise ValueError(f"devices must be at least 1 or all, got {config.devices}")
    if config.coordinator is not None and config.coordinator != "auto":
        port = re.fullmatch(r"[^\s:]+:([0-9]{1,5})|\[[0-9a-fA-F:.]+\]:([0-9]{1,5})", config.coordinator)
        if port is None or not 0 < int(port[1] or port[2]) < 65536:
            raise ValueError(f"coordinator must be HOST:PORT or auto, got {config.coordinator!r}")
        for name in ("num_processes", "process_id"):
            if getattr(config, name) is None:
                raise ValueError(f"{name} is missing: with a coordinator other than auto it must be given")
        if not 0 <= (config.process_id or 0) < (config.num_processes or 0):
            raise ValueError(f"process_id must be in 0 … {(config.num_processes or 0) - 1}, got {config.process_id}")
    config.data.refuse_unused(config.dataset, DATASETS[config.dataset].options)


def settled(met: bool) -> Callable[[ExperimentConfig], bool]:
    """A need of which it is known already whether it is met."""
    return lambda config: met


class Need(NamedTuple):
    """What an option needs to be read at all."""

    met: Callable[[ExperimentConfig], bool]
    otherwise: str  # said after the option


_BESIDE = "is not read beside --stream or --unlearn-…, which say what is unlearned: leave one out"


def _asks(config: ExperimentConfig) -> bool:
    """Whether the requests are the user's and not the experiment's own."""
    return bool(config.stream or config.unlearn_where or config.unlearn_ids or config.unlearn_classes)


_NEEDS: Mapping[str, Need] = {
    **dict.fromkeys(
        ("num_processes", "process_id"),
        Need(lambda config: config.coordinator not in (None, "auto"), "needs --coordinator HOST:PORT"),
    ),
    "validation_examples": Need(
        lambda config: config.evaluate_on == "validation", "needs --evaluate-on validation: nothing else is held out"
    ),
    "over": Need(
        lambda config: config.over == "batch" or config.devices != 1, "seeds needs --devices of 2 or more, or all"
    ),
    "seeds_at_once": Need(
        lambda config: config.devices == 1 or config.over == "seeds",
        "needs --over seeds: where devices share each batch, seeds are served one after another",
    ),
    **dict.fromkeys(("sequence", "fraction", "sample_seed"), Need(lambda config: not _asks(config), _BESIDE)),
    **dict.fromkeys(
        ("tasks", "parts", "regime"),
        Need(lambda config: config.stream is None, "is not read beside --stream: leave one out"),
    ),
}


def check_needs(config: ExperimentConfig, typed: Mapping[str, str]) -> None:
    """Refuse an option that was typed and would change nothing, because another one is missing.

    Args:
        config: as it will run.
        typed: by dotted key, the option as it was typed. What stands in a settings file may be for other runs.

    Raises:
        ValueError: naming the option and what it needs.

    >>> check_needs(ExperimentConfig(), {"num_processes": "--num-processes"})
    Traceback (most recent call last):
        ...
    ValueError: --num-processes needs --coordinator HOST:PORT
    """
    for key, option in typed.items():
        need = _NEEDS.get(key)
        part, _, name = key.partition(".")
        if part in ("learn", "unlearn"):
            need = _of_ug_clu(config, "learn" if part == "learn" else "unlearn", name)
        elif part == "data":
            of = DATASETS[config.dataset].options
            uses = f"it uses {', '.join(of)}" if of else "it uses none"
            need = Need(settled(name in of), f"is of no use to {config.dataset} ({uses})")
            if key == "data.vocabulary_size" and config.data.tokenizer is not None:
                need = Need(settled(False), "is not read beside --data.tokenizer, which has its own: leave one out")
        elif part == "model_options" and config.model in MODELS:
            has = MODELS[config.model].options
            need = Need(
                settled(name in has),
                f"is no option of {config.model}, which has {', '.join(sorted(has))}",
            )
        if need is not None and not need.met(config):
            raise ValueError(f"{option} {need.otherwise}")


def _of_ug_clu(config: ExperimentConfig, kind: RequestKind, name: str) -> Need | None:
    """What one of UG-CLU's settings needs; None where a variant may have changed it, or it is always read."""
    parts = {split_name(method)[kind == "unlearn"] for method in config.methods}
    variants = {*VARIANTS, *LEARN_VARIANTS} - {"ug_clu"}
    if parts & variants or not (name.startswith("hyper.") or "ug_clu" in parts):
        return None
    if "ug_clu" not in parts:  # its settings still give the budget; its hyperparameters give nothing
        return Need(settled(False), f"is UG-CLU's, and no method here does {kind} by ug_clu")
    settings = (config.learn if kind == "learn" else config.unlearn).settings
    why = unread(settings, kind, name)
    return None if why is None else Need(settled(False), why)


def unread(settings: UGCLUSettings, kind: RequestKind, name: str) -> str | None:
    """Why one of UG-CLU's settings changes nothing under the others; None: it is read.

    Args:
        settings: of the request.
        kind: of the request.
        name: `settings.…` or `hyper.…`.

    >>> unread(UGCLUSettings(), "unlearn", "hyper.clip_norm"), unread(UGCLUSettings(), "unlearn", "hyper.kept_share")
    ('needs --unlearn.settings.fast-step rate', None)
    """
    missing = next((what for met, what in _needs_of(settings, kind).get(name, ()) if not met), None)
    return missing if missing is None or missing.startswith("is ") else f"needs --{kind}.settings.{missing}"


def _needs_of(settings: UGCLUSettings, kind: RequestKind) -> Mapping[str, tuple[tuple[bool, str], ...]]:
    """By name of a setting, under which others of the same request it is read: each met or not, and in words."""
    has_fast = settings.fast_step != "none", "fast-step budget or rate"
    by_budget, by_rate = ((settings.fast_step == each, f"fast-step {each}") for each in ("budget", "rate"))
    fast_slow, inner = (settings.manifold == "fast_slow", "manifold fast_slow"), (settings.inner_steps > 0, _INNER)
    masked = settings.mask != "none", "mask hard, soft or straight_through"
    ended = kind == "unlearn" and settings.unlearn_loss != "ascent"
    levels = (ended, "unlearn-loss bounded or target" if kind == "unlearn" else "is not read by learn requests")
    return {
        "settings.task_batch_size": (has_fast,),
        "settings.coefficient_decay": (has_fast,),
        "settings.keep_fast_statistics": (has_fast,),
        "settings.saliency": (masked,),
        "settings.saliency_batches": (masked,),
        "settings.levels": (levels,),
        **dict.fromkeys((f"settings.{each}" for each in ("preconditioner", "inner_schedule", "inner_data")), (inner,)),
        "settings.distillation": (inner,),
        "hyper.output_budget": (by_budget,),
        "hyper.fast_learning_rate": (by_rate, fast_slow),
        "hyper.clip_norm": (by_rate,),
        "hyper.loss_exponent": (has_fast, (not ended, "unlearn-loss ascent")),
        "hyper.saliency_threshold": (masked,),
        "hyper.mask_temperature": ((settings.mask in ("soft", "straight_through"), "mask soft or straight_through"),),
        "hyper.slow_step_size": (fast_slow,),
        **dict.fromkeys((f"hyper.{each}" for each in ("remain_learning_rate", "kept_share")), (inner,)),
        **dict.fromkeys((f"hyper.{each}" for each in ("remain_clip_norm", "remain_weight_decay")), (inner,)),
        "hyper.distillation_weight": ((settings.distillation, "distillation"), inner),
    }


_INNER = "inner-steps of at least 1"


def check_machine(environment: Mapping[str, str]) -> None:
    """See that JAX finds a device and compiles: the first call that starts its backend.

    Args:
        environment: variables of the process.

    Raises:
        ValueError: naming the variable to change.
    """
    if jax.config.values["jax_disable_jit"]:
        raise ValueError(
            "JAX_DISABLE_JIT is set: a request is one compiled program, and step by step it would take days; unset it"
        )
    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter, without a word, where a plugin is missing
        reason = str(error).partition(" (set JAX_PLATFORMS")[0].partition("\n")[0] or "its plugin is not installed"
        name = "JAX_PLATFORMS" if environment.get("JAX_PLATFORMS") else "JAX_PLATFORM_NAME"
        asked = environment.get(name)
        cure = f"{name} is {asked!r}: unset it, or set it to cpu" if asked else "set JAX_PLATFORMS=cpu to do without"
        raise ValueError(f"JAX finds no device ({reason}); {cure}") from error


def check_devices(config: ExperimentConfig) -> None:
    """See that the devices that are asked for are there, and that the processes that have joined can share the work.

    Raises:
        ValueError: there are fewer, or what they divide does not suit them.
    """
    devices.select(config.devices, config.parallel)
    if config.over == "seeds" and jax.process_count() > 1:
        raise ValueError(
            "over is seeds, which spread over the devices of one process: start each with seeds of its own"
        )

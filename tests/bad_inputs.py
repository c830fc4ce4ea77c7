r"""What nobody should type or put into a file: a line each, with a fragment that the one message about it must hold.

A line is `what is given | what is said`. Rows of a program without a file are words of its command line; those of
settings are the content of the file that `--settings` names. `tests/test_bad_inputs.py` runs them all.
"""

import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One wrong use."""

    program: str
    arguments: tuple[str, ...]
    said: str
    files: Mapping[str, bytes] = {}
    environment: Mapping[str, str] = {}

    @property
    def name(self) -> str:
        """Of the test: what was given, in printable characters."""
        given = (
            " ".join(self.arguments)
            + " "
            + " ".join(text[:60].decode("utf-8", "replace") for text in self.files.values())
        )
        return f"{self.program} {given}".encode("ascii", "backslashreplace").decode()[:110].strip()


def words(program: str, table: str) -> list[Row]:
    """Rows of a command line."""
    rows = []
    for line in filter(str.strip, table.strip("\n").split("\n")):
        given, said = line.rsplit(" | ", 1)
        rows.append(Row(program, tuple(shlex.split(given)), said.strip()))
    return rows


def settings(table: str, program: str = "task_aware") -> list[Row]:
    """Rows of a settings file, written in JSON; what is said must name the file, too."""
    rows = []
    for line in filter(str.strip, table.strip("\n").split("\n")):
        given, said = line.rsplit(" | ", 1)
        rows.append(raw(given.strip().encode(), said.strip(), program))
    return rows


def streams(table: str) -> list[Row]:
    """Rows of a file of requests."""
    rows = []
    for line in filter(str.strip, table.strip("\n").split("\n")):
        given, said = line.rsplit(" | ", 1)
        rows.append(stream(given.strip().encode(), said.strip()))
    return rows


def stream(content: bytes, said: str, program: str = "task_aware", *more: str) -> Row:
    """A file of requests byte for byte."""
    return Row(program, ("--stream", "q.json", *more), said, {"q.json": content})


def raw(content: bytes, said: str, program: str = "task_aware", *more: str) -> Row:
    """A settings file byte for byte."""
    return Row(program, ("--settings", "s.json", *more), said, {"s.json": content})


def trials(*entries: Any) -> bytes:
    """A file of a search."""
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()


OPTIONS = words(
    "task_aware",
    r"""
--capacity 0                                        | --capacity must be at least 1, got 0
--capacity -5                                       | --capacity must be at least 1, got -5
--capacity many                                     | --capacity is 'many': it must be a whole number
--capacity 2.5                                      | --capacity is '2.5': it must be a whole number
--capacity 1e3                                      | --capacity is '1e3': it must be a whole number
--capacity 1_000                                    | --capacity is '1_000': it must be a whole number
--capacity ''                                       | --capacity is '': it must be a whole number
--capacity ' 5'                                     | --capacity is ' 5': it must be a whole number
--capacity ٣                                        | it must be a whole number
--capacity 0x10                                     | --capacity is '0x10': it must be a whole number
--capacity None                                     | --capacity is 'None': it must be a whole number
--capacity True                                     | --capacity is 'True': it must be a whole number
--capacity nan                                      | --capacity is 'nan': it must be a whole number
--capacity                                          | --capacity needs a value: --capacity INT
--capacity=                                         | --capacity is '': it must be a whole number
--capacity 5 6                                      | --capacity takes one value, got '5' and '6'
--capacity 5 --capacity 7                           | --capacity and --capacity are the same option: give it once
--capacity 5 --capacity=5                           | --capacity and --capacity are the same option: give it once
--run_dir a --run-dir b                             | --run_dir and --run-dir are the same option: give it once
--capacity 99999999999999999999999999999999999999999999999999 | it must be a whole number
--capacty 5                                         | Unrecognized options: --capacty; did you mean --capacity INT?
--Capacity 5                                        | Unrecognized options: --Capacity; did you mean --capacity INT?
--cap 5                                             | Unrecognized options: --cap
--data 5                                            | Unrecognized options: --data
--learn 5                                           | Unrecognized options: --learn
--outer-steps 5                                     | Unrecognized options: --outer-steps; did you mean
--learn.settings.outer-step 5                       | did you mean --learn.settings.outer-steps INT?
--learn.setings.outer-steps 5                       | did you mean --learn.settings.outer-steps INT?
--references.salun.hyper.learning_rate 1            | Unrecognized options: --references.salun.hyper.learning_rate
--unlearn-class 1                                   | did you mean --unlearn-classes
--fraction 0.1                                      | --fraction; it is an option of experiments.random_sample
--regime joint                                      | --regime; it is an option of experiments.class_wise or experiments.random_sample
--sample-seed 3                                     | --sample-seed; it is an option of experiments.random_sample
--scenario class_wise                               | Unrecognized options: --scenario
--trials 3                                          | Unrecognized options: --trials
stray                                               | 'stray' belongs to no option; see --help
--smoke yes                                         | 'yes' belongs to no option; see --help
--no-smoke=1                                        | --no-smoke takes no value, got '1'
--                                                  | '--' belongs to no option
-x                                                  | '-x' belongs to no option
--capacity 5 -- 6                                   | '--' belongs to no option
''                                                  | '' belongs to no option
--tasks 0                                           | --tasks must be at least 1, got 0
--tasks 3                                           | 10 classes cannot be split into 3 equal tasks
--tasks 1000000000000                               | 10 classes cannot be split into 1000000000000 equal tasks
--per-class 0                                       | --per-class must be at least 1, got 0
--per-class all                                     | --per-class is 'all': it must be a whole number
--keep 0                                            | --keep must be at least 1, got 0
--device-budget-mb -1                               | --device-budget-mb must be at least 0, got -1
--oracle-seeds 1                                    | --oracle-seeds must be at least 2, got 1
--evaluation-examples 0                             | --evaluation-examples must be at least 1, got 0
--evaluate-on tset                                  | --evaluate-on is 'tset': it must be one of test, validation; did you mean test?
--oracles some                                      | --oracles is 'some': it must be one of all, milestones
--parallel threads                                  | --parallel is 'threads': it must be one of pmap, shard_map
--over rows                                         | --over is 'rows': it must be one of batch, seeds
--devices none                                      | --devices is 'none': it must be a whole number or all
--devices 0                                         | --devices must be at least 1 or all, got 0
--devices -1                                        | --devices must be at least 1 or all, got -1
--devices 1000000                                   | --devices is 1000000 and there
--augment flip                                      | unknown augmentation 'flip'
--dataset ''                                        | unknown dataset ''
--dataset digit                                     | unknown dataset 'digit'; did you mean digits?
--dataset DIGITS                                    | unknown dataset 'DIGITS'
--dataset ../settings/digits                        | unknown dataset '../settings/digits'
--dataset compare/base                              | unknown dataset 'compare/base'
--dataset digits fashion_mnist                      | --dataset takes one value, got 'digits' and 'fashion_mnist'
--dataset npz                                       | --data.directory
--dataset text                                      | --data.directory
--dataset image_folder                              | directory
--dataset fashion_mnist --data.directory nowhere    | nowhere
--dataset npz --data.directory nowhere.npz          | nowhere.npz
--model ''                                          | unknown model ''
--model mpl                                         | unknown model 'mpl': it must be one of mlp
--model resnet                                      | did you mean resnet18?
--model text_encoder                                | text_encoder
--model vit_tiny                                    | vit_tiny
--model no_such_module:net                          | --model is 'no_such_module:net': there is no module no_such_module
--model collections:Countr                          | collections has no attribute Countr; did you mean Counter?
--model a:b:c                                       | it must be package.module:attribute
--model :x                                          | it must be package.module:attribute
--model '../evil:x'                                 | it must be package.module:attribute
--model-options.width 3                             | --model-options.width is no option of mlp, which has dtype
--model-options.stem cifar                          | --model-options.stem is no option of mlp
--model-options.dtype float16                       | --model-options.dtype is 'float16': it must be one of float32, bfloat16
--model-options.new-head                            | --model-options.new-head
--model-options.pretrained ''                       | --model-options.pretrained is '': give a path, or leave it out
--model-options.stochastic-depth 1                  | --model-options.stochastic-depth is 1.0: it must be in [0, 1)
--model vit_tiny --model-options.width 0            | --model-options.width is 0: it must be at least 1
--settings ''                                       | --settings is '': give a path, or leave it out
--settings nowhere.json                             | settings file nowhere.json cannot be read (No such file or directory)
--settings .                                        | settings file . cannot be read (Is a directory)
--settings                                          | --settings needs a value: --settings PATH
--run-dir ''                                        | --run-dir is '': give a path, or leave it out
--run-dir=                                          | --run-dir is '': give a path, or leave it out
--run-dir                                           | --run-dir needs a value
--cache-dir ''                                      | --cache-dir is '': give a path, or leave it out
--stream ''                                         | --stream is '': give a path, or leave it out
--stream nowhere.json                               | --stream nowhere.json cannot be read (No such file or directory)
--stream .                                          | --stream . cannot be read (Is a directory)
--unlearn-ids ''                                    | --unlearn-ids is '': give a path, or leave it out
--unlearn-ids nowhere.txt                           | nowhere.txt
--data.directory ''                                 | --data.directory is '': give a path, or leave it out
--data.directory nowhere                            | --data.directory is 'nowhere': digits does not use it (it uses none); leave it out
--data.download                                     | --data.download is 'True': digits does not use it
--data.image-size 8                                 | --data.image-size is '8': digits does not use it
--data.image-size 0                                 | --data.image-size is 0: it must be at least 1
--data.text-length 128                              | --data.text-length is of no use to digits (it uses none)
--data.text-length 1                                | --data.text-length is 1: it must be at least 2
--data.vocabulary-size 2                            | --data.vocabulary-size is 2: it must be at least 258
--data.cache-dir ''                                 | --data.cache-dir is '': give a path, or leave it out
--data.cache-dir elsewhere                         | --data.cache-dir is 'elsewhere': digits does not use it
--num-processes 2                                   | --num-processes needs --coordinator HOST:PORT
--process-id 0                                      | --process-id needs --coordinator HOST:PORT
--coordinator auto --num-processes 2                | --num-processes needs --coordinator HOST:PORT
--coordinator 127.0.0.1                             | --coordinator must be HOST:PORT or auto, got '127.0.0.1'
--coordinator 127.0.0.1:0                           | --coordinator must be HOST:PORT or auto
--coordinator 127.0.0.1:99999                       | --coordinator must be HOST:PORT or auto
--coordinator 127.0.0.1:port                        | --coordinator must be HOST:PORT or auto
--coordinator ''                                    | --coordinator must be HOST:PORT or auto, got ''
--coordinator 127.0.0.1:4000                        | --num-processes is missing
--coordinator 127.0.0.1:4000 --num-processes 2      | --process-id is missing
--coordinator 127.0.0.1:4000 --num-processes 2 --process-id 2 | --process-id must be in 0 … 1, got 2
--validation-examples 100                           | --validation-examples needs --evaluate-on validation
--evaluate-on validation --validation-examples 0    | --validation-examples must be at least 1, got 0
--evaluate-on validation --validation-examples 99999 | --validation-examples is 99999: it must lie in
--over seeds                                        | --over seeds needs --devices of 2 or more, or all
--unlearn-classes 1 --sequence 'L1'                 | --sequence is not read beside --stream
--unlearn-classes 1 --unlearn-where 'x == 1'        | --unlearn-where and --unlearn-classes are given; a run has one of them
--unlearn-classes 1 1                               | --unlearn-classes must be different values
--unlearn-classes 77                                | 77
--unlearn-classes cat                               | cat
--unlearn-classes ''                                | ''
--unlearn-where 'user == 17'                        | user
--unlearn-where ''                                  | --unlearn-where
--unlearn-where '__import__("os").system("x")'      | --unlearn-where
--sequence ''                                       | the stream has 0 requests
--sequence 'L1 X2'                                  | token 2 of the sequence is 'X2'
--sequence 'L1 U2'                                  | U2
--sequence 'L1 U1 U1'                               | U1
--sequence 'L1 L1'                                  | L1
--sequence 'L99'                                    | L99
--sequence 'L-1'                                    | L-1
--sequence 'L0'                                     | L0
--sequence 'U1'                                     | U1
--sequence 'l1'                                     | l1
--sequence 'L1,L2'                                  | L1,L2
--sequence L1 L2                                    | --sequence takes one value, got 'L1' and 'L2'
""",
)

SEEDS = words(
    "task_aware",
    """
--seeds                                             | --seeds must be one or more different values, got none
--seeds 0 0                                         | --seeds must be one or more different values
--seeds 0 00                                        | --seeds must be one or more different values
--seeds 0:4 2                                       | --seeds must be one or more different values
--seeds 5:2                                         | --seeds is '5:2': a range ends above where it starts; give START:STOP, such as 2:5
--seeds 3:3                                         | --seeds is '3:3': a range ends above where it starts
--seeds 0:                                          | --seeds is '0:': it must be a whole number, or a range START:STOP
--seeds a:b                                         | --seeds is 'a:b': it must be a whole number, or a range START:STOP
--seeds 0:9:2                                       | --seeds is '0:9:2': it must be a whole number, or a range
--seeds -2:1                                        | --seeds must be non-negative, got -2
--seeds 0:99999999                                  | --seeds is '0:99999999': a range stands for 65536 numbers at most
--seeds 4294967290:4294967297                       | --seeds must be in 0 … 4294967295, got 4294967296
--seeds-at-once 0                                   | --seeds-at-once must be at least 1, got 0
--seeds-at-once many                                | --seeds-at-once is 'many': it must be a whole number or auto
--seeds-at-once 2 --devices 2                       | --seeds-at-once needs --over seeds
--seeds -1                                          | --seeds must be non-negative, got -1
--seeds 0 4294967296                                | --seeds must be in 0 … 4294967295, got 4294967296
--seeds 4294967297                                  | --seeds must be in 0 … 4294967295
--seeds 18446744073709551616                        | --seeds must be in 0 … 4294967295
--seeds 1.0                                         | --seeds is '1.0': it must be a whole number
--seeds 1,2                                         | --seeds is '1,2': it must be a whole number
--seeds a                                           | --seeds is 'a': it must be a whole number
--seeds 0 --seeds 1                                 | --seeds and --seeds are the same option
""",
) + words(
    "random_sample",
    """
--sample-seed -1                                    | --sample-seed must be non-negative, got -1
--sample-seed 4294967296                            | --sample-seed must be in 0 … 4294967295, got 4294967296
--sample-seed x                                     | --sample-seed is 'x': it must be a whole number
--seeds 4294967296                                  | --seeds must be in 0 … 4294967295, got 4294967296
--fraction 0                                        | --fraction must be in (0, 1), got 0
--fraction 1                                        | --fraction must be in (0, 1), got 1
--fraction -0.5                                     | --fraction must be in (0, 1), got -0.5
--fraction nan                                      | --fraction must be in (0, 1), got nan
--fraction inf                                      | --fraction must be in (0, 1), got inf
--fraction 1e999                                    | --fraction is '1e999': it is more than a float can hold
--fraction 1e-9                                     | 1e-09
--fraction ten                                      | --fraction is 'ten': it must be a number
--fraction 10%                                      | --fraction is '10%': it must be a number
--fraction 0,1                                      | --fraction is '0,1': it must be a number
--regime all                                        | --regime is 'all': it must be one of continual, joint, wrong_labels
--sequence 'L1 L2'                                  | --sequence; it is an option of experiments.task_aware
--unlearn-classes 1 --fraction .1                   | --fraction is not read beside --stream
--unlearn-classes 1 --sample-seed 4                 | --sample-seed is not read beside --stream
--unlearn-classes 1 --regime wrong_labels           | --unlearn-classes is given with --regime wrong_labels
""",
)

METHODS = words(
    "task_aware",
    """
--methods                                           | --methods must be one or more different values
--methods ''                                        | unknown method ''
--methods ugclu                                     | unknown method 'ugclu'; did you mean ug_clu?
--methods UG_CLU                                    | unknown method 'UG_CLU'
--methods salun salun                               | --methods must be one or more different values
--methods salun ug_clu+salun                        | --methods has 'salun' and 'ug_clu+salun', which are one method
--methods er er+ug_clu                              | --methods has 'er' and 'er+ug_clu', which are one method
--methods ug_clu ug_clu+ug_clu                      | --methods has 'ug_clu' and 'ug_clu+ug_clu', which are one method
--methods retrain ug_clu+retrain                    | which are one method
--methods salun+er                                  | 'salun' in method 'salun+er' does not learn
--methods er+ewc                                    | 'ewc' in method 'er+ewc' does not unlearn
--methods er+salun+er                               | has 3 parts; it must be METHOD or LEARNER+UNLEARNER
--methods er+                                       | unknown method ''
--methods +salun                                    | unknown method ''
--methods 'ug_clu salun'                            | unknown method 'ug_clu salun'
--methods ug_clu,salun                              | unknown method 'ug_clu,salun'
--methods ct --model mlp                            | ct turns the kernels of convolutions, and the model has no leaf
--methods no_such_module:mine                       | there is no module no_such_module
--methods collections:Counter                       | it must be a function of (apply_fn, settings, …)
--methods math:pi                                   | it must be a function of (apply_fn, settings, …)
--methods ../a:b                                    | it must be package.module:attribute
--methods nope --dataset npz                        | unknown method 'nope'
--methods er+salun --unlearn.hyper.clip-norm 2      | --unlearn.hyper.clip-norm is UG-CLU's, and no method here does unlearn by ug_clu
--methods er+salun --learn.hyper.clip-norm 2        | --learn.hyper.clip-norm is UG-CLU's, and no method here does learn by ug_clu
--methods salun --unlearn.settings.outer-steps 1 --unlearn.settings.inner-steps 2 | leaves no step for salun to unlearn
""",
)

HYPER = words(
    "task_aware",
    """
--learn.hyper.fast-learning-rate -1                 | --learn.hyper.fast-learning-rate must be in [0, ∞), got -1
--learn.hyper.fast_learning_rate -1                 | --learn.hyper.fast_learning_rate must be in [0, ∞), got -1
--learn.hyper.fast-learning-rate nan                | --learn.hyper.fast-learning-rate must be in [0, ∞), got nan
--learn.hyper.fast-learning-rate inf                | --learn.hyper.fast-learning-rate must be in [0, ∞), got inf
--learn.hyper.fast-learning-rate 1e999              | --learn.hyper.fast-learning-rate is '1e999': it is more than a float can hold
--learn.hyper.fast-learning-rate fast               | --learn.hyper.fast-learning-rate is 'fast': it must be a number
--learn.hyper.fast-learning-rate 0,1                | --learn.hyper.fast-learning-rate is '0,1': it must be a number
--unlearn.hyper.remain-learning-rate -0.1           | --unlearn.hyper.remain-learning-rate must be in [0, ∞), got -0.1
--unlearn.hyper.slow-step-size 1.5                  | --unlearn.hyper.slow-step-size must be in [0, 1], got 1.5
--unlearn.hyper.slow-step-size -0.5                 | --unlearn.hyper.slow-step-size must be in [0, 1], got -0.5
--unlearn.hyper.loss-exponent nan                   | --unlearn.hyper.loss-exponent must be in [0, ∞), got nan
--unlearn.hyper.clip-norm 0                         | --unlearn.hyper.clip-norm must be in (0, ∞], got 0
--unlearn.hyper.saliency-threshold -1               | --unlearn.hyper.saliency-threshold must be in [0, ∞), got -1
--unlearn.hyper.remain-weight-decay -1              | --unlearn.hyper.remain-weight-decay must be in [0, ∞), got -1
--unlearn.hyper.mask-temperature 0                  | --unlearn.hyper.mask-temperature must be in (0, ∞), got 0
--unlearn.hyper.mask-temperature 2                  | --unlearn.hyper.mask-temperature needs --unlearn.settings.mask soft or straight_through
--unlearn.settings.no-distillation --unlearn.hyper.distillation-weight 0.4 | --unlearn.hyper.distillation-weight needs --unlearn.settings.distillation
--unlearn.hyper.distillation-weight 1.4             | --unlearn.hyper.distillation-weight must be in [0, 1], got 1.4
--unlearn.hyper.saliency-threshold 2                | --unlearn.hyper.saliency-threshold needs --unlearn.settings.mask hard, soft or straight_through
--unlearn.settings.saliency fisher                  | --unlearn.settings.saliency needs --unlearn.settings.mask hard, soft or straight_through
--unlearn.settings.saliency-batches 3               | --unlearn.settings.saliency-batches needs --unlearn.settings.mask hard, soft
--unlearn.settings.unlearn-loss target --unlearn.hyper.loss-exponent 1 | --unlearn.hyper.loss-exponent needs --unlearn.settings.unlearn-loss ascent
--unlearn.settings.fast-step rate --unlearn.settings.manifold euclidean --unlearn.hyper.fast-learning-rate 1 | --unlearn.hyper.fast-learning-rate needs --unlearn.settings.manifold fast_slow
--unlearn.settings.fast-step rate --unlearn.settings.manifold euclidean --unlearn.hyper.slow-step-size 1 | --unlearn.hyper.slow-step-size needs --unlearn.settings.manifold fast_slow
--unlearn.hyper.fast-learning-rate 1                | --unlearn.hyper.fast-learning-rate needs --unlearn.settings.fast-step rate
--unlearn.hyper.clip-norm 1                         | --unlearn.hyper.clip-norm needs --unlearn.settings.fast-step rate
--learn.settings.fast-step rate --learn.hyper.output-budget 1 | --learn.hyper.output-budget needs --learn.settings.fast-step budget
--learn.settings.fast-step none --learn.hyper.output-budget 1 | --learn.hyper.output-budget needs --learn.settings.fast-step budget
--learn.settings.fast-step none --learn.hyper.loss-exponent 1 | --learn.hyper.loss-exponent needs --learn.settings.fast-step budget or rate
--learn.settings.fast-step none --learn.settings.task-batch-size 8 | --learn.settings.task-batch-size needs --learn.settings.fast-step budget or rate
--learn.settings.fast-step none --learn.settings.no-coefficient-decay | --learn.settings.no-coefficient-decay needs --learn.settings.fast-step budget or rate
--learn.settings.fast-step none --learn.settings.keep-fast-statistics | --learn.settings.keep-fast-statistics needs --learn.settings.fast-step budget or rate
--learn.settings.levels class                       | --learn.settings.levels is not read by learn requests
--unlearn.settings.levels class                     | --unlearn.settings.levels needs --unlearn.settings.unlearn-loss bounded or target
--unlearn.settings.inner-steps 0 --unlearn.settings.preconditioner sgd | --unlearn.settings.preconditioner needs --unlearn.settings.inner-steps of at least 1
--unlearn.settings.inner-steps 0 --unlearn.settings.inner-schedule outer | --unlearn.settings.inner-schedule needs --unlearn.settings.inner-steps of at least 1
--unlearn.settings.inner-steps 0 --unlearn.settings.distillation | --unlearn.settings.distillation needs --unlearn.settings.inner-steps of at least 1
--unlearn.settings.inner-steps 0 --unlearn.hyper.kept-share 1 | --unlearn.hyper.kept-share needs --unlearn.settings.inner-steps of at least 1
--unlearn.settings.inner-steps 0 --unlearn.hyper.remain-learning-rate 1 | --unlearn.hyper.remain-learning-rate needs --unlearn.settings.inner-steps of at least 1
--unlearn.settings.inner-steps 0 --unlearn.hyper.remain-clip-norm 1 | --unlearn.hyper.remain-clip-norm needs --unlearn.settings.inner-steps of at least 1
--unlearn.settings.inner-steps 0 --unlearn.hyper.remain-weight-decay 1 | --unlearn.hyper.remain-weight-decay needs --unlearn.settings.inner-steps of at least 1
--unlearn.hyper.output-budget -1                    | --unlearn.hyper.output-budget must be in [0, ∞), got -1
--unlearn.hyper.kept-share 0                        | --unlearn.hyper.kept-share must be in (0, 1], got 0
--unlearn.hyper.kept-share 1.5                      | --unlearn.hyper.kept-share must be in (0, 1], got 1.5
--unlearn.hyper.remain-clip-norm 0                  | --unlearn.hyper.remain-clip-norm must be in (0, ∞], got 0
--learn.settings.outer-steps 0                      | --learn.settings.outer-steps must be at least 1, got 0
--learn.settings.inner-steps -1                     | --learn.settings.inner-steps must be at least 0, got -1
--learn.settings.task-batch-size 0                  | --learn.settings.task-batch-size must be at least 1, got 0
--learn.settings.remain-batch-size 0                | --learn.settings.remain-batch-size must be at least 1, got 0
--learn.settings.saliency-batches 0                 | --learn.settings.saliency-batches must be at least 1, got 0
--learn.settings.mask hrad                          | --learn.settings.mask is 'hrad': it must be one of
--learn.settings.saliency fischer                   | --learn.settings.saliency is 'fischer': it must be one of
--unlearn.settings.inner-data mixed                 | --unlearn.settings.inner-data of an unlearn request must be 'buffer'
--unlearn.settings.inner-data both                  | --unlearn.settings.inner-data is 'both': it must be one of buffer, mixed
--unlearn.settings.unlearn-loss descent             | --unlearn.settings.unlearn-loss is 'descent': it must be one of
--unlearn.settings.manifold flat                    | --unlearn.settings.manifold is 'flat': it must be one of fast_slow, euclidean
--unlearn.settings.manifold euclidean --unlearn.settings.inner-steps 0 | manifold 'euclidean' needs inner_steps of at least 1
--unlearn.settings.manifold euclidean               | manifold 'euclidean' needs fast_step 'rate', got 'budget'
--unlearn.settings.fast-step quick                  | --unlearn.settings.fast-step is 'quick': it must be one of budget, rate, none
--unlearn.settings.fast-step none --unlearn.settings.mask hard | --unlearn.settings.fast-step 'none' needs mask 'none', got 'hard'
--unlearn.settings.fast-step none --unlearn.settings.unlearn-loss bounded | --unlearn.settings.fast-step 'none' needs unlearn_loss 'ascent', got 'bounded'
--unlearn.settings.levels midpoint                  | levels 'midpoint' needs unlearn_loss 'bounded' or 'target', got 'ascent'
--unlearn.settings.levels nearest                   | --unlearn.settings.levels is 'nearest': it must be one of class, midpoint
--unlearn.settings.preconditioner adagrad           | --unlearn.settings.preconditioner is 'adagrad': it must be one of adam, sgd
--unlearn.settings.inner-schedule cosine            | --unlearn.settings.inner-schedule is 'cosine': it must be one of constant, outer, inner
--learn.settings.distillation true                  | 'true' belongs to no option; see --help
--oracle.epochs 0                                   | --oracle.epochs must be at least 1, got 0
--oracle.batch-size 0                               | --oracle.batch-size must be at least 1, got 0
--oracle.learning-rate -1                           | --oracle.learning-rate must be in [0, inf), got -1
--oracle.learning-rate nan                          | --oracle.learning-rate must be in [0, inf), got nan
--oracle.momentum 1                                 | --oracle.momentum must be in [0, 1), got 1
--oracle.weight-decay inf                           | --oracle.weight-decay must be in [0, inf), got inf
--oracle.optimizer adam                             | --oracle.optimizer is 'adam': it must be one of sgd, adamw; did you mean adamw?
""",
)

SIZES = words(
    "task_aware",
    """
--capacity 2147483648                               | --capacity must be at most 2147483647, got 2147483648: a device counts no further
--capacity 2000000000                               | --capacity is 2000000000: the buffer would need 144 GB of memory
--capacity 1000000000000000000000000000000          | --capacity must be at most 2147483647
--learn.settings.outer-steps 3000000000             | --learn.settings.outer-steps must be at most 2147483647
--unlearn.settings.inner-steps 3000000000           | --unlearn.settings.inner-steps must be at most 2147483647
--unlearn.settings.inner-steps 2000000000 --unlearn.settings.outer-steps 2000000 | --unlearn.settings.inner-steps is 2000000000: 2 requests would take more than
--unlearn.settings.task-batch-size 2000000000       | --unlearn.settings.task-batch-size is 2000000000: a batch would need 512 GB
--unlearn.settings.remain-batch-size 2000000000     | --unlearn.settings.remain-batch-size is 2000000000: a batch would need 512 GB
--unlearn.settings.saliency-batches 4000000000 --unlearn.settings.mask hard | --unlearn.settings.saliency-batches must be at most 2147483647
--oracle.epochs 2000000000                          | --oracle.epochs is 2000000000: with 300 examples in batches of 64 that is 10000000000 steps
--oracle.epochs 9999999999                          | --oracle.epochs must be at most 2147483647
--oracle.batch-size 2000000000                      | --oracle.batch-size is 2000000000: a batch of an oracle would need
--oracle-seeds 1000000000                           | --oracle-seeds is 1000000000: outputs of the oracles would need
--oracle-seeds 1000000000000                        | --oracle-seeds must be at most 2147483647
--dataset image_folder --data.directory . --data.image-size 1000000 | --data.image-size is 1000000: one image of 1000000 x 1000000 would need 3e+03 GB
--dataset image_folder --data.directory . --data.image-size 9999999999 | --data.image-size must be at most 2147483647
--dataset text --data.directory . --data.text-length 99999999999 | --data.text-length must be at most 2147483647
--dataset text --data.directory . --data.vocabulary-size 99999999999 | --data.vocabulary-size must be at most 2147483647
--model vit_tiny --model-options.width 1000000000   | --model-options.width is 1000000000: the network would need 4e+09 GB
--model vit_tiny --model-options.depth 1000000000   | --model-options.depth is 1000000000: its program would need 1e+06 GB
""",
)

PROGRAMS = (
    words(
        "class_wise",
        """
--unlearn-classes                                   | --unlearn-classes must be one or more different values, got none
--unlearn-classes 2 2                               | --unlearn-classes must be different values
--unlearn-classes 2 12                              | 12
--unlearn-classes -1                                | -1
--sequence L1                                       | --sequence; it is an option of experiments.task_aware
--fraction .1                                       | --fraction; it is an option of experiments.random_sample
--trials 3                                          | Unrecognized options: --trials
""",
    )
    + words(
        "compare",
        """
--scenario nope                                     | unknown scenario 'nope'; Valid: class_wise, random_sample, task_aware
--scenario                                          | --scenario needs a value
--scenario ''                                       | --scenario is '': it must be one of task_aware
--scenario class-wise                               | unknown scenario 'class-wise'; did you mean class_wise?
--scenario class_wise --sequence L1                 | --sequence; it is an option of --scenario task_aware
--fraction 0.1                                      | --fraction; it is an option of --scenario random_sample
--scenario task_aware --scenario class_wise         | --scenario and --scenario are the same option
--methods ug_clu salun ug_clu+salun                 | which are one method
--methods nope --list                               | unknown method 'nope'
--list 1                                            | '1' belongs to no option; see --help
--seeds 4294967296                                  | --seeds must be in 0 … 4294967295
""",
    )
    + words(
        "search",
        """
--trials 0                                          | --trials must be at least 1, got 0
--trials -3                                         | --trials must be at least 1, got -3
--trials 1000000000                                 | --trials must be at most 1048576, got 1000000000
--trials many                                       | --trials is 'many': it must be a whole number
--methods do_nothing                                | method 'do_nothing' has no hyperparameters to search; leave it out
--methods retrain                                   | method 'retrain' has no hyperparameters to search; leave it out
--write nowhere.json                                | settings file nowhere.json cannot be read
--write ''                                          | --write is '': give a path, or leave it out
--coordinator auto                                  | search runs in one process; leave --coordinator out
--sequence L1                                       | the stream unlearns nothing
--extras yes                                        | 'yes' belongs to no option; see --help
--steps 3                                           | Unrecognized options: --steps
--scenario nope                                     | unknown scenario 'nope'
""",
    )
    + words(
        "hypergradients",
        """
--steps 1                                           | --steps must be at least 2, got 1
--steps 0                                           | --steps must be at least 2, got 0
--steps 1000000000                                  | --steps must be at most 1048576, got 1000000000
--rate 0                                            | --rate must be positive and finite, got 0
--rate -1                                           | --rate must be positive and finite, got -1
--rate nan                                          | --rate must be positive and finite, got nan
--rate inf                                          | --rate must be positive and finite, got inf
--tuning-seeds                                      | --tuning-seeds must be one or more different values
--tuning-seeds 100 100                              | --tuning-seeds must be one or more different values
--tuning-seeds -1                                   | --tuning-seeds must be non-negative, got -1
--tuning-seeds 4294967296                           | --tuning-seeds must be in 0 … 4294967295, got 4294967296
--tuning-seeds 0 1                                  | tuning-seeds and seeds must differ, both have 0
--names                                             | --names must be one or more different values
--names kept_share kept_share                         | --names must be one or more different values
--names clip                                        | unknown name 'clip'; did you mean clip_norm?
--names clip_norm                                   | names has 'clip_norm', which needs --unlearn.settings.fast-step rate
--names loss_exponent                               | --unlearn.hyper.loss-exponent must be positive and finite to be tuned, got 0
--coordinator auto                                  | hypergradients runs in one process; leave --coordinator out
--trials 3                                          | Unrecognized options: --trials
""",
    )
    + words(
        "one_default",
        """
--method ug_clu                                     | --searches is missing
--searches a                                        | --method is missing
--method ug_clu --searches                          | --searches must be one or more different values, got none
--method ug_clu --searches nowhere                  | search nowhere has no trials.jsonl
--method ug_clu --searches ''                       | --searches is '': give a path, or leave it out
--method ug_clu --search nowhere                    | did you mean --searches
--method a b --searches c                           | --method takes one value, got 'a' and 'b'
nowhere                                             | 'nowhere' belongs to no option
""",
    )
    + [
        Row("one_default", ("--method", "er", "--searches", "."), said, {"trials.jsonl": content})
        for content, said in (
            (b"", "search . has no trial of er; it has none at all"),
            (b"{", "trials.jsonl line 1 is '{', which is no trial"),
            (b"[]\n", "trials.jsonl line 1 is '[]', which is no trial"),
            (b"\xff\xfe\x00\n", "trials.jsonl line 1 is"),
            (trials({"method": "er"}), "trials.jsonl line 1 is"),
            (trials({"method": "er", "trial": 0, "point": 3, "distance": 1}), "which is no trial"),
            (trials({"method": "er", "trial": 0, "point": {"a": "b"}, "distance": 1}), "which is no trial"),
            (trials({"method": "er", "trial": None, "point": {}, "distance": 1}), "which is no trial"),
            (trials({"method": "er", "trial": 0, "point": {}, "distance": None}), "which is no trial"),
            (trials({"method": "er", "trial": 0, "point": {}, "distance": 1, "settings": 3}), "which is no trial"),
            (
                trials({"method": "salun", "trial": 0, "point": {}, "distance": 1, "settings": {}}),
                "has no trial of er; it has salun",
            ),
            (
                b'{"method": "er", "trial": 0, "point": {}, "distance": Infinity, "settings": {}}\n',
                "every trial diverged",
            ),
            (b'{"method": "er", "trial": 0, "point": {}, "distance": NaN, "settings": {}}\n', "every trial diverged"),
        )
    ]
    + words(
        "report",
        """
nowhere                                             | 'nowhere/config.json' does not exist
nowhere --markdown                                  | 'nowhere/metrics.jsonl' does not exist; give the folder of a run
. --markdown                                        | 'metrics.jsonl' does not exist
''                                                  | RUN_DIR is '': give a path
/dev/null                                           | '/dev/null/config.json' does not exist
""",
    )
    + words(
        "privacy_audit",
        """
nowhere                                             | 'nowhere/config.json' does not exist
''                                                  | RUN_DIR is '': give a path
/dev/null                                           | '/dev/null/config.json' does not exist
""",
    )
    + [
        Row("privacy_audit", (".",), said, {"config.json": content})
        for content, said in ((b"{", "'config.json' is not a configuration"), (b"{}", "'metrics.jsonl' does not exist"))
    ]
    + [
        Row("report", (".", "--markdown"), said, {"metrics.jsonl": content})
        for content, said in (
            (b"", "is empty; no request has finished yet"),
            (b"{", "line 1 is '{'"),
            (b"[]\n", "line 1 is '[]'"),
            (b"null\n", "line 1 is 'null'"),
            (b'{"method": "er"}\n', "line 1 is"),
        )
    ]
)

SETTINGS = (
    settings(
        r"""
{                                                   | settings file s.json, line 1, column 2: not JSON
[]                                                  | settings file s.json: the file must be a JSON object, got list
3                                                   | the file must be a JSON object, got int
null                                                | the file must be a JSON object, got NoneType
"text"                                              | the file must be a JSON object, got str
{} {}                                               | settings file s.json, line 1, column 4: not JSON (Extra data)
{"capacity": 5,}                                    | settings file s.json, line 1, column 16: not JSON
{'capacity': 5}                                     | settings file s.json, line 1, column 2: not JSON
{"capacity": 05}                                    | settings file s.json, line 1, column 15: not JSON
{"capacity": 5} // five                             | settings file s.json, line 1, column 17: not JSON (Extra data)
{"capacity": 5, "capacity": 6}                      | settings file s.json, line 1, column 17: the key 'capacity' stands twice in one object; keep one
{"learn": {"hyper": {"clip_norm": 1, "clip_norm": 1}}} | the key 'clip_norm' stands twice in one object; keep one
{"capacty": 5}                                      | settings file s.json: unknown setting 'capacty'; did you mean capacity?
{"": 5}                                             | unknown setting ''
{"learn.settings.outer_steps": 5}                   | unknown setting 'learn.settings.outer_steps'
{"capacity": "many"}                                | settings file s.json: setting 'capacity' must be int, got 'many'
{"capacity": "5"}                                   | setting 'capacity' must be int, got '5'
{"capacity": 2.5}                                   | setting 'capacity' must be int, got 2.5
{"capacity": 5.0}                                   | setting 'capacity' must be int, got 5.0
{"capacity": null}                                  | setting 'capacity' must be int, got None
{"capacity": true}                                  | setting 'capacity' must be int, got True
{"capacity": [5]}                                   | setting 'capacity' must be int, got [5]
{"capacity": {}}                                    | setting 'capacity' must be int, got {}
{"capacity": 0}                                     | settings file s.json: capacity must be at least 1, got 0
{"capacity": -0}                                    | capacity must be at least 1, got 0
{"capacity": 1e999}                                 | settings file s.json, line 1, column 14: 1e999 is larger than the largest number; correct it
{"capacity": NaN}                                   | settings file s.json, line 1, column 14: NaN is no JSON; write a finite number, or null
{"capacity": Infinity}                              | settings file s.json, line 1, column 14: Infinity is no JSON
{"capacity": "inf"}                                 | setting 'capacity' must be int, got 'inf'
{"learn": {"hyper": {"clip_norm": "-inf"}}}         | setting 'learn.hyper.clip_norm' must be float, got '-inf'
{"learn": {"hyper": {"fast_learning_rate": "inf"}}} | learn.hyper.fast_learning_rate must be in [0, ∞), got inf
{"capacity": 1000000000000000000000000000000}       | capacity (settings file s.json) must be at most 2147483647
{"smoke": 3}                                        | settings file s.json: 'smoke' must be a JSON object, got int
{"smoke": true}                                     | 'smoke' must be a JSON object, got bool
{"smoke": {"capacty": 3}}                           | unknown setting 'smoke.capacty'; did you mean capacity?
{"smoke": {"capacity": 0}}                          | smoke.capacity must be at least 1, got 0
{"smoke": {"smoke": {}}}                            | setting 'smoke.smoke' must be bool
{"settings": "other.json"}                          | settings is of the command line alone; give --settings there
{"experiments": []}                                 | 'experiments' must be a JSON object, got list
{"experiments": {"task_awar": {}}}                  | unknown experiment 'task_awar'; did you mean task_aware?
{"experiments": {"compare": {}}}                    | unknown experiment 'compare'
{"experiments": {"class_wise": 1}}                  | 'class_wise' must be a JSON object, got int
{"experiments": {"class_wise": {"capacty": 3}}}     | unknown setting 'experiments.class_wise.capacty'; did you mean capacity?
{"experiments": {"class_wise": {"capacity": 0}}}    | experiments.class_wise.capacity must be at least 1, got 0
{"experiments": {"random_sample": {"fraction": 2}}} | experiments.random_sample.fraction must be in (0, 1), got 2
{"experiments": {"random_sample": {"regime": "x"}}} | setting 'experiments.random_sample.regime' must be 'continual' or
{"experiments": {"random_sample": {"sample_seed": -1}}} | experiments.random_sample.sample_seed must be non-negative
{"experiments": {"class_wise": {"sequence": "L1"}}} | experiments.class_wise.sequence is a setting of task_aware
{"fraction": 0.1}                                   | fraction is a setting of random_sample, not of task_aware: move it to experiments.random_sample
{"trials": 3}                                       | unknown setting 'trials'
{"learn": 3}                                        | setting 'learn' must be an object of settings, got 3
{"learn": null}                                     | setting 'learn' must be an object of settings, got None
{"learn": []}                                       | setting 'learn' must be an object of settings, got []
{"learn": {"setings": {}}}                          | unknown setting 'learn.setings'; did you mean settings?
{"learn": {"settings": {"outer_step": 3}}}          | unknown setting 'learn.settings.outer_step'; did you mean outer_steps?
{"learn": {"settings": {"outer_steps": 0}}}         | settings file s.json: learn.settings.outer_steps must be at least 1, got 0
{"learn": {"settings": {"outer_steps": null}}}      | setting 'learn.settings.outer_steps' must be int, got None
{"learn": {"settings": {"mask": "hrad"}}}           | setting 'learn.settings.mask' must be 'hard' or
{"learn": {"settings": {"mask": null}}}             | setting 'learn.settings.mask' must be 'hard' or
{"learn": {"hyper": {"clip_norm": "1"}}}            | setting 'learn.hyper.clip_norm' must be float, got '1'
{"learn": {"hyper": {"clip_norm": null}}}           | setting 'learn.hyper.clip_norm' must be float, got None
{"learn": {"hyper": {"clip_norm": 0}}}              | settings file s.json: learn.hyper.clip_norm must be in (0, ∞], got 0
{"learn": {"hyper": {"fast_learning_rate": -1}}}    | learn.hyper.fast_learning_rate must be in [0, ∞), got -1
{"unlearn": {"hyper": {"slow_step_size": 2}}}       | unlearn.hyper.slow_step_size must be in [0, 1], got 2
{"unlearn": {"settings": {"inner_data": "mixed"}}}  | unlearn.settings.inner_data (settings file s.json) of an unlearn request must be 'buffer'
{"oracle": {"epochs": 0}}                           | oracle.epochs must be at least 1, got 0
{"oracle": {"optimizer": "adam"}}                   | oracle.optimizer
{"oracle_seeds": 1}                                 | oracle_seeds must be at least 2, got 1
{"seeds": 1}                                        | setting 'seeds' must be
{"seeds": []}                                       | seeds must be one or more different values, got ()
{"seeds": [0, 0]}                                   | seeds must be one or more different values
{"seeds": [4294967296]}                             | seeds must be in 0 … 4294967295, got 4294967296
{"seeds": [-1]}                                     | seeds must be non-negative, got -1
{"seeds": [null]}                                   | setting 'seeds' must be int, got None
{"seeds": null}                                     | setting 'seeds' must be
{"methods": "ug_clu"}                               | setting 'methods' must be
{"methods": []}                                     | methods must be one or more different values
{"methods": ["nope"]}                               | unknown method 'nope'
{"methods": ["salun", "ug_clu+salun"]}              | methods (settings file s.json) has 'salun' and 'ug_clu+salun', which are one method
{"dataset": "digit"}                                | unknown dataset 'digit'
{"dataset": null}                                   | setting 'dataset' must be str, got None
{"dataset": "\ud800"}                               | \ud800 is half of a surrogate pair, which is no text
{"model": "mpl"}                                    | unknown model 'mpl'
{"model": null}                                     | setting 'model' must be str, got None
{"augment": "x"}                                    | unknown augmentation 'x'
{"devices": 0}                                      | devices (settings file s.json) must be at least 1 or all, got 0
{"devices": "none"}                                 | setting 'devices' must be int, got 'none'
{"devices": null}                                   | setting 'devices' must be int, got None
{"evaluate_on": "tset"}                             | setting 'evaluate_on' must be 'test' or 'validation', got 'tset'
{"run_dir": ""}                                     | setting 'run_dir' is '': give a path, or leave it out
{"run_dir": "a\u0000b"}                             | setting 'run_dir' is 'a\x00b': no file can have this name
{"run_dir": "a\ud800"}                              | line 1, column 15: \ud800 is half of a surrogate pair
{"run_dir": 3}                                      | setting 'run_dir' must be Path, got 3
{"cache_dir": null}                                 | setting 'cache_dir' must be Path, got None
{"data": {"directory": 3}}                          | setting 'data.directory' must be Path, got 3
{"data": {"directory": ""}}                         | setting 'data.directory' is '': give a path
{"data": {"image_size": 0}}                         | data.image_size is 0: it must be at least 1
{"data": {"image_size": 8}}                         | data.image_size (settings file s.json) is '8': digits does not use it
{"stream": "nowhere.json"}                          | nowhere.json
{"sequence": "L1 U2"}                               | U2
{"parts": 0}                                        | parts must be at least 1, got 0
{"sequence": null}                                  | setting 'sequence' must be str, got None
{"coordinator": "host"}                             | coordinator (settings file s.json) must be HOST:PORT or auto, got 'host'
{"references": 3}                                   | setting 'references' must be dict, got 3
{"references": null}                                | setting 'references' must be dict, got None
{"references": {"saln": {}}}                        | references.saln: unknown method 'saln'; did you mean salun?
{"references": {"": {}}}                            | unknown method ''
{"references": {"ug_clu": {}}}                      | references.ug_clu: UG-CLU's settings are 'learn' and 'unlearn'; move them there
{"references": {"er+salun": {}}}                    | unknown method 'er+salun'
{"references": {"do_nothing": {"hyper": {}}}}       | references.do_nothing: do_nothing has no settings of its own; leave it out
{"references": {"salun": 3}}                        | references.salun must be an object of settings, got 3
{"references": {"salun": null}}                     | references.salun must be an object of settings, got None
{"references": {"salun": {"hyperr": {}}}}           | unknown setting 'references.salun.hyperr'; did you mean hyper?
{"references": {"salun": {"hyper": 3}}}             | references.salun.hyper must be an object of settings, got 3
{"references": {"salun": {"settings": null}}}       | references.salun.settings must be an object of settings, got None
{"references": {"salun": {"hyper": {"rate": 1.0}}}} | unknown setting 'references.salun.hyper.rate'
{"references": {"salun": {"hyper": {"learning_rate": -1}}}} | references.salun.hyper.learning_rate must be in [0, ∞), got -1
{"references": {"salun": {"hyper": {"learning_rate": null}}}} | setting 'references.salun.hyper.learning_rate' must be float
{"references": {"salun": {"hyper": {"keep_share": 1.5}}}} | references.salun.hyper.keep_share must be in [0, 1], got 1.5
{"references": {"salun": {"settings": {"steps": 3}}}} | references.salun.settings.steps must be left out: the budget
{"references": {"salun": {"settings": {"task_batch_size": 0}}}} | references.salun.settings.task_batch_size must be at least 1
{"references": {"salun": {"settings": {"scedule": "linear"}}}} | unknown setting 'references.salun.settings.scedule'; did you mean schedule?
{"references": {"er": {"hyper": {"momentum": 1}}}}  | references.er.hyper.momentum must be in [0, 1), got 1
{"references": {"ug_clu_target": {"hyper": {"slow_step_size": 2}}}} | references.ug_clu_target.hyper.slow_step_size must be in [0, 1]
{"references": {"ug_clu_target": {"settings": {"outer_steps": 3}}}} | references.ug_clu_target.settings.outer_steps must be left out
{"references": {"ug_clu_target": {"settings": {"mask": "x"}}}} | setting 'references.ug_clu_target.settings.mask' must be
{"references": {"ug_clu_plain": {"learn": {"hyper": {"clip_norm": 0}}}}} | references.ug_clu_plain.learn.hyper.clip_norm must be in (0, ∞]
{"references": {"ug_clu_plain": {"learn": {}, "hyper": {}}}} | references.ug_clu_plain.hyper must stand in references.ug_clu_plain.learn
{"references": {"ug_clu_plain": {"learn": []}}}     | references.ug_clu_plain.learn must be an object of settings, got []
{"references": {"salun": {"learn": {}}}}            | references.salun.learn: it has one kind of request, unlearn
{"experiments": {"class_wise": {"references": {"saln": {}}}}} | references.saln: unknown method 'saln'
{"experiments": {"class_wise": {"references": {"er": {"hyper": {"rate": 1}}}}}} | unknown setting 'experiments.class_wise.references.er.hyper.rate'
{"smoke": {"references": {"er": {"hyper": {"rate": 1}}}}} | unknown setting 'smoke.references.er.hyper.rate'
"""
    )
    + settings(
        """
{"sequence": "L1"}                                  | sequence is a setting of task_aware, not of class_wise
{"unlearn_classes": ["2", "2"]}                     | unlearn_classes must be different values
{"unlearn_classes": 2}                              | setting 'unlearn_classes' must be
{"unlearn_classes": [2]}                            | setting 'unlearn_classes' must be str, got 2
{"unlearn_classes": ["99"]}                         | 99
""",
        "class_wise",
    )
    + settings('{"scenario": "class_wise"}                          | unknown setting \'scenario\'', "compare")
    + [
        raw(b"", "settings file s.json is empty: it must hold JSON"),
        raw(b"\x00", "settings file s.json"),
        raw(b"{}\x00", "settings file s.json"),
        raw(b"\xff\xfe{", "settings file s.json"),
        raw('{"capacty": 1}'.encode("utf-16"), "unknown setting 'capacty'; did you mean capacity?"),
        raw('{"capacty": 1}'.encode("utf-16-le"), "unknown setting 'capacty'"),
        raw('{"capacty": 1}'.encode("utf-32"), "unknown setting 'capacty'"),
        raw('{"capacty": 1}'.encode("utf-8-sig"), "unknown setting 'capacty'"),
        raw('{"capacit\xe9": 1}'.encode("latin-1"), "settings file s.json, line 1, byte 9 of the file: not UTF-8"),
        raw('{"capacit\xe9": 1}'.encode(), "unknown setting 'capacité'; did you mean capacity?"),
        raw(b'{"capacity": ' + b"9" * 5000 + b"}", "a number of 5000 digits is larger than any that can be used"),
        raw(
            b'{"capacity": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "more than 100 brackets are open; nest less deeply"
        ),
        raw(b"[" * 100_000, "settings file s.json"),
        raw(b'{"a": ' * 10_000 + b"1" + b"}" * 10_000, "more than 100 brackets are open; nest less deeply"),
        raw(
            b'{"references": {"er": {"hyper": {"momentum": ' + b"[" * 90 + b"]" * 90 + b"}}}}",
            "references.er.hyper.momentum",
        ),
        raw(b'{"capacity": "' + b"x" * 10_000 + b'"}', "setting 'capacity' must be int, got 'xxxx"),
        raw(b'{"' + b"x" * 10_000 + b'": 1}', "unknown setting"),
        raw(b" " * (2**24 + 1), "settings file s.json is larger than 16 MiB"),
        raw(b'{"capacity": 5}', "settings file s.json has no part 'smoke'", "task_aware", "--smoke"),
        raw(b'{"capacity": 0}', "capacity must be at least 1, got 0", "task_aware", "--capacity", "5"),
        raw(b'{"capacity": 0}', "settings file s.json: capacity must be at least 1", "compare", "--methods", "nope"),
        Row(
            "search",
            ("--smoke", "--write", "w.json"),
            "settings file w.json, line 1, column 2: not JSON",
            {"w.json": b"{"},
        ),
        Row("search", ("--smoke", "--write", "w.json"), "the file must be a JSON object", {"w.json": b"[]"}),
    ]
)

STREAMS = streams(
    r"""
{                                                   | q.json: the request stream, line 1, column 2: not JSON
[                                                   | q.json: the request stream, line 1, column 2: not JSON
3                                                   | q.json: the request stream is 3
null                                                | q.json: the request stream is
"L1 L2"                                             | q.json: the request stream is
{}                                                  | q.json: the request stream is
[]                                                  | q.json: the request stream is []
{"learn": {"classes": [0]}}                         | q.json: the request stream is
[3]                                                 | q.json: request 1 is 3; it must be an object
[null]                                              | q.json: request 1 is None
[[]]                                                | q.json: request 1 is []
["learn"]                                           | q.json: request 1 is
[{}]                                                | q.json: request 1 has none of ['learn', 'unlearn']
[{"lern": {"classes": [0]}}]                        | q.json: request 1 has an unknown field 'lern'; did you mean 'learn'?
[{"learn": {"classes": [0]}, "unlearn": {"classes": [0]}}] | it must have exactly one: keep one
[{"learn": {"classes": [0]}, "learn": {"classes": [1]}}] | learn
[{"learn": 3}]                                      | request 1
[{"learn": null}]                                   | request 1
[{"learn": []}]                                     | request 1
[{"learn": {}}]                                     | it must have exactly one: keep one
[{"learn": {"clases": [0]}}]                        | has an unknown field 'clases'; did you mean 'classes'?
[{"learn": {"classes": [0], "ids": [1]}}]           | it must have exactly one: keep one
[{"learn": {"classes": []}}]                        | classes
[{"learn": {"classes": 3}}]                         | classes
[{"learn": {"classes": null}}]                      | classes
[{"learn": {"classes": [null]}}]                    | classes
[{"learn": {"classes": [1.5]}}]                     | 1.5
[{"learn": {"classes": [77]}}]                      | 77
[{"learn": {"classes": [-1]}}]                      | -1
[{"learn": {"classes": ["cat"]}}]                   | 'cat'
[{"learn": {"classes": [true]}}]                    | classes
[{"learn": {"ids": [999999]}}]                      | 999999
[{"learn": {"ids": [-1]}}]                          | -1
[{"learn": {"ids": [1, 1]}}]                        | 1
[{"learn": {"ids": ["cat/1.png"]}}]                 | cat/1.png
[{"learn": {"ids": []}}]                            | ids
[{"learn": {"ids": {}}}]                            | ids
[{"learn": {"ids": [1e30]}}]                        | ids
[{"learn": {"ids": [100000000000000000000]}}]       | 100000000000000000000
[{"learn": {"id_ranges": [[5, 1]]}}]                | id_ranges
[{"learn": {"id_ranges": [[0, 10000000000000]]}}]   | id_ranges
[{"learn": {"id_ranges": [[-3, 1]]}}]               | id_ranges
[{"learn": {"id_ranges": [3]}}]                     | id_ranges
[{"learn": {"ids_file": "nowhere.txt"}}]            | nowhere.txt
[{"learn": {"ids_file": ""}}]                       | ids_file
[{"learn": {"ids_file": 3}}]                        | ids_file
[{"learn": {"ids_file": "q.json"}}]                 | q.json
[{"learn": {"files": ["a.png"]}}]                   | a.png
[{"learn": {"where": "user == 17"}}]                | 'user == 17' asks for 'user', which is no column
[{"learn": {"where": 3}}]                           | where
[{"learn": {"fraction": 0.5, "seed": 0}}]           | has 'fraction', which only unlearn requests may
[{"learn": {"classes": [0]}}, {"unlearn": {"fraction": 0.5}}] | has only one of 'fraction' and 'seed'
[{"learn": {"classes": [0]}}, {"unlearn": {"fraction": 2, "seed": 0}}] | fraction
[{"learn": {"classes": [0]}}, {"unlearn": {"fraction": "x", "seed": 0}}] | fraction
[{"learn": {"classes": [0]}}, {"unlearn": {"fraction": 0.5, "seed": -1}}] | seed
[{"learn": {"classes": [0]}}, {"unlearn": {"fraction": 1e-9, "seed": 0}}] | 1e-09
[{"learn": {"classes": [0]}}, {"unlearn": {"classes": [1]}}] | request 2
[{"learn": {"classes": [0]}}, {"learn": {"classes": [0]}}] | request 2
[{"unlearn": {"classes": [0]}}]                     | request 1
[{"learn": {"classes": [0]}, "name": 3}]            | name
[{"learn": {"classes": [0]}, "name": ""}]           | name
[{"learn": {"classes": [0]}, "naem": "a"}]          | has an unknown field 'naem'; did you mean 'name'?
[{"learn": {"classes": [0]}, "held_out": [3]}]      | held_out
"""
) + [
    stream(b"", "q.json: the request stream is empty"),
    stream(b"\x00", "q.json"),
    stream(b"\xff\xfe\x00", "q.json"),
    stream('[{"learn": {"classes": ["\xe9"]}}]'.encode("latin-1"), "q.json"),
    stream(b"[" * 100_000, "more than 100 brackets are open; nest less deeply"),
    stream(b'[{"learn": {"classes": ["\\u001b[2J"]}}]', r"\x1b[2J"),
    stream(b'[{"\\u001b[2J": 1}]', r"\x1b[2J"),
    stream(b'[{"learn": {"ids_file": "\\u001b[2J"}}]', r"\x1b[2J"),
    stream(b'[{"learn": {"ids_file": "a\\u0000b"}}]', "ids_file"),
    stream(b'[{"learn": {"classes": [0]}, "name": "\\ud800"}]', r"\ud800 is half of a surrogate pair"),
    stream(
        b'[{"learn": {"classes": [0]}}]', "--sequence is not read beside --stream", "task_aware", "--sequence", "L1"
    ),
    stream(b'[{"learn": {"classes": [0]}}]', "--tasks is not read beside --stream", "class_wise", "--tasks", "2"),
    stream(
        b'[{"learn": {"classes": [0]}}]', "--regime is not read beside --stream", "random_sample", "--regime", "joint"
    ),
    stream(b'[{"learn": {"classes": [0]}}]', "a run has one of them", "class_wise", "--unlearn-classes", "2"),
    stream(b'[{"learn": {"classes": [0]}}]', "the stream unlearns nothing", "search", "--methods", "ug_clu"),
    Row("task_aware", ("--unlearn-ids", "ids.txt"), "ids.txt names no example", {"ids.txt": b""}),
    Row("task_aware", ("--unlearn-ids", "ids.txt"), "ids.txt is not UTF-8", {"ids.txt": b"\xff\xfe"}),
    Row("task_aware", ("--unlearn-ids", "ids.txt"), "no_such_key", {"ids.txt": b"no_such_key\n"}),
    Row("task_aware", ("--unlearn-ids", "ids.txt"), r"\x1b[2J", {"ids.txt": b"\x1b[2J\n"}),
]

PLACES = [
    Row("task_aware", ("--smoke", "--run-dir", "/dev/null/run"), "/dev/null/run cannot be written"),
    Row("task_aware", ("--smoke", "--run-dir", "/proc/run"), "folder /proc/run cannot be written"),
    Row(
        "task_aware",
        ("--smoke", "--run-dir", "x" * 300),
        ": File name too long",
    ),
    Row("task_aware", ("--smoke", "--run-dir", "file"), "file", {"file": b""}),
    Row("task_aware", ("--smoke", "--run-dir", "file/run"), "file/run cannot be written", {"file": b""}),
]

CONTROL = [
    Row("task_aware", ("--dataset", "\x1b[2Jx"), r"unknown dataset '\x1b[2Jx'"),
    Row("task_aware", ("--methods", "\x1b]0;title\x07"), r"unknown method '\x1b]0;title\x07'"),
    Row("task_aware", ("--model", "a\rb"), r"unknown model 'a\rb'"),
    Row("task_aware", ("\x1b[31m",), r"'\x1b[31m' belongs to no option"),
    Row("task_aware", ("--\x1b[31m",), r"Unrecognized options: --\x1b[31m"),
    Row("task_aware", ("--capacity", "\x9b31m"), r"--capacity is '\x9b31m'"),
    Row("task_aware", ("--sequence", "L1 \x1b[2J"), r"\x1b[2J"),
    Row("task_aware", ("--unlearn-classes", "\x1b[2J"), r"\x1b[2J"),
    Row("task_aware", ("--unlearn-where", "\x1b[2J == 1"), r"\x1b"),
    Row("task_aware", ("--settings", "no\x1b[2J.json"), r"no\x1b[2J.json cannot be read"),
    Row("task_aware", ("--settings", "two\nlines.json"), r"two"),
    Row("task_aware", ("--stream", "no\x1b[2J.json"), r"no\x1b[2J.json"),
    Row("task_aware", ("--dataset", "npz", "--data.directory", "no\x1b[2J.npz"), r"no\x1b[2J.npz"),
    Row("task_aware", ("--dataset", "fashion_mnist", "--data.directory", "no\x1b[2J"), r"no\x1b[2J"),
    Row("task_aware", ("--smoke", "--run-dir", "/dev/null/\x1b[2J"), r"/dev/null/\x1b[2J"),
    Row("task_aware", ("--coordinator", "\x1b[2J"), r"\x1b[2J"),
    Row("class_wise", ("--unlearn-classes", "\u202e2"), r"\u202e2"),
    Row("compare", ("--scenario", "\x1b[2J"), r"unknown scenario '\x1b[2J'"),
    Row("hypergradients", ("--names", "\x1b[2J"), r"unknown name '\x1b[2J'"),
    Row("search", ("--write", "\x1b[2J.json"), r"\x1b[2J.json"),
    Row("one_default", ("--method", "\x1b[2J", "--searches", "."), r"no trial of \x1b[2J", {"trials.jsonl": b""}),
    Row("one_default", ("--method", "er", "--searches", "\x1b[2J"), r"search \x1b[2J has no trials.jsonl"),
    Row("report", ("\x1b[2J",), r"\x1b[2J"),
    Row("privacy_audit", ("\x1b[2J",), r"\x1b[2J"),
    raw(b'{"\\u001b[2J": 1}', r"unknown setting '\x1b[2J'"),
    raw(b'{"model": "\\u001b[2J"}', r"unknown model '\x1b[2J'"),
    raw(b'{"references": {"\\u001b[2J": {}}}', r"\x1b[2J"),
    raw(b'{"experiments": {"\\u001b[2J": {}}}', r"unknown experiment '\x1b[2J'"),
    raw(b"{\x1b[2J}", "settings file s.json, line 1, column 2: not JSON"),
    Row("report", (".", "--markdown"), r"\x1b[2J", {"metrics.jsonl": b'"\x1b[2J"\n'}),
]


def grid(content: str, said: str, *more: str) -> Row:
    """A file of a grid."""
    return Row("grid", ("g.json", *more), said, {"g.json": content.encode()})


GRIDS = [
    Row("grid", (), "--grid is missing: give --grid PATH"),
    Row("grid", ("no.json",), "grid file no.json cannot be read (No such file or directory); give --grid a JSON file"),
    Row("grid", (".",), "grid file . cannot be read (Is a directory)"),
    Row("grid", ("g.json", "h.json"), "--grid takes one value, got 'g.json' and 'h.json'"),
    grid("", "grid file g.json is empty: it must hold JSON"),
    grid("[]", "grid file g.json: a grid must be a JSON object, got []"),
    grid("{", "grid file g.json, line 1, column 2: not JSON"),
    grid(
        '{"methods": ["er"],\n "methods": ["er"]}', "grid file g.json, line 2, column 2: the key 'methods' stands twice"
    ),
    grid("{}", "grid file g.json: scenarios is missing: give a list of one or more"),
    grid('{"scenarios": ["class_wise"]}', "methods is missing: give a list of one or more"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "sees": [0]}', "unknown key 'sees'; did you mean seeds?"),
    grid(
        '{"scenarios": ["classwise"], "methods": ["er"]}',
        "scenarios has an unknown scenario 'classwise'; did you mean class_wise?",
    ),
    grid('{"scenarios": "class_wise", "methods": ["er"]}', "scenarios must be a list, got 'class_wise'"),
    grid('{"scenarios": [], "methods": ["er"]}', "scenarios is empty: give one value or more"),
    grid('{"scenarios": [1], "methods": ["er"]}', "scenarios must be names, got 1"),
    grid('{"scenarios": ["class_wise"], "methods": ["err"]}', "class_wise: unknown method 'err'"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er", "er"]}',
        "methods has 'er' twice: a cell is run once; leave one out",
    ),
    grid('{"scenarios": ["class_wise"], "methods": ["salun", "ug_clu+salun"]}', "ug_clu+salun"),
    grid('{"scenarios": ["class_wise"], "methods": []}', "methods is empty: give one value or more"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "seeds": [0, 0]}', "seeds has 0 twice"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "seeds": ["0:3", 2]}', "seeds has 2 twice"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "seeds": ["3:0"]}',
        "seeds is '3:0': a range ends above where it starts",
    ),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "seeds": [-1]}', "seeds must be non-negative, got -1"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "seeds": [0.5]}', "seeds must be whole numbers, or ranges"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "seeds": [true]}', "seeds must be whole numbers, or ranges"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "seeds": 3}', "seeds must be a list, got 3"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "smoke": 1}', "smoke must be true or false, got 1"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "settings": 1}',
        "settings must be an object of settings, or the path of a settings file",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "settings": "no.json"}',
        "settings file no.json cannot be read",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "settings": {"seeds": [1]}}',
        "settings.seeds is no setting of a cell; give it as 'seeds' of the grid",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "settings": {"run_dir": "x"}}',
        "settings.run_dir is no setting of a cell; it is decided where the grid is run",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "settings": {"capacty": 1}}',
        "class_wise: unknown setting 'capacty'; did you mean capacity?",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": []}',
        "vary must be an object of settings and lists of their values, got []",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"capacity": []}}',
        "vary.capacity is empty: give one value or more, or leave it out",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"capacity": 5}}',
        "vary.capacity must be a list, got 5",
    ),
    grid('{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"capacity": [5, 5]}}', "vary.capacity has 5 twice"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"capacity": [0]}}',
        "class_wise: capacity must be at least 1, got 0",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"methods": ["er"]}}',
        "vary.methods is no setting of a cell; give it as 'methods' of the grid",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"learn.hyper.x": [1]}}',
        "unknown setting 'learn.hyper.x'",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"learn": [{}], "learn.hyper": [{}]}}',
        "vary has learn and learn.hyper, a part of it",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "vary": {"dataset": ["digit"]}}',
        "class_wise: unknown dataset 'digit': it must be one of digits",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"], "seeds": ["0:60000"], "vary": {"capacity": [1, 2]}}',
        "the grid has 120000 cells, more than 100000",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}',
        "only is 'x', which is no cell of the grid; --dry-run lists them",
        "--only",
        "x",
    ),
    grid('{"scenarios": ["class_wise"], "methods": ["er"]}', "holds no grid yet: run it first", "--status"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}',
        "--status and --collect are given; leave all but one out",
        "--status",
        "--collect",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}',
        "--executor is 'slrum': it must be one of local, slurm, print; did you mean slurm?",
        "--executor",
        "slrum",
    ),
    grid('{"scenarios": ["class_wise"], "methods": ["er"]}', "--jobs must be at least 1, got 0", "--jobs", "0"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"]}', "--lives must be at least 1, got 0", "--lives", "0"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}', "--memory-gb must be positive, got 0.0", "--memory-gb", "0"
    ),
    grid('{"scenarios": ["class_wise"], "methods": ["er"]}', "give less", "--memory-gb", "1e9"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"]}', "--hours is read by --executor slurm", "--hours", "3"),
    grid('{"scenarios": ["class_wise"], "methods": ["er"]}', "--image is read by --executor print", "--image", "a"),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}',
        "--hosts is read by --executor slurm or print",
        "--hosts",
        "2",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}',
        "--image is missing: --executor print needs a container",
        "--executor",
        "print",
    ),
    grid(
        '{"scenarios": ["class_wise"], "methods": ["er"]}',
        "slurm has 'gpu': give NAME=VALUE",
        "--executor",
        "slurm",
        "--slurm",
        "gpu",
    ),
    grid('{"scenarios": ["\\u001b[2J"], "methods": ["er"]}', r"unknown scenario '\x1b[2J'"),
    Row(
        "compare",
        ("--no-counterfactuals", "--counterfactuals-of-one-seed"),
        "--counterfactuals-of-one-seed needs counterfactuals: leave out --no-counterfactuals",
    ),
]


GROUPS: dict[str, list[Row]] = {
    "options": OPTIONS,
    "seeds": SEEDS,
    "methods": METHODS,
    "hyper": HYPER,
    "sizes": SIZES,
    "programs": PROGRAMS,
    "settings": SETTINGS,
    "streams": STREAMS,
    "places": PLACES,
    "control characters": CONTROL,
    "grids": GRIDS,
}

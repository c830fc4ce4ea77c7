"""Files for other machines, against the parts of their schemas that they use, written down from their documentation."""

import itertools
import os
import shlex
import subprocess

import pytest
import yaml
from jsonschema import Draft202012Validator

from ugclu_jax.harness.cells import Cell
from ugclu_jax.harness.grid_cells import GridCells
from ugclu_jax.harness.manifests import Place, print_all, resource_name


def an_object(required=(), **properties):
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def a_list(items, **more):
    return {"type": "array", "minItems": 1, "items": items, **more}


TEXT, POSITIVE, COUNT = {"type": "string"}, {"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}  # of RFC 1035
SKYPILOT = an_object(  # https://docs.skypilot.co/en/latest/reference/yaml-spec.html
    name=TEXT,
    num_nodes=POSITIVE,
    resources=an_object(
        accelerators={"type": "string", "pattern": "^[A-Za-z0-9-]+:[0-9]+$"},
        image_id={"type": "string", "pattern": "^docker:"},
        job_recovery=an_object(
            max_restarts_on_errors=COUNT,
            recover_on_exit_codes=a_list({"type": "integer", "minimum": 0, "maximum": 255}),
        ),
    ),
    envs=TEXTS,
    volumes={"type": "object", "propertyNames": {"pattern": "^/"}, "additionalProperties": TEXT},
    run=TEXT,
)
CONTAINER = an_object(  # https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
    ["name", "image"],
    name=NAME,
    image=TEXT,
    command=a_list(TEXT),
    env=a_list(an_object(["name"], name=TEXT, valueFrom=an_object(fieldRef=an_object(["fieldPath"], fieldPath=TEXT)))),
    volumeMounts=a_list(an_object(["name", "mountPath"], name=NAME, mountPath={"type": "string", "pattern": "^/"})),
    resources=an_object(limits={"type": "object", "additionalProperties": POSITIVE}),
)
POD = an_object(
    ["containers", "restartPolicy"],
    restartPolicy={"enum": ["Never"]},  # which a failure policy of pods demands
    terminationGracePeriodSeconds=COUNT,
    containers=a_list(CONTAINER),
    nodeSelector=TEXTS,
    volumes=a_list(an_object(["name"], name=NAME, persistentVolumeClaim=an_object(["claimName"], claimName=NAME))),
)
RULE = {
    **an_object(
        ["action"],
        action={"enum": ["Ignore", "FailIndex", "FailJob", "Count"]},
        onExitCodes=an_object(
            ["operator", "values"],
            containerName=NAME,
            operator={"enum": ["In", "NotIn"]},
            values=a_list(POSITIVE, maxItems=255, uniqueItems=True),
        ),
        onPodConditions=a_list(an_object(["type", "status"], type=TEXT, status={"enum": ["True", "False", "Unknown"]})),
    ),
    "oneOf": [{"required": ["onExitCodes"]}, {"required": ["onPodConditions"]}],
}
JOB = {  # https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/
    **an_object(
        ["template"],
        completions=POSITIVE,
        parallelism=COUNT,
        completionMode={"enum": ["Indexed", "NonIndexed"]},
        backoffLimit=COUNT,
        backoffLimitPerIndex=COUNT,
        podFailurePolicy=an_object(["rules"], rules=a_list(RULE, maxItems=20)),
        template=an_object(["spec"], spec=POD),
    ),
    "dependentSchemas": {"backoffLimitPerIndex": {"properties": {"completionMode": {"const": "Indexed"}}}},
}
JOBSET = an_object(  # https://github.com/kubernetes-sigs/jobset/blob/main/api/jobset/v1alpha2/jobset_types.go
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=an_object(["name"], name=NAME),
    spec=an_object(
        failurePolicy=an_object(
            maxRestarts=COUNT,
            rules=a_list(
                an_object(
                    ["name", "action"],
                    name={"type": "string", "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJob"]},
                    onJobFailureReasons=a_list(TEXT, uniqueItems=True),
                )
            ),
        ),
        replicatedJobs=a_list(
            an_object(
                ["name", "template"],
                name=NAME,
                replicas={"type": "integer", "minimum": 0, "maximum": 1024},
                template=an_object(["spec"], spec=JOB),
                dependsOn=a_list(
                    an_object(["name", "status"], name=NAME, status={"enum": ["Ready", "Complete"]}), maxItems=5
                ),
            )
        ),
    ),
)
CELLS = [Cell(name, "compare", {}) for name in ("a-oracles", "a-er-0", "a-er-1", "a salun-0")]
GRID = GridCells(tuple(CELLS), {cell.name: "a-oracles" for cell in CELLS[1:]}, {})
COMMAND = ["python", "-m", "experiments.grid", "--grid", "/home/me/my grid.json"]


@pytest.fixture(params=[1, 4], ids=["a host a cell", "four hosts a cell"])
def printed(request, tmp_path):
    study = tmp_path / "My_study"
    paths = print_all(study, GRID, COMMAND, Place("registry/ugclu:1", "claim", str(tmp_path), request.param))
    assert all(path.is_file() for path in paths)
    return request.param, study / "print"


@pytest.mark.parametrize(
    ("file", "schema"), [("skypilot.yaml", SKYPILOT), ("jobset-gpu.yaml", JOBSET), ("jobset-tpu.yaml", JOBSET)]
)
def test_files_are_of_their_schemas(printed, file, schema):
    Draft202012Validator.check_schema(schema)
    manifest = yaml.safe_load((printed[1] / file).read_text())
    assert list(Draft202012Validator(schema).iter_errors(manifest)) == []
    spoiled = {**manifest, "nonsense": 1}
    assert list(Draft202012Validator(schema).iter_errors(spoiled)), "the schema does refuse"


@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_each_pod_runs_the_cell_of_its_number(printed, kind, tmp_path):
    """The scripts are run, by a shell, with a stand-in for the program that prints its last word."""
    hosts, folder = printed
    manifest = yaml.safe_load((folder / f"jobset-{kind}.yaml").read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text('#!/bin/sh\nfor word; do :; done; echo "$word"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    ran = []
    for job in manifest["spec"]["replicatedJobs"]:
        spec = job["template"]["spec"]
        (container,) = spec["template"]["spec"]["containers"]
        number = spec["completions"] if hosts == 1 else job["replicas"]
        assert spec["parallelism"] == spec["completions"] == (number if hosts == 1 else hosts)
        variable = "JOB_COMPLETION_INDEX" if hosts == 1 else container["env"][0]["name"]
        for place in range(number):
            env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", variable: str(place)}
            done = subprocess.run(container["command"], env=env, capture_output=True, text=True, check=True)
            ran.append(done.stdout.rstrip("\n"))
        device = {"gpu": "nvidia.com/gpu", "tpu": "google.com/tpu"}[kind]
        assert container["resources"]["limits"] == {device: 1}
        assert ("nodeSelector" in spec["template"]["spec"]) == (kind == "tpu")
    assert ran == [cell.name for cell in CELLS]
    first, second = manifest["spec"]["replicatedJobs"]
    assert second["dependsOn"] == [{"name": first["name"], "status": "Complete"}] and "dependsOn" not in first


def test_a_stopped_cell_counts_as_no_failure(printed):
    hosts, folder = printed
    rules = [
        job["template"]["spec"]["podFailurePolicy"]["rules"]
        for job in yaml.safe_load((folder / "jobset-gpu.yaml").read_text())["spec"]["replicatedJobs"]
    ]
    for rule in itertools.chain.from_iterable(rules):
        codes = rule.get("onExitCodes", {}).get("values", [])
        assert (143 in codes) <= (rule["action"] == "Ignore") and (1 in codes) <= rule["action"].startswith("Fail")
    if hosts == 1:
        assert all(any(143 in rule.get("onExitCodes", {}).get("values", []) for rule in each) for each in rules)
    assert yaml.safe_load((folder / "skypilot.yaml").read_text())["resources"]["job_recovery"][
        "recover_on_exit_codes"
    ] == [143]


def test_the_script_starts_a_managed_job_a_cell(printed, tmp_path):
    _, folder = printed
    (tmp_path / "sky").write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{shlex.quote(str(tmp_path / "log"))}\n')
    (tmp_path / "sky").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", str(folder / "launch.sh")], env=env, check=True)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.partition("CELL=")[2].partition(" --detach")[0].removesuffix(" skypilot.yaml") for line in lines] == [
        cell.name for cell in CELLS
    ]
    assert ["--detach-run" in line for line in lines] == [False, True, True, True]


def test_names_of_resources():
    assert [resource_name(text) for text in ("Grid.A_1", "-x-", "9", "é" * 80, "a" * 80)] == [
        "grid-a-1", "x", "grid-9", "grid", "a" * 30
    ]  # fmt: skip

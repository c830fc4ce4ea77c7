"""The cells of a grid as files for whoever has other machines: SkyPilot tasks, and JobSets for pods with GPUs or TPUs.

    STUDY/print/oracles.txt, cells.txt     names of the cells of both stages, one a line
    STUDY/print/skypilot.yaml, launch.sh   a managed job, and the commands that start one a cell
    STUDY/print/jobset-gpu.yaml, jobset-tpu.yaml   both stages, the second of which waits for the first

Nothing is started. The study's folder must lie on a volume that all machines mount, at the path that it has here:
cells find their settings there, oracles what others trained, and `--status` and `--collect` what became of them.

Sources: SkyPilot YAML (https://docs.skypilot.co/en/latest/reference/yaml-spec.html); JobSet v1alpha2
(https://github.com/kubernetes-sigs/jobset/blob/main/api/jobset/v1alpha2/jobset_types.go); Job and its failure policy
(https://kubernetes.io/docs/concepts/workloads/controllers/job/).
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ugclu_jax.files import write
from ugclu_jax.harness.cells import STOPPED
from ugclu_jax.harness.grid_cells import GridCells

FOLDER = "print"
RETRIES = 6
"""Deaths of a cell after which it has failed; that it was stopped counts as none."""
FAILED = (1, 2)
"""Exit codes of a cell that would end the same way again."""
GPU: Mapping[str, Any] = {"resources": {"limits": {"nvidia.com/gpu": 1}}}
TPU: Mapping[str, Any] = {"resources": {"limits": {"google.com/tpu": 1}}}
TPU_NODES: Mapping[str, str] = {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
    "cloud.google.com/gke-tpu-topology": "1x1",
}
"""A slice of one chip; a cell that spans hosts asks for a larger topology."""


class Place(NamedTuple):
    """Where the cells run.

    Attributes:
        image: of the container that has the library.
        volume: the claim that all of them mount.
        mount: the folder that it is mounted at; the study and the cache lie in it.
        hosts: that share a cell.
    """

    image: str
    volume: str
    mount: str
    hosts: int = 1


def print_all(study: Path, cells: GridCells, command: Sequence[str], place: Place) -> list[Path]:
    """Write all files.

    Args:
        study: the folder, as the machines see it.
        cells: all of them, whether they have finished or not: one that has is over in a second.
        command: words that run the grid, to which `--only NAME` is added.
        place: where they run.

    Returns:
        The files.

    Raises:
        OSError: they cannot be written.
    """
    folder, name = study / FOLDER, resource_name(study.name)
    folder.mkdir(parents=True, exist_ok=True)
    lists = {"oracles": cells.first, "cells": cells.others}
    written = [folder / f"{stage}.txt" for stage in lists]
    for path, stage in zip(written, lists.values(), strict=True):
        write(path, "".join(f"{cell.name}\n" for cell in stage))
    manifests = {
        "skypilot.yaml": skypilot(name, command, place),
        "jobset-gpu.yaml": jobset(f"{name}-gpu", folder, lists, command, place, GPU, {}),
        "jobset-tpu.yaml": jobset(f"{name}-tpu", folder, lists, command, place, TPU, TPU_NODES),
    }
    for file, manifest in manifests.items():
        write(folder / file, yaml.safe_dump(dict(manifest), sort_keys=False, width=1000))
        written.append(folder / file)
    write(folder / "launch.sh", launches(name, folder))
    return [*written, folder / "launch.sh"]


def skypilot(name: str, command: Sequence[str], place: Place) -> dict[str, Any]:
    """A managed job that runs the cell of the variable CELL; stopped, it is recovered without being counted.

    >>> job = skypilot("grid", ["python", "-m", "experiments.grid"], Place("image", "claim", "/work"))
    >>> print(job["run"])
    python -m experiments.grid --only "$CELL"
    """
    return {
        "name": name,
        "num_nodes": place.hosts,
        "resources": {
            "accelerators": "H100:1",
            "image_id": f"docker:{place.image}",
            "job_recovery": {"max_restarts_on_errors": RETRIES, "recover_on_exit_codes": [STOPPED]},
        },
        "envs": {"CELL": ""},
        "volumes": {place.mount: place.volume},
        "run": f'{shlex.join(command)} --only "$CELL"',
    }


def launches(name: str, folder: Path) -> str:
    """A shell script: a managed job a cell, those that train oracles first, and waited for."""
    launch = f'sky jobs launch --yes --name "{name}-$cell" --env CELL="$cell"'
    return f"""#!/bin/sh
# Starts a managed job a cell. The first stage is waited for: the others find the oracles that it trains.
set -eu
cd {shlex.quote(str(folder))}
while read -r cell; do {launch} skypilot.yaml </dev/null; done <oracles.txt
while read -r cell; do {launch} --detach-run skypilot.yaml </dev/null; done <cells.txt
"""


def jobset(
    name: str,
    folder: Path,
    lists: Mapping[str, Sequence[Any]],
    command: Sequence[str],
    place: Place,
    device: Mapping[str, Any],
    nodes: Mapping[str, str],
) -> dict[str, Any]:
    """A JobSet of both stages.

    With one host a cell, a stage is one Indexed Job of a pod a cell: each is retried by itself, and one that was
    stopped (143) or moved by Kubernetes is started again without being counted. With more, a stage is a Job a cell of
    a pod a host, and a pod that dies ends them all, since the others would wait for it; the Job is then made again.

    Args:
        name: of the JobSet.
        folder: that has the lists of names.
        lists: cells of each stage, by the name of its list.
        command: that runs a cell.
        place: where.
        device: of the container: its resources.
        nodes: what a node must be labelled.
    """
    jobs: list[dict[str, Any]] = []
    for stage, cells in lists.items():
        if not cells:
            continue
        one_host = place.hosts == 1
        index = "JOB_COMPLETION_INDEX" if one_host else "CELL_INDEX"
        script = f"""exec {shlex.join(command)} --only "$(sed -n "$(({index} + 1))p" {folder / stage}.txt)\""""
        container = {
            "name": "cell",
            "image": place.image,
            "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "study", "mountPath": place.mount}],
            **device,
        }
        if not one_host:
            # Which of the stage's Jobs this is; the number of the host in it is found by `jax.distributed`.
            source = {"fieldRef": {"fieldPath": "metadata.annotations['jobset.sigs.k8s.io/job-index']"}}
            container["env"] = [{"name": index, "valueFrom": source}]
        pod: dict[str, Any] = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 120,
            "containers": [container],
            "volumes": [{"name": "study", "persistentVolumeClaim": {"claimName": place.volume}}],
        }
        if nodes:
            pod["nodeSelector"] = dict(nodes)
        pods = len(cells) if one_host else place.hosts
        ended = {"action": "FailIndex" if one_host else "FailJob", "onExitCodes": _codes(FAILED)}
        moved = [
            {"action": "Ignore", "onExitCodes": _codes((STOPPED,))},
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        ]
        spec: dict[str, Any] = {
            "completions": pods,
            "parallelism": pods,
            "completionMode": "Indexed",
            **({"backoffLimitPerIndex": RETRIES} if one_host else {"backoffLimit": 0}),
            "podFailurePolicy": {"rules": [ended, *moved] if one_host else [ended]},
            "template": {"spec": pod},
        }
        job: dict[str, Any] = {"name": stage, "replicas": 1 if one_host else len(cells), "template": {"spec": spec}}
        if jobs:
            job["dependsOn"] = [{"name": jobs[0]["name"], "status": "Complete"}]
        jobs.append(job)
    rule = {"name": "again", "action": "RestartJob", "onJobFailureReasons": ["BackoffLimitExceeded"]}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": {
            **({} if place.hosts == 1 else {"failurePolicy": {"maxRestarts": RETRIES, "rules": [rule]}}),
            "replicatedJobs": jobs,
        },
    }


def _codes(values: Sequence[int]) -> dict[str, Any]:
    return {"containerName": "cell", "operator": "In", "values": list(values)}


def resource_name(text: str) -> str:
    """A name that Kubernetes takes: small letters, digits and hyphens, so short that a Job's name can go on from it.

    >>> resource_name("My_grid.v2"), resource_name("2026")
    ('my-grid-v2', 'grid-2026')
    """
    name = re.sub("[^a-z0-9]+", "-", text.lower())[:30].strip("-")
    return name if name[:1].isalpha() else f"grid-{name}".strip("-")

"""Rendered objects against the schemas of Kubernetes and of the operators they name."""

import copy
import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from support.manifests import Document, named, of

OLDEST, NEWEST = "1.30", "1.37"
MODELS = Path(__file__).parent / "models"
MODELS_WITHIN_S = 60
# Their operators publish no models that a package would bring: looked at by people only.
WITHOUT_MODEL = ["Cluster", "RabbitmqCluster"]
CUSTOM = {
    "Cluster",
    "HTTPRoute",
    "PodMonitor",
    "PrometheusRule",
    "RabbitmqCluster",
    "ScaledObject",
    "ServiceMonitor",
    "TriggerAuthentication",
}


def complaints(document: Document, version: str) -> list[str]:
    """What a Kubernetes of some version would say; unknown keys are refused too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jsonschema's own deprecations
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            return [f"{document['kind']} is unknown"]
        except kubernetes_validate.ValidationError as error:
            path = ".".join(map(str, error.path))
            return [f"{document['metadata']['name']} {path}: {error.message}"]
    return []


def modelled(documents: list[Document]) -> dict[str, Any]:
    """What the models say. Skips where they could not be installed."""
    node = shutil.which("node")
    if node is None or not (MODELS / "node_modules" / ".installed-from").exists():
        pytest.skip("no models of Kubernetes objects: Node.js or npm is missing")
    done = subprocess.run(
        [node, str(MODELS / "check.mjs")],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=False,
        timeout=MODELS_WITHIN_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(documents: list[Document], version: str) -> None:
    """The oldest and the newest supported version know every field of every object."""
    own = [document for document in documents if document["kind"] not in CUSTOM]

    assert [line for each in own for line in complaints(each, version)] == []


def test_enums_quantities_and_custom_resources_are_right(
    documents: list[Document],
) -> None:
    """Words out of a closed list, quantities, and what operators read."""
    whole = copy.deepcopy(documents)
    for secret in of(whole, "Secret"):
        # kustomize wraps long values, which the API server takes and the model does not.
        secret["data"] = {k: v.replace("\n", "") for k, v in secret["data"].items()}

    said = modelled(whole)

    assert said["wrong"] == []
    assert set(said["unknown"]) <= set(WITHOUT_MODEL)


def test_what_is_wrong_is_found(rendered: dict[str, list[Document]]) -> None:
    """A misspelt field, a wrong type, a wrong word and a missing part are reported."""
    documents = copy.deepcopy(rendered["full"])
    deployment = named(documents, "Deployment", "-gateway")
    scaled = named(documents, "ScaledObject", "-gateway")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Maybe"
    del scaled["spec"]["triggers"]
    misspelt = copy.deepcopy(deployment)
    misspelt["spec"]["replica"] = 2
    worded = copy.deepcopy(deployment)
    worded["spec"]["minReadySeconds"] = "ten"

    said = modelled([deployment, scaled])

    assert [w.split()[0] for w in said["wrong"]] == ["Deployment", "ScaledObject"]
    assert complaints(misspelt, NEWEST)
    assert complaints(worded, OLDEST)

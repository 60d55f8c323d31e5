"""Every case of the chart, rendered once."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from support import podman
from support.manifests import CASE_NAMES, ROOT, Document, case, load
from support.podman import Engine, NoContainers

OVERLAYS = ("dev", "prod")
KUSTOMIZE_WITHIN_S = 60


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Document]]:
    """What the chart makes of each of its cases."""
    return {name: case(name) for name in CASE_NAMES}


@pytest.fixture(scope="session")
def kustomized() -> Callable[[str], list[Document]]:
    """What `kubectl apply -k` would send, by a folder below deploy/k8s.

    Skips where there is no kubectl that knows components.
    """
    kubectl = shutil.which("kubectl")

    def build(folder: str) -> list[Document]:
        if kubectl is None:
            pytest.skip("kubectl is not installed: kustomize overlays are not built")
        done = subprocess.run(
            [kubectl, "kustomize", str(ROOT / "deploy" / "k8s" / folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=KUSTOMIZE_WITHIN_S,
        )
        if "unknown field" in done.stderr and "components" in done.stderr:
            pytest.skip("this kubectl is too old for kustomize components")
        assert done.returncode == 0, done.stderr
        return load(done.stdout)

    return build


@pytest.fixture(
    scope="session", params=[*CASE_NAMES, *(f"overlays/{name}" for name in OVERLAYS)]
)
def documents(
    request: pytest.FixtureRequest,
    rendered: dict[str, list[Document]],
    kustomized: Callable[[str], list[Document]],
) -> list[Document]:
    """Each case of the chart and each overlay, one after the other."""
    name: str = request.param
    return rendered[name] if name in rendered else kustomized(name)


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """A podman with what our images start from.

    Without one `make test` skips, with the reason; who asked for containers is told.
    """
    leave = pytest.fail if podman.STAGE == "all" else pytest.skip
    if why := podman.reason_against():
        leave(why)
    made = Engine(ROOT / ".chatmesh" / "containers", ROOT)
    try:
        made.ensure_bases()
        made.try_out()
    except NoContainers as reason:
        with contextlib.suppress(NoContainers):  # The reason it did not begin counts.
            made.close()
        leave(str(reason))
    yield made
    made.close()

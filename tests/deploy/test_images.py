"""Dockerfiles: small, locked, non-root; and whole: what they copy is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.manifests import ROOT

DOCKERFILES = sorted(ROOT.glob("services/*/Dockerfile"))
HADOLINT = Path(sys.executable).parent / "hadolint"
NAMES = [path.parent.name for path in DOCKERFILES]


@pytest.fixture(params=DOCKERFILES, ids=NAMES)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return request.param


def stages(dockerfile: Path) -> list[list[str]]:
    """The instructions of each stage, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    found: list[list[str]] = []
    for line in filter(None, lines):
        if line.startswith("FROM "):
            found.append([])
        found[-1].append(line)
    return found


def test_every_image_of_the_chart_has_a_dockerfile() -> None:
    """Gateway, history, presence and agent are built here."""
    assert {"gateway", "history", "presence"} <= set(NAMES)


def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    """The linter of Dockerfiles, and of the shell inside them, is content."""
    done = subprocess.run(
        [str(HADOLINT), str(dockerfile)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_every_program_of_the_agents_image_has_its_packages() -> None:
    """The extras of a service are in the lock of its image: it runs all its processes."""
    for dockerfile in DOCKERFILES:
        about = tomllib.loads((dockerfile.parent / "pyproject.toml").read_text())
        extras = about["project"].get("optional-dependencies", {})
        wanted = {re.split(r"[^\w.-]", name)[0] for e in extras.values() for name in e}
        locked = (dockerfile.parent / "requirements.lock").read_text()

        assert wanted <= set(re.findall(r"^([\w.-]+)==", locked, re.MULTILINE))


def test_the_command_line_is_in_historys_image() -> None:
    """`chatmesh doctor` and `chatmesh dead` run where broker and database are reached."""
    history = ROOT / "services" / "history"
    locked = (history / "requirements.lock").read_text()
    names = set(re.findall(r"^([\w.-]+)==", locked, re.MULTILINE))
    copied = {
        source
        for line in stages(history / "Dockerfile")[0]
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    }
    for member in ("clients/terminal", "libs/tools"):
        about = tomllib.loads((ROOT / member / "pyproject.toml").read_text())
        wanted = {
            re.split(r"[^\w.-]", one)[0] for one in about["project"]["dependencies"]
        }

        assert member in copied
        assert {n for n in wanted if not n.startswith("chatmesh-")} <= names


def test_the_last_stage_holds_no_tools(dockerfile: Path) -> None:
    """What builds stays behind; the image runs nothing while it is made."""
    *building, last = stages(dockerfile)

    assert building
    assert not [line for line in last if line.startswith(("RUN ", "ADD "))]
    assert all("--from=" in line for line in last if line.startswith("COPY "))


def test_it_runs_as_nobody_and_without_a_shell(dockerfile: Path) -> None:
    """A numeric user, as runAsNonRoot wants it, and signals reach the process itself."""
    last = stages(dockerfile)[-1]
    name = dockerfile.parent.name

    assert "USER 10001:10001" in last
    assert last[-1] == f'ENTRYPOINT ["python", "-m", "chatmesh.{name}"]'


def test_packages_are_locked(dockerfile: Path) -> None:
    """Every package comes with a hash, or from this checkout."""
    installs = [
        command
        for stage in stages(dockerfile)
        for line in stage
        if line.startswith("RUN ")
        for command in line.removeprefix("RUN ").split("&&")
        if "pip install" in command or "npm" in command
    ]

    assert installs
    for command in installs:
        assert re.search(r"--require-hashes|--no-index|npm ci|npm run", command), (
            command
        )


def test_what_is_copied_is_in_the_context(dockerfile: Path) -> None:
    """Paths exist, and .dockerignore does not hold them back."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    for stage in stages(dockerfile):
        for line in stage:
            if line.startswith("COPY ") and "--from=" not in line:
                for source in line.split()[1:-1]:
                    assert (ROOT / source).exists(), line
                    assert any(source.startswith(start) for start in let_in), line


def test_it_says_which_ports_it_has(dockerfile: Path) -> None:
    """The ports of the chart are the ports of the image."""
    (exposed,) = [line for line in stages(dockerfile)[-1] if line.startswith("EXPOSE")]
    chart = (ROOT / "deploy/k8s/chart/templates/_names.tpl").read_text()
    part = chart.split(f"\n{dockerfile.parent.name}:\n")[1].split("\n  secrets")[0]
    ports = set(re.findall(r"(?:http|traffic): (\d+)", part))

    assert ports == set(exposed.split()[1:])

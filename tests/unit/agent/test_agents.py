"""The agents file, and what is said of its mistakes."""

import pytest

from chatmesh.agent.agents import (
    Agent,
    AgentsFileError,
    WhenBusy,
    parse,
    shipped,
    when_busy,
)

GOOD = """
agents:
  owl:
    picture: "O"
    model: local
    tools: ["calc*"]
    when_busy: queue
    when_busy_in: {"room:x*": interrupt}
    limits:
      steps: 3
models:
  local:
    kind: openai
    name: small
    base_url: http://127.0.0.1:1/v1
"""


def test_a_file_is_read() -> None:
    """The key is the name, and the title unless another one is given."""
    owl = parse(GOOD, name="a.yaml").agents["owl"]
    assert (owl.name, owl.title, owl.limits.steps) == ("owl", "owl", 3)


def test_the_shipped_file_needs_nothing() -> None:
    """Without a file there is one agent, and it is scripted."""
    found = shipped()
    assert [found.model_of(agent).kind for agent in found.agents.values()] == [
        "scripted"
    ]


def test_a_room_may_have_a_policy_of_its_own() -> None:
    """The first pattern that fits goes before the agent's own."""
    owl = parse(GOOD, name="a.yaml").agents["owl"]
    assert when_busy(owl, "room:x1") is WhenBusy.INTERRUPT
    assert when_busy(owl, "room:y") is WhenBusy.QUEUE
    assert when_busy(Agent(name="o"), "room:y") is WhenBusy.STEER


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "agents:\n  owl:\n    modle: x\n",
            "a.yaml, line 3: agents.owl.modle: unknown",
        ),
        ("agents:\n  owl:\n    modle: x\n", "did you mean model?"),
        (
            "agents:\n  owl:\n    model: nobody\n",
            "a.yaml, line 3: agents.owl.model: no",
        ),
        ("agents:\n  Owl: {}\n", "a.yaml, line 2: agents.Owl: a name has lower-case"),
        (
            "agents:\n  owl:\n    limits:\n      steps: 0\n",
            "a.yaml, line 4: agents.owl.limits.steps: ",
        ),
        (
            "agents: {}\nmodels:\n  m:\n    kind: openai\n    nme: x\n",
            "a.yaml, line 5: models.m.nme: unknown key; did you mean name?",
        ),
        *(
            (
                "agents: {}\nmodels:\n  m:\n    kind: openai\n    name: x\n"
                f"    base_url: {url}\n",
                "a.yaml, line 6: models.m.base_url: no address of an endpoint",
            )
            for url in (
                "http://localhost:abc/v1",
                "http://localhost:99999/v1",
                "http://[::1/v1",
                "localhost:8080/v1",
                "http:///v1",
            )
        ),
        ("agents: {}\nmodels:\n  m: {kind: none}\n", "a.yaml, line 3: models.m: "),
        ("agents:\n  owl: {}\n  owl: {}\n", "a.yaml, line 3: owl stands here"),
        ("agents: [\n", "a.yaml, line 2: "),
        ("", "a.yaml: agents: field required"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, told: str) -> None:
    """Every mistake names its place and, where it can, what was meant."""
    with pytest.raises(AgentsFileError) as caught:
        parse(text, name="a.yaml")
    assert told in str(caught.value)


@pytest.mark.parametrize("approval_s", [60, 90])
def test_people_have_no_longer_than_the_run(approval_s: int) -> None:
    """A question that outlives the run that asks it is told as a mistake, with its line."""
    text = (
        "agents:\n  owl:\n    limits:\n      duration_s: 60\n"
        f"      approval_s: {approval_s}\n"
    )
    with pytest.raises(
        AgentsFileError, match=r"line 5: agents\.owl\.limits\.approval_s"
    ):
        parse(text, name="a.yaml")
